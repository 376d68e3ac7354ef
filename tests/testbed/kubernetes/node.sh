#!/bin/bash
# node.sh ACTION NODE: what may happen to a member of the cluster (node1, node2, …; cp is the control plane).
#   start    its power is switched on (again: what was on its disk is still there)
#   kill     its power is cut
#   cut      its network cable is pulled; pods on the node still reach each other
#   mend     the cable is plugged in again
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
only_root "$@"
[ $# = 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
name=$2
case $1 in
  start)
    ! first_process "$name" > /dev/null || { echo "$name runs" >&2; exit 1; }
    # Not a child of this shell that anybody waits for: it ends with its first process.
    bin=$bin run=$run nodes=$(cat "$run/nodes") setsid unshare --mount --net --pid --uts --ipc --fork --kill-child=KILL \
      --mount-proc --propagation private "$here/member.sh" "$name" >> "$run/log/$name.log" 2>&1 < /dev/null &
    outer=$!
    for _ in $(seq 250); do
      pid=$(cat "/proc/$outer/task/$outer/children" 2> /dev/null || true)
      pid=${pid%% *}
      [ -z "$pid" ] || ! tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline" | grep -qF "member.sh $name " || break
      sleep 0.02
    done
    echo "$pid" > "$run/$name.pid"
    ip link add eth0 netns "$pid" type veth peer name "$name" netns $fabric
    ip netns exec $fabric ip link set "$name" master br0 up ;;
  kill)
    pid=$(first_process "$name") || exit 0
    kill -KILL "$pid"
    for _ in $(seq 200); do kill -0 "$pid" 2> /dev/null || break; sleep 0.05; done
    rm -f "$run/$name.pid" ;;
  cut) ip netns exec $fabric ip link set "$name" down ;;
  mend) ip netns exec $fabric ip link set "$name" up ;;
  *) echo "node.sh: start, kill, cut or mend" >&2; exit 2 ;;
esac
