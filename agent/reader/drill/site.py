"""The place where a drill tampers: one trail of the copy, known batch by batch, and what can be chosen in it.

Invariants: places are chosen by a random generator with a seed that the report names, so a drill can be repeated; a place that does
not exist raises `UntriedError`, never another exception. What a seal says is nobody's word yet: a key is taken from it only if it has the
form of a data object's key. This module must not change the copy.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from ...errors import FormatError, NotVerifiedError
from ...trail.batch import read_data
from ...trail.layout import parse_data_key, seal_key
from ...trail.note import SigningKey
from ...trail.record_lines import decode_record
from ...trail.records import RecordKind
from ...trail.seal import parse_seal
from ..chain import MAX_DATA_BYTES, MAX_RAW_BYTES
from ..contents import is_data_key
from ..fetch import RECORDS
from ..trustfile import MAX_SEAL_BYTES
from .values import UntriedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    from ...trail.layout import Origin
    from ...trail.manifest import Manifest, ManifestReason
    from ...trail.seal import Seal
    from ..fetch import ObjectInfo, StoreReader
    from ..trustfile import TrustFile

OUTCOME: Final = re.compile(rb'("outcome"\s*:\s*")(success|failure|denied|unknown)(")')
_OTHER_OUTCOME: Final = {b"success": b"denied", b"failure": b"success", b"denied": b"success", b"unknown": b"success"}


Epoch = tuple[str, str, str]
"""Namespace, service and epoch: what the key of a data object says of its trail."""


class Note(NamedTuple):
    """What is kept of one batch.

    Attributes:
        batch: Its number.
        reason: Why it was cut.
        first_seq: Its first leaf.
        records: How many records it has.
        events: How many of them are events.
        gaps: How many are gap records.
        data_key: Its data object's key; None without records, or where the seal names something else than such a key.
    """

    batch: int
    reason: ManifestReason
    first_seq: int
    records: int
    events: int
    gaps: int
    data_key: str | None


def notes_of(store: StoreReader, origin: Origin) -> tuple[Note, ...]:
    """Return a trail's batches as its seals state them; those that cannot be read are left out.

    Raises:
        NotVerifiedError: The store's listing fails.
    """
    notes: list[Note] = []
    for batch in store.seals(origin):
        try:
            manifest = parse_seal(store.read(seal_key(origin, batch), MAX_SEAL_BYTES) or b"").manifest
        except (FormatError, NotVerifiedError):
            continue
        if manifest.batch == batch:
            records = manifest.records
            key = manifest.data.key if manifest.data and is_data_key(manifest.data.key) else None
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
        """Return a forger's key, which nobody trusts, with the name that the trail's own key has.

        Raises:
            UntriedError: Batch 0, which states that name, cannot be read.
        """
        return SigningKey.from_seed(self.key_name, sha256(f"drill/{self.seed}/{self.name}/{purpose}".encode()).digest())

    @property
    def key_name(self) -> str:
        """The name of the epoch's key, as batch 0 states it; UntriedError if that cannot be read."""
        return str(self.seal(0).manifest.key).partition("+")[0]

    # ---- reading ------------------------------------------------------------------------------------------------------------

    def raw_seal(self, batch: int, origin: Origin | None = None) -> bytes:
        """Return a seal's bytes.

        Raises:
            UntriedError: It is missing.
            NotVerifiedError: It cannot be read, or is larger than a verifier reads.
        """
        raw = self.store.read(seal_key(origin or self.origin, batch), MAX_SEAL_BYTES)
        if raw is None:
            raise UntriedError(f"the seal of batch {batch} is missing")
        return raw

    def seal(self, batch: int) -> Seal:
        """Return a seal.

        Raises:
            UntriedError: It is missing, or has another form.
            NotVerifiedError: As for `raw_seal`.
        """
        try:
            return parse_seal(self.raw_seal(batch))
        except FormatError as error:
            raise UntriedError(f"the seal of batch {batch} cannot be read: {error.message}") from error

    def data(self, note: Note) -> bytes:
        """Return a batch's data object.

        Raises:
            UntriedError: There is none.
            NotVerifiedError: It cannot be read, or is larger than a verifier reads.
        """
        raw = None if note.data_key is None else self.store.read(note.data_key, MAX_DATA_BYTES)
        if raw is None:
            raise UntriedError(f"batch {note.batch} has no data object")
        return raw

    def lines(self, note: Note) -> list[bytes]:
        """Return a batch's record lines; none for a batch without records.

        Raises:
            UntriedError: They are missing, or cannot be read.
            NotVerifiedError: As for `data`.
        """
        if not note.records and note.data_key is None:
            return []
        try:
            return list(read_data(self.data(note), MAX_RAW_BYTES))
        except FormatError as error:
            raise UntriedError(f"the data of batch {note.batch} cannot be read: {error.message}") from error

    def walk(self) -> Iterator[tuple[Note, Seal, list[bytes]]]:
        """Yield every batch with its seal and lines.

        Raises:
            UntriedError: The trail has a hole, or something in it is missing or has another form.
            NotVerifiedError: Something in it cannot be read.
        """
        for expected, note in enumerate(self.notes):
            if note.batch != expected:
                raise UntriedError(f"batch {expected} of {self.origin} cannot be read")
            yield note, self.seal(note.batch), self.lines(note)

    # ---- choosing -----------------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Note:
        """The newest batch; UntriedError if no seal of the trail can be read."""
        if not self.notes:
            raise UntriedError("no seal of the trail can be read")
        return self.notes[-1]

    def middle(self, wanted: Callable[[Note], bool] = lambda _: True, what: str = "a batch") -> Note:
        """Choose a batch that is neither the first nor the newest, and like this.

        Args:
            wanted: Tells whether a batch will do.
            what: What is wanted, for the message.

        Raises:
            UntriedError: There is none.
        """
        found = [note for note in self.notes[1:-1] if wanted(note)]
        if not found:
            raise UntriedError(f"the trail has no such place: {what} between its first and its newest batch")
        return self.random.choice(found)

    def with_events(self, least: int = 1) -> Note:
        """Choose a batch with data, so many events and no gap record, whose statements would cover the tracks; not the newest if possible.

        Raises:
            UntriedError: There is none.
        """
        found = [note for note in self.notes[1:] if note.data_key is not None and note.events >= least and not note.gaps]
        if not found:
            raise UntriedError(f"the trail has no batch with {least} events and without a gap record")
        return self.random.choice([note for note in found if note is not self.last] or found)

    def two_with_data(self) -> tuple[Note, Note]:
        """Choose two batches with data, the older one first.

        Raises:
            UntriedError: The trail has less than two.
        """
        found = [note for note in self.notes if note.data_key is not None and not note.gaps]
        if len(found) < 2:
            raise UntriedError("the trail has less than two batches with records and without a gap record")
        first, second = sorted(self.random.sample(found, 2))
        return first, second

    def an_event(self, lines: Sequence[bytes]) -> int:
        """Choose an event with an outcome among lines; its index.

        Raises:
            UntriedError: There is none.
        """
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


def epoch_of(origin: Origin) -> Epoch:
    """Return whose data a trail's are: its namespace, service and epoch."""
    return origin.namespace, origin.service, origin.epoch


def stored_data(store: StoreReader, epochs: Collection[Epoch]) -> Iterator[ObjectInfo]:
    """Yield the data objects that are stored under these epochs, whatever any seal says.

    Raises:
        NotVerifiedError: The store's listing fails.
    """
    for info in store.objects(RECORDS):
        try:
            data = parse_data_key(info.key)
        except FormatError:
            continue
        if (data.namespace, data.service, data.epoch) in epochs:
            yield info


def manifest_of(site: Site, note: Note) -> Manifest:
    """Return a batch's manifest.

    Raises:
        UntriedError: Its seal is missing, or has another form.
        NotVerifiedError: Its seal cannot be read.
    """
    return site.seal(note.batch).manifest
