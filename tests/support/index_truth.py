"""What an index of a store must hold, worked out from the stored bytes with other means than the index uses."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

from agent.reader.fetch import MemoryReader
from agent.reader.index import Refreshed, open_index, refresh
from agent.reader.trustfile import TrustFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from agent.reader.fetch import StoreReader

    from .trail_factory import TrailFactory

LATER = datetime(2026, 12, 1, tzinfo=UTC)


class Row(NamedTuple):
    """One event as an index has it."""

    origin: str
    seq: int
    occurred_at: datetime
    observed_at: datetime
    event_id: str
    actor: tuple[str, str, str | None]
    action: str
    target: tuple[str, str]
    outcome: str
    context: str | None
    source: str


def objects_of(*trails: TrailFactory) -> dict[str, bytes]:
    """Return the objects of some trails as one store."""
    return {key: raw for trail in trails for key, raw in trail.objects.items()}


def trust_in(*trails: TrailFactory) -> TrustFile:
    """Return a trust file with the key of every trail."""
    return TrustFile.parse("".join(trail.trust_line for trail in trails), "trust")


def index_of(store: StoreReader | Mapping[str, bytes], path: Path, trust: TrustFile, now: datetime = LATER) -> Refreshed:
    """Make an index, or bring it up to date."""
    reader = MemoryReader(dict(store)) if isinstance(store, dict) else store
    return refresh(reader, path, trust=trust, now=now)  # type: ignore[arg-type]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)


def lines_of(raw: bytes) -> list[bytes]:
    """Return the lines of a data object."""
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read().splitlines()


def _rows(manifest: dict[str, Any], origin: str, raw: bytes) -> Iterator[Row]:
    for line in lines_of(raw):
        record = json.loads(line)
        if record["kind"] != "event":
            continue
        event, text = record["event"], line.decode()
        context = None
        if "context" in event:
            # As the service wrote it: the last member of all events that are made in tests.
            context = text[text.index('"context":') + len('"context":') :].removesuffix("}}")
        actor, target = event["actor"], event["target"]
        yield Row(
            origin,
            record["seq"],
            _moment(event["occurred_at"]),
            _moment(record["observed_at"]),
            event["event_id"],
            (actor["type"], actor["id"], actor.get("session")),
            event["action"],
            (target["type"], target["id"]),
            event["outcome"],
            context,
            record["source"],
        )


def true_rows(objects: Mapping[str, bytes]) -> set[Row]:
    """Return all events that the seals of a store name."""
    found: set[Row] = set()
    for key, raw in objects.items():
        if key.endswith(".seal"):
            manifest = json.loads(raw.partition(b"\n")[0])
            if manifest["data"]:
                origin = key.removeprefix("trails/").rpartition("/")[0]
                found.update(_rows(manifest, origin, objects[manifest["data"]["key"]]))
    return found


def indexed_rows(path: Path) -> list[Row]:
    """Return all events of an index."""
    sql = """SELECT origin, seq, occurred_at, observed_at, event_id, actor_type, actor_id, actor_session, action, target_type, target_id,
        outcome, context, source FROM events ORDER BY origin, seq"""
    with open_index(path) as index:
        return [Row._make((*row[:5], row[5:8], row[8], row[9:11], *row[11:])) for row in index.rows(sql)]


def found_in(path: Path) -> dict[tuple[str | None, int | None], set[str]]:
    """Return the codes of an index's findings by origin and batch."""
    found: dict[tuple[str | None, int | None], set[str]] = {}
    with open_index(path) as index:
        for origin, batch, code in index.rows("SELECT origin, batch, code FROM findings"):
            found.setdefault((origin, batch), set()).add(code)
    return found


def codes_in(path: Path) -> set[str]:
    """Return the codes of all findings of an index."""
    return set().union(*found_in(path).values())


def everything_in(path: Path, *, without: Iterable[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """Return all tables of an index but the times at which it was made, to compare two indexes."""
    left_out = {"meta", *without}
    with open_index(path) as index:
        names = [name for (name,) in index.rows("SELECT table_name FROM duckdb_tables() ORDER BY 1") if name not in left_out]
        columns = {name: "* EXCLUDE (found_at)" if name == "findings" else "*" for name in names}
        return {name: sorted(index.rows(f"SELECT {columns[name]} FROM {name}"), key=repr) for name in names}  # noqa: S608 -- our tables
