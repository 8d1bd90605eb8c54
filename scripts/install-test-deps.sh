#!/usr/bin/env bash
# Installs what the tests need and is not there yet: Redis, PostgreSQL, nginx, Chromium, a C compiler (for the race
# detector) and Node.js with npm (for the page's modules and the JavaScript client). On Debian and Ubuntu by apt,
# elsewhere it says what to install. The tests start servers of their own on free ports; nothing that this script
# installs is left running.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }
have_postgres() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
have_browser() {
  local b
  for b in chromium chromium-browser google-chrome google-chrome-stable; do
    # The snap's stub on Ubuntu is there without a browser behind it: only one that answers counts.
    if command -v "$b" >/dev/null 2>&1 && "$b" --version >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

# missing prints the Debian packages of what is not there.
missing() {
  have redis-server || echo redis-server
  have redis-cli || echo redis-tools
  have_postgres || echo postgresql
  have nginx || echo nginx-light
  have_browser || echo chromium
  have node || echo nodejs
  have npm || echo npm
  { have gcc || have clang; } || echo gcc libc6-dev
}

todo=$(missing | tr '\n' ' ')
[ -n "$todo" ] || exit 0

explain() {
  echo "The tests need programs that are not installed and that cannot be installed from here: $1"
  echo "(names of Debian packages: $todo)"
  echo "Install them, then run make test again. go test ./... alone needs none of them."
} >&2

if ! command -v apt-get >/dev/null 2>&1; then
  explain "this is not Debian or Ubuntu."
  exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null 2>&1 || ! sudo -n true 2>/dev/null; then
    explain "you are not root, and sudo is not there or asks for a password."
    exit 1
  fi
  as_root=(sudo -n)
fi

# Debian starts a server as it installs it, unless this file says no. It is made only when there is none, and goes
# away with the script.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
fi

apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 "$@" </dev/null; }
echo "== installing for the tests: $todo"
apt update >/dev/null || echo "apt-get update failed; going on with the package lists that are there" >&2
# One by one: Ubuntu has no package of the browser, and that should not keep the others away.
for package in $todo; do
  apt install --no-install-recommends "$package" >/dev/null || echo "apt-get install $package failed" >&2
done

# With systemd the new servers would start at the next boot.
if [ -d /run/systemd/system ]; then
  for unit in redis-server postgresql nginx; do
    case " $todo " in *" $unit"*) "${as_root[@]}" systemctl disable --now "$unit" >/dev/null 2>&1 || true ;; esac
  done
fi

todo=$(missing | tr '\n' ' ')
if [ -n "$todo" ]; then
  explain "they are still missing after the installation (Ubuntu has Chromium as a snap only; Google Chrome's package will do)."
  exit 1
fi
