"""The place where a drill tampers: one trail of the copy, known batch by batch, and what can be chosen in it.

Invariants: places are chosen by a random generator with a seed that the report names, so a drill can be repeated; a place that does
not exist raises `UntriedError`, never another exception. This module must not change the copy.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from ...errors import FormatError, NotVerifiedError
from ...trail.batch import read_data
from ...trail.layout import seal_key
from ...trail.note import SigningKey
from ...trail.records import RecordKind, decode_record
from ...trail.seal import parse_seal
from ..chain import MAX_DATA_BYTES, MAX_RAW_BYTES
from ..trustfile import MAX_SEAL_BYTES
from .values import UntriedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ...trail.layout import Origin
    from ...trail.manifest import Manifest, ManifestReason
    from ...trail.seal import Seal
    from ..fetch import StoreReader
    from ..trustfile import TrustFile

OUTCOME: Final = re.compile(rb'("outcome"\s*:\s*")(success|failure|denied|unknown)(")')
_OTHER_OUTCOME: Final = {b"success": b"denied", b"failure": b"success", b"denied": b"success", b"unknown": b"success"}


class Note(NamedTuple):
    """What is kept of one batch.

    Attributes:
        batch: Its number.
        reason: Why it was cut.
        first_seq: Its first leaf.
        records: How many records it has.
        events: How many of them are events.
        gaps: How many are gap records.
        data_key: Its data object's key; None without records.
    """

    batch: int
    reason: ManifestReason
    first_seq: int
    records: int
    events: int
    gaps: int
    data_key: str | None


def notes_of(store: StoreReader, origin: Origin) -> tuple[Note, ...]:
    """Return a trail's batches as its seals state them; those that cannot be read are left out."""
    notes: list[Note] = []
    for batch in store.seals(origin):
        try:
            manifest = parse_seal(store.read(seal_key(origin, batch), MAX_SEAL_BYTES) or b"").manifest
        except (FormatError, NotVerifiedError):
            continue
        if manifest.batch == batch:
            records = manifest.records
            key = manifest.data.key if manifest.data else None
            notes.append(Note(batch, manifest.reason, records.first_seq, records.count, records.events, records.gaps, key))
    return tuple(notes)


@dataclass(frozen=True)
class Site:
    """One trail of the copy, and the rest of it.

    Attributes:
        store: The untouched copy.
        origin: The trail that is tampered with.
        notes: Its batches.
        others: The other trails of the copy.
        trust: Whom the verifier believes.
        now: The drill's moment.
        seed: Where every choice comes from.
        name: What is being done; together with the seed it decides the choices.
        stand_in: The key that stands in for the trail's own, where somebody has stolen that; None otherwise.
    """

    store: StoreReader
    origin: Origin
    notes: tuple[Note, ...]
    others: tuple[Origin, ...]
    trust: TrustFile
    now: datetime
    seed: int
    name: str = ""
    stand_in: SigningKey | None = None

    @property
    def random(self) -> random.Random:
        """A generator of its own for each tampering, so that leaving one out does not change the others."""
        return random.Random(f"{self.seed}/{self.name}")  # noqa: S311 -- chooses places to tamper with, protects nothing

    def key(self, purpose: str = "") -> SigningKey:
        """Return a forger's key, which nobody trusts, with the name that the trail's own key has."""
        return SigningKey.from_seed(self.key_name, sha256(f"drill/{self.seed}/{self.name}/{purpose}".encode()).digest())

    @property
    def key_name(self) -> str:
        """The name of the epoch's key, as batch 0 states it."""
        return str(self.seal(0).manifest.key).partition("+")[0]

    # ---- reading ------------------------------------------------------------------------------------------------------------

    def raw_seal(self, batch: int, origin: Origin | None = None) -> bytes:
        """Return a seal's bytes."""
        raw = self.store.read(seal_key(origin or self.origin, batch), MAX_SEAL_BYTES)
        if raw is None:
            raise UntriedError(f"the seal of batch {batch} is missing")
        return raw

    def seal(self, batch: int) -> Seal:
        """Return a seal."""
        try:
            return parse_seal(self.raw_seal(batch))
        except FormatError as error:
            raise UntriedError(f"the seal of batch {batch} cannot be read: {error.message}") from error

    def data(self, note: Note) -> bytes:
        """Return a batch's data object."""
        raw = None if note.data_key is None else self.store.read(note.data_key, MAX_DATA_BYTES)
        if raw is None:
            raise UntriedError(f"batch {note.batch} has no data object")
        return raw

    def lines(self, note: Note) -> list[bytes]:
        """Return a batch's record lines; none for a batch without records."""
        if note.data_key is None:
            return []
        try:
            return list(read_data(self.data(note), MAX_RAW_BYTES))
        except FormatError as error:
            raise UntriedError(f"the data of batch {note.batch} cannot be read: {error.message}") from error

    def walk(self) -> Iterator[tuple[Note, Seal, list[bytes]]]:
        """Yield every batch with its seal and lines.

        Raises:
            UntriedError: The trail has a hole, or something in it cannot be read.
        """
        for expected, note in enumerate(self.notes):
            if note.batch != expected:
                raise UntriedError(f"batch {expected} of {self.origin} cannot be read")
            yield note, self.seal(note.batch), self.lines(note)

    # ---- choosing -----------------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Note:
        """The newest batch."""
        return self.notes[-1]

    def middle(self, wanted: Callable[[Note], bool] = lambda _: True, what: str = "a batch") -> Note:
        """Choose a batch that is neither the first nor the newest, and like this."""
        found = [note for note in self.notes[1:-1] if wanted(note)]
        if not found:
            raise UntriedError(f"the trail has no such place: {what} between its first and its newest batch")
        return self.random.choice(found)

    def with_events(self, least: int = 1) -> Note:
        """Choose a batch with so many events and no gap record, whose statements would cover the tracks; not the newest if possible."""
        found = [note for note in self.notes[1:] if note.events >= least and not note.gaps]
        if not found:
            raise UntriedError(f"the trail has no batch with {least} events and without a gap record")
        return self.random.choice([note for note in found if note is not self.last] or found)

    def two_with_data(self) -> tuple[Note, Note]:
        """Choose two batches with data, the older one first."""
        found = [note for note in self.notes if note.data_key is not None and not note.gaps]
        if len(found) < 2:
            raise UntriedError("the trail has less than two batches with records and without a gap record")
        first, second = sorted(self.random.sample(found, 2))
        return first, second

    def an_event(self, lines: Sequence[bytes]) -> int:
        """Choose an event with an outcome among lines; its index."""
        found = [at for at, line in enumerate(lines) if OUTCOME.search(line) and _is_event(line)]
        if not found:
            raise UntriedError("the batch has no event with an outcome")
        return self.random.choice(found)


def other_outcome(line: bytes) -> bytes:
    """Return an event's line with another outcome: what a person who was refused would want, or one who was not."""
    return OUTCOME.sub(lambda found: found[1] + _OTHER_OUTCOME[found[2]] + found[3], line, count=1)


def _is_event(line: bytes) -> bool:
    try:
        return decode_record(line).kind is RecordKind.EVENT
    except FormatError:
        return False


def manifest_of(site: Site, note: Note) -> Manifest:
    """Return a batch's manifest."""
    return site.seal(note.batch).manifest
