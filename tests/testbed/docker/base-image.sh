#!/bin/bash
# Makes a stand-in for Debian's slim image from Debian's packages, where no registry answers. For tests only: it holds this
# machine's certificate authorities, so that builds reach package registries through whatever this machine goes through.
# usage: base-image.sh [TAG]
set -euo pipefail
tag=${1:-debian:bookworm-slim}
suite=${tag#*:}
suite=${suite%-slim}
if ! command -v mmdebstrap > /dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap debian-archive-keyring > /dev/null
fi
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir "$work/authorities"
cp /usr/local/share/ca-certificates/*.crt "$work/authorities/" 2> /dev/null || true
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$work/pip.conf"
printf '#!/bin/sh\nexit 101\n' > "$work/policy-rc.d"
chmod 755 "$work/policy-rc.d"
mmdebstrap --quiet --variant=minbase --include=ca-certificates \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="copy-in $work/pip.conf /etc" \
  --customize-hook="copy-in $work/policy-rc.d /usr/sbin" \
  --customize-hook="sync-in $work/authorities /usr/local/share/ca-certificates" \
  --customize-hook='chroot "$1" update-ca-certificates' \
  "$suite" - < /dev/null | docker import -c 'CMD ["bash"]' -m "stand-in" - "$tag" > /dev/null
