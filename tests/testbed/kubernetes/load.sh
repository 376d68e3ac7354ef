#!/bin/bash
# load.sh IMAGE…: copies images from the Docker engine into every running node, as a registry would give them.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
only_root "$@"
archive=$(mktemp)
trap 'rm -f "$archive"' EXIT
docker save --output "$archive" "$@"
loading=()
for number in $(seq "$(cat "$run/nodes")"); do
  pid=$(first_process "node$number") || continue # its power is cut
  nsenter --target "$pid" --mount ctr --namespace k8s.io images import "$archive" > /dev/null &
  loading+=($!)
done
for pid in "${loading[@]}"; do wait "$pid"; done
