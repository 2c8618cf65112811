"""Write a directory store of real, signed trails as a company's agents would have written it, without running an agent.

    written = write_store(tmp_path, events=2000)
    written.store, written.trust      # `trailseal verify STORE --trust FILE` exits 0
    written.grants                    # what a test compares an answer with

Two instances of `payments`, one of `console`, and one of `directory` whose state was opened anew half way, so that a second
epoch continues the first. Everything follows from the arguments: the same call makes the same bytes. One batch is in memory
at a time, so ten million events need no more than two thousand. Run as a program it writes a store and prints its facts.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.trail.manifest import ClockState, ManifestReason, SourceProgress, SpoolState, Window
from agent.trail.records import Certainty, GapCause, QuarantineReason, gap_body, quarantine_body

from .evidence_events import Pattern, Stories, Told, patterns
from .evidence_facts import Planted, Written
from .trail_factory import PATH, SOURCE, TrailFactory, stamp
from .trail_factory import write_store as write_objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SINCE: Final = datetime(2026, 2, 1, tzinfo=UTC)
UNTIL: Final = datetime(2026, 7, 1, tzinfo=UTC)
NAMESPACE: Final = "acme"
SERVICES: Final = ("payments", "console", "directory")
_PATTERNS: Final = 4000
_HOUR: Final = timedelta(hours=1)
_LOST_BYTES: Final = 4096
# How much happens in each hour of a working day (UTC); at weekends a fifth of it.
_HOURS: Final = (1, 1, 1, 1, 1, 2, 5, 12, 22, 28, 30, 26, 20, 26, 30, 28, 22, 14, 8, 5, 4, 3, 2, 1)
_SUNDAY_OR_SATURDAY: Final = 6
_SHARES: Final = {"payments": 6.0, "console": 1.5, "directory": 2.5}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all instances have in common."""

    since: datetime
    until: datetime
    seed: int
    batch_records: int
    slot: timedelta
    clean: bool
    closed: bool


