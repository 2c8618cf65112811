"""Run the statements of docs/query-at-scale.md in the engines it names, on a store that a real agent wrote.

As a program it has two parts, because the engines live in an environment of their own: ``make FOLDER`` writes the store and what
each answer must be, ``run FOLDER ENGINE…`` asks. Only the first part needs the agent; at its top this module imports nothing of it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = list[tuple[str, str, str, int, int]]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGE: Final = ROOT / "docs" / "query-at-scale.md"
PLACE: Final = "/srv/trail"
QUESTION: Final = "role grants by actor"
ENGINES: Final = ("DuckDB", "ClickHouse", "Spark", "Trino", "Athena")
SINCE: Final = datetime(2026, 3, 1, tzinfo=UTC)
UNTIL: Final = datetime(2026, 6, 1, tzinfo=UTC)
CONFIGURATION: Final = """\
namespace: acme
service: directory
instance: directory-0
state: state
stores:
  - {id: main, directory: store}
"""
ODD_LINES: Final = (
    # Two contexts whose keys differ in case, the greatest whole number, nine digits of a second, no context at all.
    (
        b'{"stream":"audit","event_id":"odd-1","occurred_at":"2026-04-12T10:00:00.123456789Z","actor":{"type":"system","id":"cron"},'
        b'"action":"job.cleanup","target":{"type":"job","id":"B\xc3\xbcro"},"outcome":"success","context":{"UserId":"A","n":9007199254740991}}'
    ),
    (
        b'{"stream":"audit","event_id":"odd-2","occurred_at":"2026-04-12T10:00:01Z","actor":{"type":"system","id":"cron"},'
        b'"action":"job.cleanup","target":{"type":"job","id":"x"},"outcome":"success","context":{"userid":"b","n":1.50,"deep":{"a":[null]}}}'
    ),
    (
        b'{"stream":"audit","event_id":"odd-3","occurred_at":"2026-04-12T10:00:02Z","actor":{"type":"system","id":"cron"},'
        b'"action":"job.cleanup","target":{"type":"job","id":"x"},"outcome":"success"}'
    ),
    b'{"stream":"audit","event_id":"odd-4","occurred_at":"2026-04-12T10:00:03Z","action":"role.grant","outcome":"success"}',
    b'{"stream":"audit","event_id":"odd-5","note":"no JSON',
)


def statements(engine: str, title: str) -> list[str]:
    """Return the statements of the page under this heading, each without its semicolon."""
    blocks = re.findall(r"(?ms)^```sql\n-- (\w+): ([^\n]+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))
    texts = [text for name, of, text in blocks if (name, of) == (engine, title)]
    if len(texts) != 1:
        message = f"the page has {len(texts)} blocks `-- {engine}: {title}`"
        raise LookupError(message)
    return [statement.strip() for statement in texts[0].split(";\n") if statement.strip()]


def make(folder: Path) -> Answer:
    """Write a store with the agent, `trailseal pipe`, and return what the question's answer must be."""
    import random

    from tests.support.evidence_events import Stories

    year = {"since": datetime(2026, 1, 1, tzinfo=UTC), "until": datetime(2026, 8, 1, tzinfo=UTC)}
    stories = Stories(**year, services=("directory",), rounds=120, rng=random.Random(11))
    lines = [told.line for told in sorted(stories.told, key=lambda told: told.at)]
    (folder / "trailseal.yaml").write_text(CONFIGURATION, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("trailseal")), "pipe", "--config", str(folder / "trailseal.yaml")]
    subprocess.run(command, input=b"\n".join([*lines, *ODD_LINES, b""]), check=True, capture_output=True, cwd=folder)
    counts: Counter[tuple[str, str, str]] = Counter()
    without: Counter[tuple[str, str, str]] = Counter()
    for grant in stories.grants:
        if SINCE <= grant.occurred_at < UNTIL:
            counts[grant.actor, grant.role, grant.outcome] += 1
            without[grant.actor, grant.role, grant.outcome] += grant.approval_id is None
    return [(*key, counts[key], without[key]) for key in sorted(counts)]


def ask_duckdb(store: Path, *titles: str, question: list[str] | None = None) -> list[tuple[Any, ...]]:
    """Return DuckDB's answer, after the statements under these titles."""
    import duckdb

    with duckdb.connect() as connection:
        for title in ("table", *titles):
            for statement in statements("DuckDB", title):
                connection.execute(statement.replace(PLACE, str(store)))
        for statement in question or statements("DuckDB", QUESTION):
            connection.execute(statement.replace(PLACE, str(store)))
        return connection.fetchall()


def ask_clickhouse(store: Path) -> Answer:
    """Return ClickHouse's answer, by chDB."""
    import chdb  # type: ignore[import-not-found]
    from chdb.session import Session  # type: ignore[import-not-found]

    sys.stdout.write(f"chdb {chdb.__version__}, engine {chdb.engine_version}\n")
    session = Session()
    session.query("CREATE DATABASE audit")
    session.query("USE audit")
    for statement in statements("ClickHouse", "table"):
        session.query(statement.replace(PLACE, str(store)))
    (question,) = statements("ClickHouse", QUESTION)
    found = str(session.query(question.replace(PLACE, str(store)), "JSONCompactEachRow"))
    return [
        (actor, role, outcome, int(grants), int(without)) for actor, role, outcome, grants, without in map(json.loads, found.splitlines())
    ]


def ask_spark(store: Path) -> Answer:
    """Return Spark's answer, by PySpark."""
    from pyspark.sql import SparkSession  # type: ignore[import-not-found]

    warehouse = store.parent / "warehouse"
    settings = {"spark.ui.enabled": "false", "spark.sql.session.timeZone": "UTC", "spark.sql.warehouse.dir": str(warehouse)}
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    hadoop = spark.sparkContext._jvm.org.apache.hadoop.util.VersionInfo.getVersion()
    sys.stdout.write(f"Spark {spark.version}, Hadoop {hadoop}\n")
    for statement in statements("Spark", "table"):
        spark.sql(statement.replace(PLACE, str(store)))
    (question,) = statements("Spark", QUESTION)
    rows = [tuple(row) for row in spark.sql(question).collect()]
    spark.stop()
    return rows


_ASKED: Final[dict[str, Callable[[Path], Answer]]] = {"clickhouse": ask_clickhouse, "spark": ask_spark}


def main() -> int:
    """Make a store, or ask engines and say whether they are right."""
    what, folder, *engines = sys.argv[1:]
    facts = Path(folder) / "answer.json"
    if what == "make":
        facts.write_text(json.dumps(make(Path(folder))), encoding="utf-8")
        return 0
    wanted = [tuple(row) for row in json.loads(facts.read_text(encoding="utf-8"))]
    wrong = 0
    for engine in engines:
        found = _ASKED[engine](Path(folder) / "store")
        right = found == wanted and bool(wanted)
        wrong += not right
        sys.stdout.write(
            f"{engine}: {len(found)} rows, {'as they must be' if right else f'not what they must be: {found} instead of {wanted}'}\n"
        )
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
