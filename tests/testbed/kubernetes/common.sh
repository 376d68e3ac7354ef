# Read by the scripts beside it: where things are, and what every one of them needs.
# shellcheck shell=bash disable=SC2034
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
# Outside the clone, so that every clone and every later run of one account finds what was built once.
home=${LAMPSTAND_TEST_KUBERNETES:-${XDG_CACHE_HOME:-$HOME/.cache}/lampstand-tests/kubernetes}
bin=$home/bin run=$home/run

# The cluster's addresses. They are fixed, so there is one cluster at a time.
host_ip=10.123.0.1 api_ip=10.123.0.2                              # nodes: 10.123.0.11, .12, …
pods=10.244.0.0/16 services=10.96.0.0/16 balancers=10.97.0.0/24 # pods of node N: 10.244.N.0/24
api_service=10.96.0.1 dns_service=10.96.0.10
fabric=lampstand-k8s groups=/lampstand-k8s pause=lampstand-test/pause:1

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
say() { printf '[%3d s] %s\n' "$SECONDS" "$*" >&2; }
# Exit code 3: this machine cannot have a cluster, and standard output says why.
cannot() { printf '%s\n' "$*"; exit 3; }
# Namespaces, mounts and bridges are root's: an ordinary account runs the same script through sudo.
only_root() { [ "$(id -u)" = 0 ] || exec sudo -n env LAMPSTAND_TEST_KUBERNETES="$home" "$0" "$@"; }
address() { [ "$1" = cp ] && echo "$api_ip" || echo "10.123.0.$((10 + ${1#node}))"; }
# The first process of a member, or nothing when it does not run (its number may be somebody else's by now).
first_process() {
  local pid
  pid=$(cat "$run/$1.pid" 2> /dev/null) || return 1
  tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null | grep -qF "testbed/kubernetes/member.sh $1 " && echo "$pid"
}
