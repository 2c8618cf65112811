#!/usr/bin/env bash
# Build the wheel, and prove that it is reproducible: twice, in other folders, with other file times and another umask; the SHA-256
# must be the same.
#   scripts/wheel.sh [--once] [FOLDER]     FOLDER: where the wheel goes (default dist); --once: build once, prove nothing
# PYTHON names the interpreter (default .venv's, else python3; with pip). The builder, hatchling, is the locked one: PYTHON's own if its
# version is the locked one, else installed by its hashes into a folder of its own. Every file in the wheel gets the time
# SOURCE_DATE_EPOCH, by default always the same one, so that the hash does not depend on when or from which commit it was built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'wheel.sh: %s\n' "$*" >&2; exit 1; }

once=false
if [ "${1:-}" = --once ]; then once=true; shift; fi
[ "$#" -le 1 ] || fail "usage: scripts/wheel.sh [--once] [FOLDER]"
folder=$(realpath --canonicalize-missing "${1:-dist}")
name=${PYTHON:-}
if [ -z "$name" ]; then
  name=.venv/bin/python
  [ -x "$name" ] || name=python3
fi
python=$(command -v "$name") || fail "no $name here; name an interpreter: PYTHON=/path/to/python3"
[[ $python == /* ]] || python=$PWD/$python

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# hatchling and what it needs, out of the lock; should the list be too short, pip refuses what has no hash.
wanted='hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers'
awk -v wanted="^($wanted)==" '/^[^ #]/ { keep = $0 ~ wanted } keep' requirements/dev.txt >"$work/builder.txt"
locked=$(sed -n 's/^hatchling==\([^ ]*\).*/\1/p' "$work/builder.txt")
[ -n "$locked" ] || fail "requirements/dev.txt locks no hatchling"
if [ "$("$python" -c 'import importlib.metadata as m; print(m.version("hatchling"))' 2>/dev/null)" != "$locked" ]; then
  "$python" -m venv --without-pip "$work/builder"
  "$python" -m pip --python "$work/builder/bin/python3" install --quiet --disable-pip-version-check --require-hashes \
    --requirement "$work/builder.txt"
  python=$work/builder/bin/python3
fi

# Build a copy of what the wheel is made of; prints the wheel's path.
build() { # NAME UMASK TIME
  local copy=$work/$1/trailseal
  mkdir -p "$copy"
  (
    umask "$2"
    tar --create --exclude=__pycache__ --exclude='*.py[co]' --mtime="$3" pyproject.toml README.md LICENSE .gitignore agent |
      tar --extract --no-same-permissions --no-same-owner --directory "$copy"
    cd "$copy"
    "$python" -m hatchling build --target wheel --directory "$work/$1/out" >"$work/$1/log" 2>&1
  ) || { cat "$work/$1/log" >&2; fail "the build failed"; }
  printf '%s\n' "$work/$1"/out/*.whl
}

first=$(build first 022 '2001-01-01 00:00:00')
if ! "$once"; then
  second=$(build a/second/one 077 '2021-06-15 12:34:56')
  cmp "$first" "$second" >&2 || fail "two builds of the same source differ"
fi
mkdir -p "$folder"
cp "$first" "$folder/"
chmod 644 "$folder/${first##*/}"
cd "$folder"
sha256sum "${first##*/}"
