#!/bin/bash
# tests/fresh/run.sh COMMAND…: runs a command in a copy of this clone (what is committed) on a bare Debian machine: a
# minimal root file system in mount, pid, ipc and uts namespaces of its own. The network is this machine's. Everything
# that the command starts ends with it. Needs root and mmdebstrap; the first call for a release makes its base (20 s).
#
#   SUITE=bookworm|trixie   the release (bookworm)
#   USER_NAME=root|NAME     who runs the command (root); any other name is an ordinary user with sudo and no password
#   KEEP=1                  keeps the root file system and prints where it is
#
#   tests/fresh/run.sh sh -c './bin/up && ./bin/test unit'
#   SUITE=trixie USER_NAME=ada tests/fresh/run.sh ./bin/up
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
[ "$(id -u)" = 0 ] || { echo "tests/fresh/run.sh: needs root, for chroot and namespaces" >&2; exit 1; }
clone=$(readlink -f "$(dirname "$0")/../..")
suite=${SUITE:-bookworm} user=${USER_NAME:-root}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lampstand-fresh
base=$cache/$suite.tar
mkdir -p "$cache"

if [ ! -s "$base" ]; then
  command -v mmdebstrap > /dev/null || { echo "tests/fresh/run.sh: apt-get install mmdebstrap" >&2; exit 1; }
  extra=$(mktemp -d)
  # This machine's own certificate authorities, where it has some: a company's proxy, for one.
  mkdir "$extra/ca"
  cp /usr/local/share/ca-certificates/*.crt "$extra/ca/" 2> /dev/null || true
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$extra/pip.conf"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,sudo,procps --format=tar \
    --customize-hook="copy-in $extra/pip.conf /etc" \
    --customize-hook="sync-in $extra/ca /usr/local/share/ca-certificates" \
    --customize-hook='chroot "$1" update-ca-certificates' "$suite" "$base.part" < /dev/null
  mv "$base.part" "$base"
  rm -rf "$extra"
fi

machine=$(mktemp -d "$cache/root.XXXXXX")
finish() {
  if [ -n "${KEEP:-}" ]; then echo "kept: $machine"; else rm -rf --one-file-system "$machine"; fi
}
trap finish EXIT
tar -C "$machine" -xpf "$base"
cp /etc/resolv.conf /etc/hosts "$machine/etc/" 2> /dev/null || true
echo "127.0.1.1 fresh" >> "$machine/etc/hosts"
if [ "$user" != root ]; then
  chroot "$machine" useradd --create-home --shell /bin/bash "$user"
  echo "$user ALL=(ALL) NOPASSWD: ALL" > "$machine/etc/sudoers.d/$user"
fi
home=$(chroot "$machine" getent passwd "$user" | cut -d: -f6)
git clone --quiet "$clone" "$machine$home/project"
chroot "$machine" chown -R "$user": "$home/project"
for name in PIP_CERT SSL_CERT_FILE HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
  [ -z "${!name:-}" ] || printf 'export %s=%q\n' "$name" "${!name}"
done > "$machine/tmp/environment"

unshare --mount --pid --ipc --uts --fork --kill-child=KILL --propagation private bash -ec '
  machine=$1 user=$2 home=$3; shift 3
  mount --bind "$machine" "$machine"
  mount -t proc proc "$machine/proc"
  mount --rbind /dev "$machine/dev"
  mount -t sysfs sysfs "$machine/sys"
  mount --rbind /sys/fs/cgroup "$machine/sys/fs/cgroup"
  mount -t tmpfs -o mode=1777 tmpfs "$machine/dev/shm"
  mount -t tmpfs tmpfs "$machine/run"
  hostname fresh
  exec chroot "$machine" su - "$user" -c ". /tmp/environment; cd $home/project && $(printf "%q " "$@")"
' _ "$machine" "$user" "$home" "$@"
