#!/bin/sh
# install.sh PACKAGE…: installs Debian packages as root and leaves the machine's services as they were.
#
# Debian's server packages start a service of the system and start it again at every boot. Lampstand runs its own
# processes, and a second nginx on port 80 is a surprise nobody asked for. So, for services that were not on this
# machine before: a temporary policy-rc.d (the mechanism of Debian Policy 9.3.3) refuses the start, and the unit
# (systemd or init.d) is disabled afterwards. Services that were here before are restarted by their upgrades as always,
# and a policy-rc.d that is here already stays in force untouched. `systemctl enable --now nginx` brings the system's own
# back.
set -eu
[ "$(id -u)" = 0 ] || { echo "install.sh: must run as root" >&2; exit 1; }
[ $# -gt 0 ] || exit 0

exec 9> /run/lampstand-install.lock
flock 9 # two at once would take each other's policy away
work=$(mktemp -d /run/lampstand-install.XXXXXX)
policy=/usr/sbin/policy-rc.d
ours=
services() {
  for folder in /lib/systemd/system /usr/lib/systemd/system /etc/systemd/system /etc/init.d; do
    [ -d "$folder" ] && ls "$folder"
  done | sed -n -e 's/\.service$//p' -e 's/\.timer$/.timer/p' -e 's/\.socket$/.socket/p' -e '/\./!p' | sort -u
}
clean() {
  [ -z "$ours" ] || rm -f "$policy"
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

services > "$work/before"
mark="# Temporary, by lampstand's install.sh"
if [ ! -e "$policy" ] || grep -qF -- "$mark" "$policy"; then
  ours=yes
  cat > "$policy" <<END
#!/bin/sh
$mark: services that this installation brings along are not started.
[ -d /proc/$$ ] || exit 0 # it was killed and could not remove this file
while case "\${1-}" in --*) true ;; *) false ;; esac; do shift; done
grep -qxF -- "\${1%.service}" $work/before && exit 0
exit 101
END
  chmod 755 "$policy"
fi

# Package lists older than a day name versions that the archive may no longer have.
if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 2>/dev/null | head -n 1)" ]; then
  apt-get update -qq || echo "install.sh: some package lists could not be read; going on with what there is" >&2
fi
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
get() {
  apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -- "$@" \
    > "$work/log" 2>&1 < /dev/null
}
if ! get "$@"; then
  apt-get update -qq && get "$@" || { tail -n 30 "$work/log" >&2; echo "install.sh: apt-get failed" >&2; exit 1; }
fi

services > "$work/after"
for unit in $(comm -13 "$work/before" "$work/after"); do
  case $unit in *@ | *@.*) continue ;; esac # templates run nothing by themselves
  if command -v systemctl > /dev/null; then
    now=
    [ ! -d /run/systemd/system ] || now=--now
    systemctl --quiet disable $now "$unit" 2> /dev/null || true
  elif [ -e "/etc/init.d/$unit" ]; then
    update-rc.d "$unit" disable
  fi
done

# mariadb-server would make this account; mariadb-server-core alone does not.
if command -v mariadbd > /dev/null && ! getent passwd mysql > /dev/null; then
  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /bin/false mysql
fi
