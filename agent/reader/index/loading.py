"""Put verified batches into the tables.

Invariants: what is loaded are the very bytes that were verified: they are written to a folder of our own and read from there by
the database, never from the store. Everything here runs inside a transaction of the caller. This module must not verify.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ...trail.records import RecordKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import duckdb

    from ...trail.manifest import Manifest, SourceProgress
    from ..tally import Checked
    from .tiles import Node

_USUAL_LINE_BYTES: Final = 1 << 20
_LONG_LINE_BYTES: Final = 4 << 20
"""What the database sets aside for a line; for a longer one more is."""
_LONG_LINE_MEMORY: Final = "1GiB"
_SHOWN_CHARACTERS: Final = 4096
_KIND_WITHIN_BYTES: Final = 48
_EVENT: Final = b'"kind":"%b"' % RecordKind.EVENT.value.encode()

_EVENT_COLUMNS: Final = (
    "{seq: 'BIGINT', source: 'VARCHAR', observed_at: 'VARCHAR', container: 'JSON', event: 'STRUCT(event_id VARCHAR, occurred_at VARCHAR, "
    'actor STRUCT("type" VARCHAR, id VARCHAR, session VARCHAR), action VARCHAR, target STRUCT("type" VARCHAR, id VARCHAR), '
    "outcome VARCHAR, context JSON)', mapping: 'VARCHAR', client: 'VARCHAR[]', redacted: 'VARCHAR[]'}"
)
_OTHER_COLUMNS: Final = (
    "{seq: 'BIGINT', kind: 'VARCHAR', source: 'VARCHAR', observed_at: 'VARCHAR', reason: 'VARCHAR', detail: 'VARCHAR', raw: 'VARCHAR', "
    "raw_base64: 'VARCHAR', head: 'VARCHAR', head_base64: 'VARCHAR', length: 'BIGINT', cause: 'VARCHAR', certainty: 'VARCHAR', "
    "from_offset: 'BIGINT', to_offset: 'BIGINT', file_id: 'VARCHAR', path: 'VARCHAR'}"
)
_BATCH_COLUMNS: Final = (
    "{trail: 'INTEGER', batch: 'BIGINT', first_seq: 'BIGINT', records: 'BIGINT', events: 'BIGINT', quarantined: 'BIGINT', gaps: 'BIGINT', "
    "size: 'BIGINT', root: 'VARCHAR', reason: 'VARCHAR', sealed_at: 'VARCHAR', monotonic_ns: 'BIGINT', boot_id: 'VARCHAR', "
    "unclean: 'BOOLEAN', data_key: 'VARCHAR', data_bytes: 'BIGINT', occurred_min: 'VARCHAR', occurred_max: 'VARCHAR', "
    "observed_min: 'VARCHAR', observed_max: 'VARCHAR', lines: 'BIGINT', audit: 'BIGINT', observability: 'BIGINT', bytes_lost: 'BIGINT', "
    "spool_records: 'BIGINT', spool_oldest_seconds: 'DOUBLE', clock_synchronized: 'BOOLEAN', clock_offset_seconds: 'DOUBLE', "
    "clock_max_error_seconds: 'DOUBLE', heartbeat_seconds: 'DOUBLE', agent_version: 'VARCHAR', host: 'VARCHAR', place: 'VARCHAR', "
    "config_sha256: 'VARCHAR', "
    "seal_sha256: 'VARCHAR', chained: 'BOOLEAN'}"
)
_SOURCE_COLUMNS: Final = (
    "{trail: 'INTEGER', batch: 'BIGINT', id: 'VARCHAR', kind: 'VARCHAR', path: 'VARCHAR', file_id: 'VARCHAR', from_offset: 'BIGINT', "
    "to_offset: 'BIGINT', lines: 'BIGINT', audit: 'BIGINT', observability: 'BIGINT', quarantined: 'BIGINT'}"
)
_NODE_COLUMNS: Final = "{trail: 'INTEGER', level: 'UTINYINT', position: 'BIGINT', hash: 'VARCHAR'}"
_TIME: Final = (
    r"CASE WHEN regexp_full_match({0}, '\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)') THEN try_cast({0} AS TIMESTAMP) END"
)
"""A time in the one form that the schema allows; by itself the database would ignore an offset, and take words for times."""
_CONTAINER: Final = """CASE WHEN r.container IS NULL THEN b.place WHEN (b.place->'node') IS NULL THEN r.container::VARCHAR
        ELSE json_merge_patch(json_object('node', b.place->'node'), r.container)::VARCHAR END"""
"""What a log file's name says of its container counts; else where the agent says it runs. The node is the agent's own in either case."""
_TIMES: Final = ("sealed_at", "occurred_min", "occurred_max", "observed_min", "observed_max")

_MOMENTS: Final = ", ".join(f"{_TIME.format(name)} AS {name}" for name in _TIMES)
_FILL: Final = {
    "moments": _MOMENTS,
    "shown": _SHOWN_CHARACTERS,
    "container": _CONTAINER,
    "occurred": _TIME.format("r.event.occurred_at"),
    "observed": _TIME.format("r.observed_at"),
}
# Placeholders in braces are filled with constants of this module only.
_INSERT_BATCHES: Final = "INSERT INTO batches SELECT * REPLACE ({moments}) FROM {table}"
_INSERT_SOURCES: Final = "INSERT INTO sources SELECT * FROM {table}"
_INSERT_NODES: Final = "INSERT INTO nodes SELECT * REPLACE (unhex(hash) AS hash) FROM {table}"
_BATCH_OF: Final = """ASOF JOIN (SELECT batch, first_seq, host, place FROM batches
        WHERE trail = $trail AND batch >= $first AND records > 0) b ON r.seq >= b.first_seq"""
_INSERT_EVENTS: Final = """INSERT INTO event_rows
    SELECT $trail, r.seq, b.batch,
        coalesce({occurred}, {observed}), {observed},
        r.event.event_id, r.event.actor."type", r.event.actor.id, r.event.actor.session, r.event.action,
        r.event.target."type", r.event.target.id, r.event.outcome, r.event.context,
        r.source, b.host, {container}, r.mapping, r.client, r.redacted
    FROM {table} r {batch_of}"""
_INSERT_QUARANTINE: Final = """INSERT INTO quarantine
    SELECT $trail, r.seq, b.batch, {observed}, r.source, r.reason, r.detail,
        substr(coalesce(r.raw, r.head, 'base64:' || coalesce(r.raw_base64, r.head_base64)), 1, {shown}), r.length
    FROM {table} r {batch_of} WHERE r.kind = 'quarantine'"""
_INSERT_GAPS: Final = """INSERT INTO gaps
    SELECT $trail, r.seq, b.batch, {observed}, r.source, r.cause, r.certainty, r.from_offset, r.to_offset,
        r.detail, r.file_id, r.path
    FROM {table} r {batch_of} WHERE r.kind = 'gap'"""


class Verified(NamedTuple):
    """One verified batch, on its way into the tables.

    Attributes:
        checked: The batch.
        chained: Whether every batch before it was verified, too.
        bytes_lost: How many bytes it states as lost.
        nodes: The inner nodes that it completes.
    """

    checked: Checked
    chained: bool
    bytes_lost: int
    nodes: tuple[Node, ...]


def load(connection: duckdb.DuckDBPyConnection, trail: int, batches: Sequence[Verified], folder: Path) -> None:
    """Insert batches of one trail, in their order.

    Args:
        connection: Within a transaction.
        trail: The trail's number.
        batches: At least one.
        folder: For files that live as long as this call.

    Raises:
        duckdb.Error: The database cannot read a line, or cannot write.
    """
    manifests = [one.checked.seal.manifest for one in batches]
    _insert(connection, _INSERT_BATCHES, folder / "batches", _BATCH_COLUMNS, _json_lines(_batch_row(trail, one) for one in batches))
    progress = [_source_row(trail, manifest.batch, source) for manifest in manifests for source in manifest.sources]
    _insert(connection, _INSERT_SOURCES, folder / "sources", _SOURCE_COLUMNS, _json_lines(progress))
    nodes = [
        {"trail": trail, "level": node.level, "position": node.position, "hash": node.hash.hex()} for one in batches for node in one.nodes
    ]
    _insert(connection, _INSERT_NODES, folder / "nodes", _NODE_COLUMNS, _json_lines(nodes))
    place = {"trail": trail, "first": manifests[0].batch}
    events, others = _by_kind(batches)
    _insert(connection, _INSERT_EVENTS, folder / "events", _EVENT_COLUMNS, events, place)
    _insert(connection, _INSERT_QUARANTINE, folder / "others", _OTHER_COLUMNS, others, place)
    _insert(connection, _INSERT_GAPS, folder / "others", _OTHER_COLUMNS, others, place)


def _insert(
    connection: duckdb.DuckDBPyConnection,
    statement: str,
    path: Path,
    columns: str,
    lines: Sequence[bytes],
    parameters: Mapping[str, object] | None = None,
) -> None:
    if not lines:
        return
    path.write_bytes(b"\n".join([*lines, b""]))
    longest = max(_USUAL_LINE_BYTES, max(map(len, lines)) + 1)
    if longest > _LONG_LINE_BYTES:
        # The database sets aside a multiple of it for each thread.
        connection.execute(f"SET memory_limit = '{_LONG_LINE_MEMORY}'")
    table = f"read_json($file, format='newline_delimited', maximum_object_size={longest}, columns={columns})"
    filled = statement.format(table=table, batch_of=_BATCH_OF, **_FILL)
    connection.execute(filled, {"file": str(path), **(parameters or {})})


def _by_kind(batches: Iterable[Verified]) -> tuple[list[bytes], list[bytes]]:
    """Return the lines of events, and all others."""
    events: list[bytes] = []
    others: list[bytes] = []
    for one in batches:
        lines = one.checked.contents.lines
        if one.checked.seal.manifest.records.events == len(lines):
            events += lines
            continue
        for line in lines:
            # The checker made sure that a line begins with its seq and its kind.
            (events if _EVENT in line[:_KIND_WITHIN_BYTES] else others).append(line)
    return events, others


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    return list(map(msgspec.json.encode, rows))


def _batch_row(trail: int, one: Verified) -> dict[str, Any]:
    manifest, checkpoint = one.checked.seal.manifest, one.checked.seal.checkpoint()
    return {
        "trail": trail,
        "batch": manifest.batch,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "seal_sha256": one.checked.seal.sha256,
        "chained": one.chained,
        "bytes_lost": one.bytes_lost,
        **_records(manifest),
        **_moments(manifest),
        **_vitals(manifest),
    }


def _records(manifest: Manifest) -> dict[str, Any]:
    records, data = manifest.records, manifest.data
    return {
        "first_seq": records.first_seq,
        "records": records.count,
        "events": records.events,
        "quarantined": records.quarantined,
        "gaps": records.gaps,
        "data_key": data and data.key,
        "data_bytes": data and data.bytes,
        "lines": sum(source.lines for source in manifest.sources),
        "audit": sum(source.audit for source in manifest.sources),
        "observability": sum(source.observability for source in manifest.sources),
    }


def _moments(manifest: Manifest) -> dict[str, Any]:
    window = manifest.window
    return {
        "reason": manifest.reason.value,
        "sealed_at": manifest.sealed_at,
        "monotonic_ns": manifest.monotonic_ns,
        "occurred_min": window and window.occurred_min,
        "occurred_max": window and window.occurred_max,
        "observed_min": window and window.observed_min,
        "observed_max": window and window.observed_max,
    }


def _vitals(manifest: Manifest) -> dict[str, Any]:
    agent, clock, spool = manifest.agent, manifest.clock, manifest.spool
    return {
        "boot_id": agent.boot_id,
        "unclean": None if manifest.unclean is msgspec.UNSET else manifest.unclean,
        "spool_records": spool.records,
        "spool_oldest_seconds": spool.oldest_age_seconds,
        "clock_synchronized": clock.synchronized,
        "clock_offset_seconds": clock.offset_seconds,
        "clock_max_error_seconds": clock.max_error_seconds,
        "heartbeat_seconds": agent.heartbeat_seconds,
        "agent_version": agent.version,
        "host": agent.host,
        "place": None if agent.where is msgspec.UNSET else msgspec.json.encode(agent.where).decode(),
        "config_sha256": agent.config_sha256,
    }


def _source_row(trail: int, batch: int, source: SourceProgress) -> dict[str, Any]:
    return {"trail": trail, "batch": batch, **msgspec.structs.asdict(source)}
