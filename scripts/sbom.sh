#!/usr/bin/env bash
# Write what Trailseal is made of, as CycloneDX 1.6 JSON (docs/supply-chain.md).
#   scripts/sbom.sh FOLDER            FOLDER/trailseal-VERSION.cdx.json: the locked requirements, each with the hashes it is held to
#   scripts/sbom.sh FOLDER IMAGE      FOLDER/trailseal-image-VERSION.cdx.json, too: all that is in a built image
# Both are the same, byte for byte, whenever they are made of the same; both are checked against CycloneDX's schema.
# PYTHON names an interpreter that has cyclonedx-bom (default .venv's); ENGINE is docker or podman (default: the one that is there).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'sbom.sh: %s\n' "$*" >&2; exit 1; }

{ [ "$#" -eq 1 ] || [ "$#" -eq 2 ]; } || fail "usage: scripts/sbom.sh FOLDER [IMAGE]"
folder=$1 image=${2:-}
python=${PYTHON:-.venv/bin/python}
"$python" -c 'import cyclonedx_py' 2>/dev/null || fail "$python has no cyclonedx-bom; run make setup, or name another: PYTHON=/path/to/python3"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
mkdir -p "$folder"

# The warning is about what a list of requirements cannot know: who of them needs whom.
"$python" -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml --spec-version 1.6 --output-reproducible --validate \
  --output-file "$folder/trailseal-$version.cdx.json" requirements/runtime.txt
printf '%s\n' "$folder/trailseal-$version.cdx.json"
[ -n "$image" ] || exit 0

engine=${ENGINE:-}
if [ -z "$engine" ]; then
  engine=docker
  command -v docker >/dev/null || engine=podman
fi
work=$(mktemp -d)
container=
trap '[ -z "$container" ] || "$engine" rm --force "$container" >/dev/null; rm -rf "$work"' EXIT
# Never started, so what it would run does not matter.
container=$("$engine" create "$image" version)
"$engine" export --output "$work/image.tar" "$container"
"$engine" image inspect "$image" >"$work/inspect.json"
"$python" deploy/container/sbom.py "$work/image.tar" "$work/inspect.json" >"$work/sbom.json"
cp "$work/sbom.json" "$folder/trailseal-image-$version.cdx.json"
printf '%s\n' "$folder/trailseal-image-$version.cdx.json"
