#!/usr/bin/env bash
# Pass all tests on a fresh Debian machine that has Python >= 3.11 and git; does its own set-up.
#   scripts/test.sh               everything
#   scripts/test.sh tests/unit    the checks, then only these tests; arguments go to pytest
# PYTHON names the interpreter (default python3), VENV the environment's folder (default .venv), WORKERS how many test files run at a
# time (default 2; 0: one test after the other, in one process, as `pytest` itself does).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=$(realpath --canonicalize-missing "${VENV:-.venv}")
export VENV

mapfile -t packages < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' tests/debian-packages.txt)
scripts/packages.sh "${packages[@]}"
scripts/setup.sh
scripts/azurite.sh
# Debian keeps servers such as nginx where only root's PATH looks.
export PATH=$VENV/bin:$PATH:/usr/sbin:/sbin

step() { printf '== %s\n' "$*"; "$@"; }
step ruff format --check .
step ruff check .
step mypy
step lint-imports --no-logo
# By files, because tests of a file may share something costly. pytest-xdist's groups have no effect with pytest 9.2.
parallel=(--numprocesses "${WORKERS:-2}" --dist loadfile --durations 15)
set -- "${parallel[@]}" "$@"
printf '== pytest %s\n' "$*"
exec pytest "$@"
