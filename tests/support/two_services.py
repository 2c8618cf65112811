"""A store with a service that is in scope and one that is not, whose every text holds a word to look for in answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.trail.manifest import AgentState, ContinuesWhy, ManifestReason, SourceProgress, Window
from agent.trail.records import Certainty, GapCause, QuarantineReason, Reworked, gap_body, quarantine_body, reworked_block
from tests.support.trail_factory import TrailFactory, stamp, write_store

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN: Final = "zebra"
"""In every text of the service that is out of scope, its name and its instances' names included."""
LATER: Final = "giraffe"
"""In every text of the records in scope that are of a later time."""
BEGIN: Final = datetime(2026, 3, 1, tzinfo=UTC)
TURN: Final = datetime(2026, 3, 11, tzinfo=UTC)
"""What is of this time or later holds `LATER`."""
SHOWN: Final = "demo/shown"
SECRET: Final = f"demo/secret-{HIDDEN}"
APPROVAL: Final = "CHG-1"


@dataclass(frozen=True, slots=True)
class TwoServices:
    """The store.

    Attributes:
        store: Its folder.
        trust: The trust file.
        shown: The origin in scope.
        hidden: The origins out of scope.
        grant_seq: The seq of an event in scope whose approval is out of scope.
        later_seqs: Seqs in `shown` from `TURN` on: an event, a quarantined line and a gap.
    """

    store: Path
    trust: Path
    shown: str
    hidden: tuple[str, ...]
    grant_seq: int
    later_seqs: tuple[int, ...]


def event(number: int, at: datetime, word: str, *, action: str = "account.change", context: dict[str, Any] | None = None) -> bytes:
    """Return an event with a word in every text."""
    return msgspec.json.encode(
        {
            "stream": "audit",
            "event_id": f"{word}-{number}",
            "occurred_at": stamp(at),
            "actor": {"type": f"user-{word}", "id": f"{word}-actor", "session": f"{word}-session"},
            "action": f"{action}.{word}",
            "target": {"type": f"account-{word}", "id": f"{word}-target"},
            "outcome": ("success", "failure", "denied")[number % 3],
            "context": {f"{word}_note": f"a note of {word}", **(context or {})},
        }
    )


def seal(trail: TrailFactory, at: datetime, lines: list[bytes], word: str, *, troubled: bool = False) -> None:
    """Seal events, and with trouble a quarantined line and a gap behind them."""
    observed = stamp(at + timedelta(seconds=1))
    begin = place = trail.offsets.get(trail.file_id, 0)
    places = []
    for line in lines:
        places.append((place, len(line)))
        place += len(line) + 1
    source, path = f"source-{word}", f"/var/log/{word}/audit.log"
    # As a mapping with a redaction makes them, so that there is a word in these members too.
    mapped = [
        Reworked(
            line,
            f"{word}/rule",
            (f"context.{word}_note", f"actor.{word}"),
            line.replace(b"}", b" }"),
            ("raw", f"context.{word}_gone"),
            at,
            b'"container":%b,' % msgspec.json.encode(f"demo/{word}-pod/{word}"),
        )
        for line, at in zip(lines, places, strict=True)
    ]
    bodies = reworked_block(source, observed, mapped).splitlines()
    if troubled:
        raw = f'{{"stream":"audit","broken":"{word}"}}'.encode()
        bodies.append(quarantine_body(source, observed, QuarantineReason.MISSING_FIELD, f"actor.{word}", raw, (place, len(raw))))
        place += len(raw) + 1
        why = f"lost by {word}"
        bodies.append(
            gap_body(source, observed, GapCause.TRUNCATED, Certainty.KNOWN, place, place + 100, why, file_id=trail.file_id, path=path)
        )
        place += 100
    trail.offsets[trail.file_id] = place
    extra = int(troubled)
    progress = SourceProgress(source, "file", path, trail.file_id, begin, place, len(lines) + extra, len(lines) + extra, 0, extra)
    occurred = [msgspec.json.decode(line)["occurred_at"] for line in lines]
    trail.seal(
        ManifestReason.AGE,
        after_seconds=max(1.0, (at - trail.now).total_seconds() + 2),
        bodies=bodies,
        counts={"events": len(lines), "quarantined": extra, "gaps": extra},
        window=Window(min(occurred, default=None), max(occurred, default=None), observed, observed),
        sources=(progress,),
        bytes_lost=100 * extra,
        agent=AgentState("0.1.0", f"host-{word}.example", trail.boot_id, sha256(word.encode()).hexdigest(), trail.heartbeat_seconds),
    )


def write_two_services(folder: Path, *, with_hidden: bool = True) -> TwoServices:
    """Write the store; without the hidden service, it is what the scope alone would be."""
    shown = TrailFactory(seed=b"shown", start=BEGIN, service="shown", instance="web-1", heartbeat_seconds=864_000)
    asked = event(1, BEGIN + timedelta(days=1, seconds=1), "okapi", action="role.grant", context={"approval_id": APPROVAL})
    seal(shown, BEGIN + timedelta(days=1), [event(0, BEGIN + timedelta(days=1), "okapi"), asked], "okapi", troubled=True)
    grant_seq = shown.frontier.size - 4
    seal(shown, TURN + timedelta(days=1), [event(2, TURN + timedelta(days=1), LATER)], LATER, troubled=True)
    later = shown.frontier.size - 4
    shown.close()
    second = TrailFactory(
        seed=b"shown-2", start=shown.now + timedelta(seconds=30), service="shown", instance="web-1", continues=shown.link(),
        offsets=shown.offsets, file_id=shown.file_id, heartbeat_seconds=864_000,
    )  # fmt: skip
    second.close()
    trails = [shown, second]
    if with_hidden:
        trails += _hidden(shown)
    for trail in trails:
        write_store(trail.objects, folder / "store")
    if with_hidden:
        # A batch whose data is not what was sealed.
        data = next(key for key in trails[-1].objects if key.startswith("records/"))
        (folder / "store" / data).write_bytes(b"not what was sealed")
    trust = folder / "trust.txt"
    trust.write_text("".join(trail.trust_line for trail in trails), encoding="utf-8")
    hidden = tuple(str(trail.origin) for trail in trails[2:])
    return TwoServices(folder / "store", trust, str(shown.origin), hidden, grant_seq, (later, later + 1, later + 2))


def _hidden(shown: TrailFactory) -> list[TrailFactory]:
    service = SECRET.partition("/")[2]
    first = TrailFactory(seed=b"hidden", start=BEGIN, service=service, instance=f"{HIDDEN}-1", heartbeat_seconds=864_000)
    approved = event(8, BEGIN + timedelta(hours=20), HIDDEN, action="role.approve", context={"approval_id": APPROVAL})
    seal(
        first,
        BEGIN + timedelta(days=1),
        [approved, *(event(10 + n, BEGIN + timedelta(days=1), HIDDEN) for n in range(7))],
        HIDDEN,
        troubled=True,
    )
    # It says that it continues a trail of the other service: a contradiction that verification reports.
    thief = TrailFactory(
        seed=b"thief", start=BEGIN + timedelta(days=2), service=service, instance=f"{HIDDEN}-2", continues=shown.link(ContinuesWhy.FORK),
        heartbeat_seconds=864_000,
    )  # fmt: skip
    seal(thief, BEGIN + timedelta(days=3), [event(40, BEGIN + timedelta(days=3), HIDDEN)], HIDDEN)
    return [first, thief]
