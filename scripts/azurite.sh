#!/usr/bin/env bash
# Install Azurite, the Azure Blob server of the tests, once into the environment, and print its program's path.
# Quick when it is there. VENV names the environment's folder (default .venv). Needs npm; fetches Debian's if there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${VENV:-.venv}
version=3.35.0
# npm resolves what Azurite itself needs; nothing newer than this day, so that every machine gets the same.
day=2026-11-20

folder=$(realpath --canonicalize-missing "$venv/azurite")
program=$folder/node_modules/.bin/azurite-blob
wanted="$version $day"
is_there() { [ "$(cat "$folder/.installed" 2>/dev/null)" = "$wanted" ] && [ -x "$program" ]; }

if ! is_there; then
  mkdir -p "$folder"
  # Two test files may want it at the same time.
  exec 9>"$folder/.lock"
  flock 9
  if ! is_there; then
    command -v npm >/dev/null || scripts/packages.sh nodejs npm >&2
    printf '== Azurite %s in %s (half a minute, the first time)\n' "$version" "$folder" >&2
    rm -rf "$folder/node_modules" "$folder/.installed"
    # None of the packages has to run anything to be installed.
    npm install --prefix "$folder" --before="$day" --ignore-scripts --no-package-lock --no-save --no-audit --no-fund --no-update-notifier \
      --loglevel=error "azurite@$version" >&2
    printf '%s\n' "$wanted" >"$folder/.installed"
  fi
fi
printf '%s\n' "$program"
