#!/usr/bin/env bash
# Run what docs/query-at-scale.md says about ClickHouse and Spark, on a store that the agent writes first. Installs chDB and PySpark (1.4 GB) into
# an environment of their own, once. Needs Java 17 for Spark. VENV names the environment of the checkout (default .venv), ENGINES
# that of the engines (default $VENV/engines).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${VENV:-.venv}
engines=${ENGINES:-$venv/engines}
wanted="chdb==4.4.0 pyspark==4.3.0"

command -v java >/dev/null || scripts/packages.sh openjdk-17-jre-headless
if [ "$(cat "$engines/.installed" 2>/dev/null)" != "$wanted" ]; then
  "$venv/bin/python" -m venv "$engines"
  # shellcheck disable=SC2086 -- two words
  "$engines/bin/pip" install --quiet $wanted
  printf '%s\n' "$wanted" >"$engines/.installed"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$venv/bin/python" -m tests.support.engines make "$folder"
for engine in clickhouse spark; do
  "$engines/bin/python" -W ignore -m tests.support.engines run "$folder" "$engine"
done
