#!/usr/bin/env bash
# Make the environment .venv: the locked requirements, checked by their hashes, and this package, editable.
# Quick when nothing changed. PYTHON names the interpreter (default python3), VENV the folder (default .venv).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} venv=${VENV:-.venv}

fail() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "no $python here; install Python 3.11 or newer, or name one: PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "$python is $("$python" -V 2>&1), and Python 3.11 or newer is needed: PYTHON=/path/to/python3"
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  # Debian ships these two modules of its own python3 in a package apart.
  [[ $(command -v "$python") == /usr/bin/python3* ]] || fail "$python lacks the modules venv and ensurepip"
  scripts/packages.sh python3-venv
fi

# Stamps hold what was installed, not when: a checkout changes times, and only contents matter.
locked="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)') $(sha256sum <requirements/dev.txt)"
if [ "$(cat "$venv/.locked" 2>/dev/null)" != "$locked" ]; then
  # An environment that somebody else made must not be emptied because VENV names it by mistake.
  [[ ! -e $venv || -e $venv/.trailseal ]] || fail "$venv was not made by this script; remove it, or name another folder: VENV=FOLDER"
  printf '== environment %s with %s (a minute, the first time)\n' "$venv" "$("$python" -V)"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  touch "$venv/.trailseal"
  "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
  printf '%s\n' "$locked" >"$venv/.locked"
fi
installed="$PWD $(sha256sum <pyproject.toml)"
if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$installed" ]; then
  "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
  printf '%s\n' "$installed" >"$venv/.installed"
fi
