#!/usr/bin/env bash
# Show the product at work on a real service; needs Python >= 3.11 and does its own set-up, the first time.
#   scripts/demo.sh               about 20 seconds; what it makes stays in demo-output/
#   scripts/demo.sh --help        options of the demo
# PYTHON names the interpreter (default python3), VENV the environment's folder (default .venv).
# Its exit code is 0 only if everything it claims held. Nothing is sent anywhere, and Ctrl-C ends all it started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=$(realpath --canonicalize-missing "${VENV:-.venv}")
export VENV

scripts/setup.sh
exec "$VENV/bin/python" -m demo.tour "$@"
