"""What a check of one trail makes of it: counts, the sizes that others continue, its batches, a place to go on from.

Invariants: values only; `Standing` has all that a check needs to go on, and can be written as JSON. This module must not check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from .account import Books

if TYPE_CHECKING:
    from ..trail.manifest import Continues, Manifest
    from ..trail.note import VerifierKey
    from ..trail.seal import Seal
    from .account import Carried
    from .contents import Contents
    from .findings import Severity


@dataclass(slots=True)
class Tally:
    """What was counted while one trail was read.

    Attributes:
        batches: Seals that were well-formed and in their place.
        records: Records of those batches, as their manifests count them.
        events: Events among them.
        quarantined: Quarantined lines among them.
        gaps: Gap records among them.
        data_bytes: Stored bytes of the data objects that were read.
        raw_bytes: Their bytes before compression.
        first_time: ``sealed_at`` of the first such batch.
        head: The manifest of the newest seal, if it was well-formed.
        head_root: The root its checkpoint states.
        key: The epoch's key, from batch 0.
        continues: What batch 0 says about a predecessor.
        trusted_by: The key of the trust file that vouches for the epoch's key (it may be that key); None if none does.
        sealed_keys: How many data keys the seals name.
        sealed_sum: The sum of `mark` over them, to compare sets without keeping them.
    """

    batches: int = 0
    records: int = 0
    events: int = 0
    quarantined: int = 0
    gaps: int = 0
    data_bytes: int = 0
    raw_bytes: int = 0
    first_time: str | None = None
    head: Manifest | None = None
    head_root: bytes = b""
    key: VerifierKey | None = None
    continues: Continues | None = None
    trusted_by: VerifierKey | None = None
    sealed_keys: int = 0
    sealed_sum: int = 0


@dataclass(frozen=True, slots=True)
class Met:
    """What the trail was at a size that another says it continues: the signed root, and what that other carries on."""

    root: bytes
    carried: Carried


@dataclass(frozen=True, slots=True)
class Checked:
    """A batch that was checked: it is signed, and what it seals was read.

    Attributes:
        seal: Its seal.
        contents: Its records.
        severity: The worst that was found in it.
        chained: Whether the tree before it is known, so that the root was recomputed; else only its own seal proves it.
    """

    seal: Seal
    contents: Contents
    severity: Severity
    chained: bool


class Standing(msgspec.Struct, frozen=True):
    """Where a check stands between two batches, to be kept and gone on from.

    Attributes:
        batch: The next batch.
        frontier: The tree before it, as `Frontier.encode` writes it.
        previous: The SHA-256 of the seal before it.
        key: The epoch's key (C2SP vkey).
        books: What the account knows.
    """

    batch: int
    frontier: bytes
    previous: str | None
    key: str | None
    books: Books
