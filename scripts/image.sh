#!/usr/bin/env bash
# Build the container image: scripts/image.sh [TAG [OPTION…]]
#   TAG      default trailseal:VERSION
#   OPTION   goes to the engine's `build`, for example --no-cache, --platform=linux/arm64 or --build-arg=REQUIREMENTS=attest
# ENGINE        docker or podman (default: the one that is there, docker first)
# PYTHON_IMAGE  another base image, for example a mirror's copy of the pinned one
# PIP_CONF      a file with pip's configuration, where PyPI is reached through a mirror; it does not get into the image
# The image states version and commit. Every file in it gets the commit's time, or SOURCE_DATE_EPOCH: podman then makes the same layers
# of the same commit again; docker does with OPTION --output=type=docker,rewrite-timestamp=true.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'image.sh: %s\n' "$*" >&2; exit 1; }

engine=${ENGINE:-}
if [ -z "$engine" ]; then
  if command -v docker >/dev/null; then engine=docker
  elif command -v podman >/dev/null; then engine=podman
  else fail "neither docker nor podman is here; install one, or name one: ENGINE=/path/to/podman"; fi
fi

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=unknown epoch=${SOURCE_DATE_EPOCH:-}
if git rev-parse --git-dir >/dev/null 2>&1; then
  revision=$(git rev-parse HEAD)
  # An image of a checkout that was changed is of no commit.
  [ -z "$(git status --porcelain 2>/dev/null)" ] || revision=$revision-changed
  epoch=${epoch:-$(git log -1 --format=%ct)}
fi
epoch=${epoch:-1580601600}

tag=${1:-trailseal:$version}
[ "$#" -eq 0 ] || shift
arguments=(build --tag "$tag" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "SOURCE_DATE_EPOCH=$epoch")
[ -z "${PYTHON_IMAGE:-}" ] || arguments+=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE")
[ -z "${PIP_CONF:-}" ] || arguments+=(--secret "id=pip.conf,src=$PIP_CONF")
# An OCI image has no place for a health check; Docker's own format has.
[[ ${engine##*/} != podman ]] || arguments+=(--format docker --timestamp "$epoch")
exec "$engine" "${arguments[@]}" "$@" .
