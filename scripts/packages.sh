#!/usr/bin/env bash
# Install those of the named Debian packages that are missing: scripts/packages.sh nginx strace
# Does nothing, and needs no root, when all are there. No server is started by its installation.
set -euo pipefail

fail() { printf 'packages.sh: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo -- "$@"
  else fail "Debian packages are missing, and installing them needs root or sudo: ${missing[*]}"; fi
}

is_installed() { [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  fail "this is no Debian; install the counterparts of these packages yourself: $*"
fi
missing=()
for package in "$@"; do is_installed "$package" || missing+=("$package"); done
[ "${#missing[@]}" -gt 0 ] || exit 0

printf '== Debian packages: %s\n' "${missing[*]}"
as_root apt-get update --quiet=2
# Exit code 101 of policy-rc.d means "start nothing": tests start their own servers, and the machine keeps its ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'as_root rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
fi
as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --option Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}"
