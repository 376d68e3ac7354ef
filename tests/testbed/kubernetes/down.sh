#!/bin/bash
# down.sh: ends the cluster that up.sh started, within a second or two; nothing of it is left but what prepare.sh built.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
only_root "$@"
for pid in "$run"/*.pid; do
  [ ! -e "$pid" ] || "$here/node.sh" kill "$(basename "$pid" .pid)" &
done
wait
ip netns del $fabric 2> /dev/null || true
ip link del $fabric 2> /dev/null || true
for _ in $(seq 50); do # a control group can be removed when the last process in it is gone
  left=
  for group in /sys/fs/cgroup/*$groups; do
    [ -d "$group" ] || continue
    find "$group" -depth -type d -exec rmdir {} + 2> /dev/null || left=$group
  done
  [ -n "$left" ] || break
  sleep 0.1
done
rm -rf --one-file-system "$run" "$home/admin.kubeconfig"
