#!/bin/bash
# Sees to it that there is a Docker Engine with Compose and a base image: for the tests of the Docker target.
# usage: engine.sh [BASE_IMAGE]
#
# Does nothing that is done already. Needs root on Debian for what is missing: installs docker.io, takes Compose and buildx
# from the next release's packages (Debian 12 has no Compose v2; both are static enough to be unpacked only), starts
# dockerd where no init system does, and makes the base image from Debian's packages where no registry answers.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
base=${1:-debian:bookworm-slim}
plugins=/usr/local/lib/docker/cli-plugins

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

exec 9> "${TMPDIR:-/tmp}/lampstand-test-engine.lock"
flock 9 # two test runs begin at once

if ! command -v dockerd > /dev/null && ! docker info > /dev/null 2>&1; then
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables > /dev/null
fi

if ! docker compose version > /dev/null 2>&1; then
  work=$(mktemp -d)
  trap 'rm -rf -- "$work"' EXIT
  chmod 755 "$work"
  mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/unpacked"
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] $mirror trixie main" > "$work/sources.list"
  options=(-o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work" -o "Dir::Cache::Archives=$work/archives"
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o APT::Sandbox::User=root -o Acquire::Languages=none)
  as_root apt-get "${options[@]}" update -qq
  (cd "$work" && apt-get "${options[@]}" download -qq docker-compose docker-buildx)
  for package in "$work"/*.deb; do dpkg -x "$package" "$work/unpacked"; done
  as_root install -d "$plugins"
  as_root install -m 755 "$work"/unpacked/usr/libexec/docker/cli-plugins/docker-{compose,buildx} "$plugins/"
fi

if ! docker info > /dev/null 2>&1; then
  log=/var/log/dockerd-lampstand-tests.log
  as_root sh -c "setsid nohup dockerd > $log 2>&1 < /dev/null 9>&- &"
  for _ in $(seq 300); do
    docker info > /dev/null 2>&1 && break
    sleep 0.1
  done
  docker info > /dev/null || { tail -n 20 "$log" >&2; exit 1; }
fi

docker image inspect "$base" > /dev/null 2>&1 || docker pull --quiet "$base" > /dev/null 2>&1 || "$here/base-image.sh" "$base"
docker version --format '{{.Server.Version}}'
