#!/bin/bash
# up.sh [NODES]: a Kubernetes cluster of that many nodes (1) on this machine, in about 8 s; 0 is the API server alone.
# Prints the path of the kubeconfig. prepare.sh made what this starts; down.sh ends it.
#
# The control plane and every node live in mount, net, pid, uts and ipc namespaces of their own, all of each one the
# children of one first process: SIGKILL of that process is a power cut. A bridge in a net namespace of its own connects
# them, so the machine's packet filter is never touched. The machine reaches pods, services and load balancers by route.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
only_root "$@"
nodes=${1:-1}
umask 022

for pid in "$run"/*.pid; do
  [ ! -e "$pid" ] || ! first_process "$(basename "$pid" .pid)" > /dev/null || { echo "a cluster runs already; down.sh ends it" >&2; exit 1; }
done
"$here/down.sh" # what a cluster left that was killed
mkdir -p "$run"/{keys,log,conf,volumes}
echo "$nodes" > "$run/nodes"

# --- certificates and kubeconfigs ---
cd "$run/keys"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
authority() {
  key "$1"
  openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 3650 -out "$1.crt" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}
certificate() { # NAME SUBJECT USAGE [ALTERNATIVE_NAMES] [AUTHORITY]
  key "$1"
  { printf 'basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n' "$3"
    [ -z "${4:-}" ] || echo "subjectAltName=$4"; } > "$1.ext"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA "${5:-ca}.crt" -CAkey "${5:-ca}.key" -CAcreateserial -days 3650 -extfile "$1.ext" -out "$1.crt" 2> /dev/null
}
kubeconfig() { # NAME FILE
  (umask 077 && cat > "$2") <<END
apiVersion: v1
kind: Config
clusters: [{name: lampstand-test, cluster: {server: "https://$api_ip:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: lampstand-test, context: {cluster: lampstand-test, user: $1}}]
current-context: lampstand-test
END
}
authority ca
authority front-ca
openssl genrsa -out accounts.key 2048 2> /dev/null
openssl rsa -in accounts.key -pubout -out accounts.pub 2> /dev/null
names=DNS:localhost
for suffix in "" .default .default.svc .default.svc.cluster.local; do names=$names,DNS:kubernetes$suffix; done
certificate apiserver /CN=kube-apiserver serverAuth "$names,IP:127.0.0.1,IP:$api_ip,IP:$api_service"
certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
certificate front-proxy /CN=front-proxy-client clientAuth "" front-ca
certificate metrics /CN=metrics serverAuth DNS:metrics-server.kube-system.svc
for user in kube-controller-manager kube-scheduler kube-proxy; do
  certificate $user /CN=system:$user clientAuth
  kubeconfig $user "$run/conf/$user.kubeconfig"
done
certificate admin /O=system:masters/CN=kubernetes-admin clientAuth
kubeconfig admin "$home/admin.kubeconfig"
[ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID:$SUDO_GID" "$home/admin.kubeconfig"
for number in $(seq "$nodes"); do
  node=node$number
  certificate "kubelet-server-$node" "/O=system:nodes/CN=system:node:$node" serverAuth "DNS:$node,IP:$(address "$node")"
  certificate "kubelet-$node" "/O=system:nodes/CN=system:node:$node" clientAuth
  kubeconfig "kubelet-$node" "$run/conf/kubelet-$node.kubeconfig"
done

# --- the network, then its members ---
cd "$home"
ip netns add $fabric
ip netns exec $fabric sh -c 'for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 > $f; done
  ip link set lo up; ip link add br0 type bridge; ip link set br0 up'
ip link add $fabric type veth peer name host netns $fabric
ip netns exec $fabric ip link set host master br0 up
ip addr add $host_ip/24 dev $fabric
ip link set $fabric up
ip route add $services via $api_ip dev $fabric
ip route add $balancers via $api_ip dev $fabric
for number in $(seq "$nodes"); do ip route add "10.244.$number.0/24" via "$(address "node$number")" dev $fabric; done
"$here/node.sh" start cp
for number in $(seq "$nodes"); do "$here/node.sh" start "node$number"; done

kubectl() { "$bin/kubectl" --kubeconfig "$home/admin.kubeconfig" "$@"; }
wait_for() { # WHAT SECONDS COMMAND…
  local what=$1 tries=$(($2 * 10)); shift 2
  for _ in $(seq $tries); do if "$@" > /dev/null 2>&1; then say "$what"; return; fi; sleep 0.1; done
  echo "not in time: $what; the logs are in $run/log" >&2
  exit 1
}
all_ready() { [ "$(kubectl get nodes -o 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}' | grep -ow True | wc -l)" = "$nodes" ]; }
wait_for "API server answers" 60 test -e "$run/api.ready"
wait_for "$nodes node(s) ready" 90 all_ready
wait_for "accounts" 20 kubectl -n default get serviceaccount default
echo "$home/admin.kubeconfig"