class _Instance:
    """Writes the trails of one instance of a service, slot by slot; a slot is one heartbeat interval."""

    def __init__(self, written: Written, plan: _Plan, service: str, name: str, events: int, stories: Sequence[Told], *, role: int) -> None:
        """Open the first epoch. `role` counts the instances of the store: some troubles happen to the first, some to the second."""
        self._written, self._plan, self._service, self._name, self._role = written, plan, service, name, role
        self._rng = random.Random(f"{plan.seed}/{service}/{name}")
        self._patterns = patterns(service, _PATTERNS, self._rng)
        self._by_id = {id(pattern): pattern for pattern in self._patterns}
        self._stories = sorted(stories, key=lambda told: (told.at, told.line))
        self._counts = self._by_hour(events)
        self._made = 0
        self._boot = 0
        self._origins: list[str] = []
        self.trust = ""
        self._trail = self._open(plan.since, {})

    def _open(self, start: datetime, more: dict[str, Any]) -> TrailFactory:
        trail = TrailFactory(
            seed=f"{self._plan.seed}/{self._service}/{self._name}/{len(self._origins)}".encode(),
            start=start,
            namespace=NAMESPACE,
            service=self._service,
            instance=self._name,
            heartbeat_seconds=round(self._plan.slot.total_seconds()),
            **more,
        )
        trail.boot_id = self._boot_id()
        self._origins.append(str(trail.origin))
        self._written.origins += (str(trail.origin),)
        self.trust += trail.trust_line
        return trail

    def _boot_id(self) -> str:
        return f"4c1f0a52-6f0a-4d6e-9f61-{self._role:06d}{self._boot:06d}"

    def _by_hour(self, events: int) -> Iterator[tuple[datetime, int]]:
        """Yield every hour with the number of everyday events in it; they add up exactly."""
        plan = self._plan
        hours = [plan.since + number * _HOUR for number in range(int((plan.until - plan.since) / _HOUR))]
        weights = [
            _HOURS[hour.hour] * (0.2 if hour.isoweekday() >= _SUNDAY_OR_SATURDAY else 1.0) * (0.5 + self._rng.random()) for hour in hours
        ]
        scale, passed, before = events / sum(weights), 0.0, 0
        for number, (hour, weight) in enumerate(zip(hours, weights, strict=True), 1):
            passed += weight * scale
            upto = events if number == len(hours) else int(passed)
            yield hour, upto - before
            before = upto

    def write(self) -> None:
        """Write every slot, and the end."""
        plan = self._plan
        slots = ceil((plan.until - plan.since) / plan.slot)
        hours_a_slot = int(plan.slot / _HOUR)
        for number in range(slots):
            begin = plan.since + number * plan.slot
            hours = list(islice(self._counts, hours_a_slot))
            if self._is_silent(number, slots):
                continue
            self._restart(number, slots, begin)
            self._slot(number, slots, begin, hours)
            self._keep()
        (self._trail.close if plan.closed else self._trail.stop)()
        self._keep()

    def _keep(self) -> None:
        write_objects(self._trail.objects, self._written.store)
        self._written.batches += sum(key.endswith(".seal") for key in self._trail.objects)
        self._trail.objects.clear()

    def _is_silent(self, number: int, slots: int) -> bool:
        """Tell whether the second instance's agent hangs: four heartbeats that do not come, at two thirds of the time."""
        first = slots * 2 // 3
        if self._plan.clean or self._role != 1 or not first <= number < first + 4:
            return False
        if number == first:
            since = self._trail.now
            self._written.planted += (Planted("silence", str(self._trail.origin), since, since + 5 * self._plan.slot),)
        return True

    def _restart(self, number: int, slots: int, begin: datetime) -> None:
        """Stop and resume now and then, once after a crash; open the last instance's state anew at half the time."""
        step = max(2, slots // 5)
        if number == slots // 2 and self._service == "directory":
            before = self._trail
            self._move(before, begin - before.now - timedelta(seconds=1))
            before.close()
            self._keep()
            self._boot += 1
            link = {"continues": before.link(), "offsets": before.offsets, "file_id": before.file_id}
            self._trail = self._open(begin, link)
        elif number and number % step == 0:
            crashed = number // step == 2
            if not crashed:
                self._trail.stop()
            self._boot += 1
            self._trail.boot_id = self._boot_id()
            self._trail.resume(unclean=crashed, after_seconds=40.0)

    @staticmethod
    def _move(trail: TrailFactory, by: timedelta) -> None:
        if by > timedelta():
            trail.now += by
            trail.monotonic_ns += round(by.total_seconds() * 1e9)

    def _slot(self, number: int, slots: int, begin: datetime, hours: Sequence[tuple[datetime, int]]) -> None:
        """Seal what happens in a slot, or a heartbeat."""
        end = begin + self._plan.slot
        placed: list[tuple[datetime, bytes]] = []
        for hour, count in hours:
            placed += self._everyday(hour, count)
        placed += self._told_before(end)
        placed.sort()
        troubled = number % max(3, slots // 8) == 1
        gap = not self._plan.clean and self._role == 0 and number == slots // 3
        first, size = 0, self._plan.batch_records
        while first < len(placed) or (first == 0 and (troubled or gap)):
            chunk = placed[first : first + size]
            reason = ManifestReason.SIZE if len(chunk) == size else ManifestReason.AGE
            self._batch(chunk, reason, end, number, quarantined=2 if troubled and not first else 0, gap=gap and not first)
            first += size
        if not placed and not troubled and not gap:
            after = (end - self._trail.now).total_seconds() - 1
            self._trail.seal(ManifestReason.HEARTBEAT, after_seconds=max(1.0, after), clock=self._clock(number))

    def _everyday(self, hour: datetime, count: int) -> list[tuple[datetime, bytes]]:
        rng = self._rng
        chosen: list[Pattern] = rng.choices(self._patterns, k=count)
        moments = sorted(rng.randrange(3_590_000_000) for _ in range(count))
        text = f"{hour:%Y-%m-%dT%H:}".encode()
        name = self._name.encode()
        made: list[tuple[datetime, bytes]] = []
        for at, pattern in zip(moments, chosen, strict=True):
            self._made += 1
            seconds, micros = divmod(at, 1_000_000)
            line = b'{"stream":"audit","event_id":"%b-%08d","occurred_at":"%b%02d:%02d.%06dZ",%b%d%b' % (
                name,
                self._made,
                text,
                seconds // 60,
                seconds % 60,
                micros,
                pattern.head,
                at % 90_000 + 10_000,
                pattern.tail,
            )
            made.append((hour + timedelta(microseconds=at), line))
        self._count(chosen, hour)
        return made

    def _count(self, chosen: Sequence[Pattern], hour: datetime) -> None:
        written = self._written
        written.by_day[self._service, hour.date()] += len(chosen)
        for pattern_id, count in Counter(map(id, chosen)).items():
            pattern = self._by_id[pattern_id]
            written.by_action[self._service, pattern.action, pattern.outcome] += count
            written.by_actor[pattern.actor] += count

    def _told_before(self, end: datetime) -> Iterator[tuple[datetime, bytes]]:
        """Take the events of stories that are due."""
        while self._stories and self._stories[0].at < end:
            told = self._stories.pop(0)
            self._written.by_day[self._service, told.at.date()] += 1
            self._written.by_action[self._service, told.action, told.outcome] += 1
            self._written.by_actor[told.actor] += 1
            yield told.at, told.line

    def _clock(self, number: int) -> ClockState:
        """Return what is known of the clock: for some days of the third instance nothing good."""
        if self._role == 2 and number % 40 in {21, 22, 23}:
            return ClockState(synchronized=False, offset_seconds=4.2 + number / 1000, max_error_seconds=16.0)
        return ClockState(synchronized=True, offset_seconds=self._rng.randrange(-900, 900) / 1e6, max_error_seconds=0.0052)

    def _batch(
        self, placed: Sequence[tuple[datetime, bytes]], reason: ManifestReason, end: datetime, number: int, *, quarantined: int, gap: bool
    ) -> None:
        """Seal some events (by time), quarantined lines after them, and a gap record last."""
        trail, rng = self._trail, self._rng
        in_a_file = self._service != "console"
        lag = timedelta(microseconds=rng.randrange(40_000, 900_000))
        seen = placed[-1][0] if placed else end - timedelta(minutes=5)
        seen = max(seen + lag, trail.now + lag)
        quiet = 4 * len(placed)
        begin = at = trail.offsets.get(trail.file_id, 0)
        at += 118 * quiet
        source = SOURCE if in_a_file else "stdout"
        bodies: list[bytes] = []
        earliest = seen
        for moment, line in placed:
            observed = max(moment + lag, trail.now)
            earliest = min(earliest, observed)
            text = observed.isoformat(timespec="microseconds")[:26].encode()
            if in_a_file:
                bodies.append(b',"kind":"event","source":"app","at":[%d,%d],"observed_at":"%bZ","event":%b}' % (at, len(line), text, line))
                at += len(line) + 1
            else:
                bodies.append(b',"kind":"event","source":"stdout","observed_at":"%bZ","event":%b}' % (text, line))
        for bad, detail, raw in _BAD_LINES[:quarantined]:
            bodies.append(quarantine_body(source, stamp(seen), bad, detail, raw, (at, len(raw)) if in_a_file else None))
            at += len(raw) + 1
        if gap:
            where = (at, at + _LOST_BYTES)
            why = "the file was cut to nothing before these bytes were read"
            bodies.append(gap_body(source, stamp(seen), GapCause.TRUNCATED, Certainty.KNOWN, *where, why, file_id=trail.file_id, path=PATH))
            at += _LOST_BYTES
            self._written.planted += (Planted("gap", str(trail.origin), seen, seen),)
        if in_a_file:
            trail.offsets[trail.file_id] = at
        events = len(placed)
        first, last = (_occurred(placed[0][1]), _occurred(placed[-1][1])) if placed else (None, None)
        self._written.events += events
        self._written.quarantined += quarantined
        self._written.gaps += gap
        progress = SourceProgress(
            id=source,
            kind="file" if in_a_file else "pipe",
            path=PATH if in_a_file else None,
            file_id=trail.file_id if in_a_file else None,
            from_offset=begin if in_a_file else None,
            to_offset=at if in_a_file else None,
            lines=events + quarantined + quiet,
            audit=events + quarantined,
            observability=quiet,
            quarantined=quarantined,
        )
        trail.seal(
            reason,
            after_seconds=(seen - trail.now).total_seconds() + 2.0,
            bodies=bodies,
            counts={"events": events, "quarantined": quarantined, "gaps": int(gap)},
            window=Window(first, last, stamp(earliest), stamp(seen)),
            sources=(progress,),
            bytes_lost=_LOST_BYTES * gap,
            clock=self._clock(number),
            spool=SpoolState(events % 7, 400 * (events % 7), (events % 7) / 4),
        )


_BAD_LINES: Final = (
    (QuarantineReason.MISSING_FIELD, "actor", b'{"stream":"audit","action":"role.grant","note":"<script>alert(1)</script>"}'),
    (QuarantineReason.NOT_JSON, "byte 38", b'{"stream":"audit","note":"=HYPERLINK(1) \xff'),
)


def _occurred(line: bytes) -> str:
    """Return the `occurred_at` of a line made here."""
    mark = b'"occurred_at":"'
    at = line.index(mark) + len(mark)
    return line[at : line.index(b'"', at)].decode()


def write_store(
    folder: Path,
    *,
    events: int = 2000,
    since: datetime = SINCE,
    until: datetime = UNTIL,
    seed: int = 7,
    services: Sequence[str] = SERVICES,
    batch_records: int = 2000,
    heartbeat: timedelta = timedelta(hours=24),
    closed: bool = True,
    clean: bool = True,
) -> Written:
    """Write a store below a folder, ``store/``, and a trust file beside it, ``trust``.

    Args:
        folder: An existing or new folder.
        events: How many events in all; in a store that is not clean a few less, as one agent was silent.
        since: The beginning, aware, UTC, a whole hour.
        until: The end, not included, a whole hour.
        seed: Where the made-up values come from.
        services: Names of services; the first has two instances.
        batch_records: The most records in a batch.
        heartbeat: The interval that the agents promise, whole hours; every interval of every instance has at least one seal.
        closed: Whether every trail is closed for good; otherwise it is stopped.
        clean: Whether `verify` finds nothing; otherwise the first instance has a gap record and the second a silence.

    Returns:
        Where it is and what is in it.

    Raises:
        ValueError: A time is not a whole hour, or there is none between the two.
    """
    if since >= until or any(moment.minute or moment.second or moment.microsecond for moment in (since, until)) or heartbeat % _HOUR:
        message = "since, until and the heartbeat must be whole hours, in their order"
        raise ValueError(message)
    written = Written(folder / "store", folder / "trust")
    written.store.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{seed}/stories")
    stories = Stories(since=since, until=until, services=services, rounds=min(400, events // 40), rng=rng)
    written.grants = tuple(stories.grants)
    plan = _Plan(since, until, seed, batch_records, heartbeat, clean, closed)
    instances = [(service, number) for service in services for number in range(2 if service == services[0] else 1)]
    shares = [_SHARES.get(service, 2.0) / (2 if service == services[0] else 1) for service, _ in instances]
    left, trust = events - len(stories.told), ""
    for role, (service, number) in enumerate(instances):
        count = round(left * shares[role] / sum(shares[role:]))
        left -= count
        told = [told for told in stories.told if told.service == service] if number == 0 else []
        instance = _Instance(written, plan, service, f"{service}-{number}", count, told, role=role)
        instance.write()
        trust += instance.trust
    written.trust.write_text(trust, encoding="ascii")
    return written


def main() -> None:
    """Write one store and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2000, help="records in a batch at most")
    parser.add_argument("--planted", action="store_true", help="with a gap and a silence")
    options = parser.parse_args()
    begin = time.perf_counter()
    written = write_store(options.folder, events=options.events, seed=options.seed, batch_records=options.batch, clean=not options.planted)
    seconds = time.perf_counter() - begin
    sys.stdout.write(
        f"{written.events:,} events, {len(written.grants)} grants, {written.quarantined} quarantined, {written.gaps} gaps\n"
        f"{written.batches:,} batches in {len(written.origins)} trails, {written.store}, {seconds:.1f} s\n"
    )


if __name__ == "__main__":
    main()
