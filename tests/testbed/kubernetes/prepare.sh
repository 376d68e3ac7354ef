#!/bin/bash
# prepare.sh: builds what up.sh starts, from Debian's packages alone, into a cache outside the clone. Prints that folder.
# Does nothing that is done already. The first time takes 5 to 6 minutes on two cores and 4 GB of disk until it ends;
# 430 MB of programs stay. Exit code 3: this machine cannot have a cluster, and what is printed says why.
#
# Debian 12 has the source of Kubernetes 1.20.2 and no programs. On a later Debian the same source and the Go that
# compiles it are taken from Debian 12 and only unpacked: today's Go refuses code of that age.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
version=1.20.2
programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
packages=(etcd-server containerd runc conntrack iptables iproute2 containernetworking-plugins curl openssl gcc libc6-dev)

command -v apt-get > /dev/null || cannot "no Debian: its source package is what the cluster is built from"
[ "$(uname -m)" = x86_64 ] || [ "$(uname -m)" = aarch64 ] || cannot "no Kubernetes for $(uname -m)"
[ "$(id -u)" = 0 ] || sudo -n true 2> /dev/null || cannot "a cluster's nodes are namespaces, which need root (or sudo without a password)"
[ -d /sys/fs/cgroup/memory ] || cannot "Kubernetes $version wants control groups of version 1 at /sys/fs/cgroup, and there are none (or of version 2 alone)"
as_root unshare --mount --net --pid --uts --ipc --fork true 2> /dev/null || cannot "this machine gives no namespaces to root"

mkdir -p "$home"
exec 9> "$home/lock"
flock 9 # two test runs begin at once

install() {
  local package wanted=()
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed || wanted+=("$package")
  done
  [ ${#wanted[@]} = 0 ] || { say "packages ${wanted[*]}"; as_root sh "$here/../../../src/lampstand/engines/install.sh" "${wanted[@]}" >&2; }
}
install "${packages[@]}"

if [ ! -x "$bin/kubectl" ]; then
  build=$home/build
  mkdir -p "$build"/{lists/partial,go,path/src/k8s.io,bin}
  install dpkg-dev
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p)
  [ -n "$mirror" ] || cannot "apt knows no archive of Debian to take the source from"
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  printf "%s [signed-by=$keys] $mirror bookworm main\n" deb deb-src > "$build/sources.list"
  bookworm() {
    (cd "$build" && apt-get -qq -o "Dir::State::Lists=$build/lists" -o "Dir::Etc::SourceList=$build/sources.list" \
      -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root -o Acquire::Languages=none "$@" >&2)
  }
  if [ ! -d "$build/tree" ]; then
    say "source of Kubernetes $version"
    bookworm update
    bookworm source --download-only kubernetes
    dpkg-source --no-check -x "$build"/kubernetes_*.dsc "$build/tree.part" > "$build/unpack.log"
    bookworm download golang-1.19-go golang-1.19-src
    for package in "$build"/golang-1.19-*.deb; do dpkg -x "$package" "$build/go"; done
    ln -sfn ../../share/go-1.19/src "$build/go/usr/lib/go-1.19/src"
    # cAdvisor looks for a Docker daemon five times, a second apart, before a kubelet starts.
    sed -i 's/rootDirRetryPeriod time.Duration = 1000 /rootDirRetryPeriod time.Duration = 1 /' \
      "$build/tree.part/vendor/github.com/google/cadvisor/container/docker/factory.go"
    mv "$build/tree.part" "$build/tree"
  fi
  grep -q "really$version" "$build/tree/debian/changelog" || cannot "Debian's source of Kubernetes is not $version any more"
  ln -sfn "$build/tree" "$build/path/src/k8s.io/kubernetes"
  cd "$build/path/src/k8s.io/kubernetes"
  # GOPATH mode: in module mode Go refuses the go.mod of that time.
  export GOROOT=$build/go/usr/lib/go-1.19 GOPATH=$build/path GOCACHE=$build/cache GO111MODULE=off GOFLAGS= CGO_ENABLED=0 GOTOOLCHAIN=local
  go=$GOROOT/bin/go
  if [ ! -e pkg/generated/openapi/zz_generated.openapi.go ]; then
    say "openapi (the one generated file that the source package lacks)"
    "$go" build -o "$build/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
    inputs=$(grep -rl --include='*.go' '+k8s:openapi-gen=' pkg cmd plugin staging/src/k8s.io | xargs -n1 dirname | sort -u |
      sed 's,^staging/src/,vendor/,' | grep -vE 'vendor/k8s.io/(code-generator|sample-apiserver|sample-controller)' |
      sed 's,^,k8s.io/kubernetes/,' | paste -sd,)
    "$build/openapi-gen" --logtostderr -i "$inputs" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
      -h hack/boilerplate/boilerplate.generatego.txt -r "$build/violations"
    # The same list as upstream's: the generator saw exactly upstream's inputs.
    cmp -s "$build/violations" api/api-rules/violation_exceptions.list || {
      rm pkg/generated/openapi/zz_generated.openapi.go
      cannot "the source of Kubernetes is not complete"
    }
  fi
  say "programs: ${programs[*]}"
  flags="-s -w"
  for package in component-base client-go/pkg; do
    for fact in gitVersion=v$version gitMajor=1 gitMinor=20 gitTreeState=clean; do
      flags="$flags -X k8s.io/kubernetes/vendor/k8s.io/$package/version.$fact"
    done
  done
  "$go" build -trimpath -ldflags "$flags" -o "$build/bin/" "${programs[@]/#/k8s.io/kubernetes/cmd/}"
  cd "$home"
  rm -rf "$bin"
  mv "$build/bin" "$bin"
  chmod -R u+w "$build" # Go writes its cache read-only
  rm -rf "$build"
  say "programs are in $bin"
fi

# The image that holds a pod's namespaces, as an archive that `docker save` would write.
if [ ! -e "$bin/pause.tar" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/root"
  gcc -O2 -static -s -o "$work/root/pause" "$here/pause.c"
  tar -C "$work/root" --owner 0 --group 0 -cf "$work/layer.tar" pause
  printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/pause"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(dpkg --print-architecture)" "$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)" > "$work/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$pause" > "$work/manifest.json"
  tar -C "$work" -cf "$bin/pause.tar" manifest.json config.json layer.tar
fi
echo "$home"
