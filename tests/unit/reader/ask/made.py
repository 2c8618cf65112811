"""An index made by hand, row by row, as a store of one's choice would fill it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb

from agent.reader.index.reading import open_index
from agent.reader.index.tables import FORMAT, create

if TYPE_CHECKING:
    from pathlib import Path

    from agent.reader.index import Index

START = datetime(2026, 3, 1, tzinfo=UTC)
EPOCHS = ("01jmzzzzzzzzzzzzzzzzzzzzz0", "01jmzzzzzzzzzzzzzzzzzzzzz1", "01jmzzzzzzzzzzzzzzzzzzzzz2", "01jmzzzzzzzzzzzzzzzzzzzzz3")


def at(hours: float) -> datetime:
    """Return the time so many hours after the start."""
    return START + timedelta(hours=hours)


@dataclass
class Trail:
    """One trail: batches follow each other, each with events."""

    made: Made
    number: int
    origin: str
    size: int = 0
    batches: int = 0
    heartbeat_seconds: float = 3600.0

    def batch(self, sealed: datetime, *events: dict[str, Any], reason: str = "age", **columns: Any) -> int:
        """Add a batch with events, and with what else `columns` says; return its number."""
        number, records = self.batches, columns.pop("records", len(events))
        records += columns.get("quarantined", 0) + columns.get("gaps", 0)
        for offset, event in enumerate(events):
            self.made.event(self.number, self.size + offset, number, sealed, event)
        occurred = [event["occurred_at"] for event in events]
        self.size += records + 1
        self.batches += 1
        row: dict[str, Any] = {
            "trail": self.number,
            "batch": number,
            "first_seq": self.size - records - 1,
            "records": records,
            "events": len(events),
            "quarantined": 0,
            "gaps": 0,
            "size": self.size,
            "reason": "open" if number == 0 else reason,
            "sealed_at": sealed,
            "monotonic_ns": int((sealed - START).total_seconds() * 1e9) + 10**15,
            "boot_id": "boot",
            "occurred_min": min(occurred, default=None),
            "occurred_max": max(occurred, default=None),
            "bytes_lost": 0,
            "clock_synchronized": True,
            "clock_offset_seconds": 0.001,
            "clock_max_error_seconds": 0.01,
            "heartbeat_seconds": self.heartbeat_seconds,
            "chained": True,
        }
        self.made.insert("batches", row | columns)
        self.made.execute(
            "UPDATE trails SET size = ?, head_batch = ?, head_sealed_at = ?, head_reason = ?, heartbeat_seconds = ? WHERE trail = ?",
            [self.size, number, plain(sealed), row["reason"], self.heartbeat_seconds, self.number],
        )
        return number

    def skip(self) -> None:
        """Leave a batch out, as if it were missing or had not been verified."""
        self.batches += 1
        self.size += 1

    def hourly(self, first: int, last: int) -> None:
        """Add a heartbeat every hour, from hour to hour."""
        for hour in range(first, last + 1):
            self.batch(at(hour), reason="heartbeat")


@dataclass
class Made:
    """The index; `index` opens it when it is filled."""

    path: Path
    _connection: duckdb.DuckDBPyConnection | None = None
    _index: Index | None = None
    _trails: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._connection = duckdb.connect(str(self.path))
        create(self._connection)
        # One transaction for all rows: each of its own would take most of a test's time.
        self._connection.begin()
        meta = {"format": FORMAT, "store": "/srv/trail", "created_at": at(0), "refreshed_at": at(48), "version": "0.1.0"}
        for name, value in meta.items():
            self.insert("meta", {"name": name, "value": value.isoformat() if isinstance(value, datetime) else value})

    def execute(self, sql: str, parameters: list[Any] | None = None) -> None:
        assert self._connection is not None, "it is open for reading already"
        self._connection.execute(sql, parameters or [])

    def insert(self, table: str, row: dict[str, Any]) -> None:
        values = [plain(value) if isinstance(value, datetime) else value for value in row.values()]
        self.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", values)  # noqa: S608 -- names of columns in tests

    def refreshed(self, when: datetime) -> None:
        self.execute("UPDATE meta SET value = ? WHERE name = 'refreshed_at'", [when.isoformat()])

    def trail(self, namespace: str = "demo", service: str = "payments", *, trusted: bool = True, **columns: Any) -> Trail:
        number = self._trails
        self._trails += 1
        epoch = EPOCHS[number]
        origin = f"{namespace}/{service}/{epoch}/node-1"
        row = {
            "trail": number,
            "origin": origin,
            "namespace": namespace,
            "service": service,
            "epoch": epoch,
            "instance": "node-1",
            "key": f"{origin}+00000000+AQ==",
            "trusted_by": f"{origin}+00000000+AQ==" if trusted else None,
        }
        self.insert("trails", row | columns)
        return Trail(self, number, origin)

    def event(self, trail: int, seq: int, batch: int, sealed: datetime, values: dict[str, Any]) -> None:
        row = {"trail": trail, "seq": seq, "batch": batch, "observed_at": sealed, "source": "stdout", **values}
        row.setdefault("event_id", f"e-{trail}-{seq}")
        self.insert("event_rows", row)
        self.events.append(row)

    def finding(self, code: str, severity: str, origin: str | None, batch: int | None = None, **columns: Any) -> None:
        row = {"origin": origin, "batch": batch, "code": code, "severity": severity, "message": f"it was {code}", "found_at": at(48)}
        self.insert("findings", row | columns)

    @property
    def index(self) -> Index:
        if self._index is None:
            self.close()
            self._index = open_index(self.path)
        return self._index

    def close(self) -> None:
        if self._connection is not None:
            self._connection.commit()
            self._connection.close()
            self._connection = None
        if self._index is not None:
            self._index.close()


def event(
    hours: float = 1, actor: str = "alice", action: str = "role.grant", target: str = "bob", outcome: str = "success", **context: Any
) -> dict[str, Any]:
    """Return an event that occurred so many hours after the start."""
    return {
        "occurred_at": at(hours),
        "actor_type": "user",
        "actor_id": actor,
        "action": action,
        "target_type": "account",
        "target_id": target,
        "outcome": outcome,
        "context": json.dumps(context) if context else None,
    }


def plain(moment: datetime) -> datetime:
    """Return a time as the index holds it."""
    return moment.astimezone(UTC).replace(tzinfo=None)
