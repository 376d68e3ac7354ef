#!/bin/bash
# member.sh NAME: the first process of the control plane (cp) or of a node, in namespaces of its own (node.sh start).
# Starts what such a machine runs, and stays. In the environment: bin, run, nodes.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
name=$1 ip=$(address "$1") disk=$run/$1
mkdir -p "$disk"

# --- the machine: control groups, mounts, network ---
# The same path in all controllers, or the kubelet says "cpu and memory cgroup hierarchy not unified".
for controller in /sys/fs/cgroup/*/; do
  controller=${controller%/}
  [ "$(basename "$controller")" != unified ] && [ -f "$controller/cgroup.procs" ] || continue
  for group in $groups "$groups/system-$name" "$groups/$name"; do
    mkdir -p "$controller$group"
    [ ! -f "$controller/cpuset.cpus" ] || for file in cpuset.cpus cpuset.mems; do cat "$controller/$file" > "$controller$group/$file"; done
  done
  echo $$ > "$controller$groups/system-$name/cgroup.procs"
done
mkdir -p "$disk/groups"
mount --move /sys/fs/cgroup "$disk/groups" # the new /sys is the one of this network namespace
mount -t sysfs sysfs /sys
mount --move "$disk/groups" /sys/fs/cgroup
mount --make-rshared /                  # volumes propagate to containers; the machine sees nothing of it
mount -t tmpfs -o mode=755 tmpfs /run   # locks of iptables, network namespaces, sockets
hostname "$name"
ip link set lo up
for _ in $(seq 400); do ip link show eth0 > /dev/null 2>&1 && break; sleep 0.02; done
ip addr add "$ip/24" dev eth0
ip link set eth0 up
ip route add default via $host_ip
ip route add unreachable 169.254.0.0/16 # or the kubelet waits 10 s for the metadata of a cloud
for number in $(seq "$nodes"); do
  [ "node$number" = "$name" ] || ip route add "10.244.$number.0/24" via "$(address "node$number")"
done
echo 1 > /proc/sys/net/ipv4/ip_forward
# Pods of one node talk over its bridge, where the packet filter looks only when it is told to.
[ ! -e /proc/sys/net/bridge ] || echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables

declare -A programs
start() { # NAME COMMAND…
  local program=$1; shift
  "$@" >> "$run/log/$name-$program.log" 2>&1 &
  programs[$!]=$program
}
api_ready() { for _ in $(seq 600); do curl -sf --cacert "$run/keys/ca.crt" "https://$api_ip:6443/readyz" > /dev/null && return; sleep 0.1; done; }
proxy() {
  cat > "$disk/proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $run/conf/kube-proxy.kubeconfig}
mode: iptables
bindAddress: $ip
clusterCIDR: $pods
hostnameOverride: $name
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 0s, syncPeriod: 30s}
END
  start kube-proxy "$bin/kube-proxy" --config="$disk/proxy.yaml" --v=1
}

control_plane() {
  local keys=$run/keys conf=$run/conf data
  data=$disk/etcd
  mkdir -p "$data"
  mount -t tmpfs -o mode=700 tmpfs "$data" # nothing waits for the disk; a power cut of the control plane is no test of ours
  start etcd etcd --name etcd --data-dir "$data/data" \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 \
    --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster etcd=http://127.0.0.1:2380
  start kube-apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --secure-port=6443 \
    --advertise-address=$api_ip --service-cluster-ip-range=$services --service-node-port-range=30000-30199 \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true --client-ca-file="$keys/ca.crt" \
    --tls-cert-file="$keys/apiserver.crt" --tls-private-key-file="$keys/apiserver.key" \
    --kubelet-client-certificate="$keys/apiserver-kubelet.crt" --kubelet-client-key="$keys/apiserver-kubelet.key" \
    --kubelet-certificate-authority="$keys/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-key-file="$keys/accounts.pub" --service-account-signing-key-file="$keys/accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --requestheader-client-ca-file="$keys/front-ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$keys/front-proxy.crt" --proxy-client-key-file="$keys/front-proxy.key"
  api_ready
  touch "$run/api.ready"
  local user=$conf/kube-controller-manager.kubeconfig
  start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig="$user" --authentication-kubeconfig="$user" \
    --authorization-kubeconfig="$user" --bind-address=127.0.0.1 --port=0 --leader-elect=false --use-service-account-credentials=true \
    --service-account-private-key-file="$keys/accounts.key" --root-ca-file="$keys/ca.crt" \
    --cluster-signing-cert-file="$keys/ca.crt" --cluster-signing-key-file="$keys/ca.key" \
    --kube-api-qps=500 --kube-api-burst=1000 --cluster-cidr=$pods --service-cluster-ip-range=$services
  user=$conf/kube-scheduler.kubeconfig
  start kube-scheduler "$bin/kube-scheduler" --kubeconfig="$user" --authentication-kubeconfig="$user" \
    --authorization-kubeconfig="$user" --bind-address=127.0.0.1 --port=0 --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000
  proxy
  start dns /usr/bin/python3 "$here/dns.py" "$home/admin.kubeconfig" $api_ip $dns_service
  start metrics /usr/bin/python3 "$here/metrics.py" "$home/admin.kubeconfig" $api_ip "$keys"
  start cloud /usr/bin/python3 "$here/cloud.py" "$home/admin.kubeconfig" "$run/volumes" $balancers
}

node() {
  local folder
  for folder in /var/log/pods /var/log/containers /var/lib/kubelet /var/lib/cni; do
    mkdir -p "$folder" "$disk$folder"
    mount --bind "$disk$folder" "$folder"
  done
  # What the kubelet wants of the kernel, for its eyes alone.
  mkdir -p "$disk/kernel"
  while read -r file value; do
    echo "$value" > "$disk/kernel/$(basename "$file")"
    mount --bind "$disk/kernel/$(basename "$file")" "/proc/sys/$file"
  done <<END
vm/overcommit_memory 1
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END
  mkdir -p "$disk"/{network,plugins}
  cat > "$disk/containerd.toml" <<END
version = 2
root = "$disk/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs"]
[plugins."io.containerd.internal.v1.opt"]
  path = "$disk/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "$pause"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$disk/network"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
END
  cat > "$disk/network/10-bridge.conflist" <<END
{"cniVersion": "0.4.0", "name": "lampstand-test", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/network", "ranges": [[{"subnet": "10.244.${name#node}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
  echo "nameserver $api_ip" > "$disk/resolv.conf"
  cat > "$disk/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $run/keys/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $run/keys/kubelet-server-$name.crt
tlsPrivateKeyFile: $run/keys/kubelet-server-$name.key
cgroupDriver: cgroupfs
cgroupRoot: $groups/$name
clusterDomain: cluster.local
clusterDNS: [$dns_service]
resolvConf: $disk/resolv.conf
failSwapOn: false
protectKernelDefaults: true
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "200Mi", nodefs.available: "1%", imagefs.available: "1%"}
volumePluginDir: $disk/plugins
nodeStatusUpdateFrequency: 1s
kubeAPIQPS: 100
kubeAPIBurst: 200
END
  start containerd containerd --config "$disk/containerd.toml"
  for _ in $(seq 200); do ctr version > /dev/null 2>&1 && break; sleep 0.05; done
  ctr --namespace k8s.io images import "$bin/pause.tar" > /dev/null
  api_ready
  start kubelet "$bin/kubelet" --config="$disk/kubelet.yaml" --kubeconfig="$run/conf/kubelet-$name.kubeconfig" \
    --hostname-override="$name" --node-ip="$ip" --node-labels="topology.kubernetes.io/zone=zone${name#node}" \
    --container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock \
    --pod-infra-container-image=$pause --v=1
  proxy
  start policies /usr/bin/python3 "$here/policies.py" "$home/admin.kubeconfig" "$name"
}

if [ "$name" = cp ]; then control_plane; else node; fi
trap 'exit 0' TERM INT
set +e
while :; do # the first process of a namespace reaps what nobody else waits for
  wait -n -p ended
  code=$?
  if [ -z "${ended:-}" ]; then sleep 1; else [ -z "${programs[$ended]:-}" ] || echo "$(date +%T) ${programs[$ended]} ended with $code"; fi
done
