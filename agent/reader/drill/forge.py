"""What a forger can make: objects that look right as far as their maker can bring it.

Invariants: everything is made with `agent.trail`, so a forgery fails only where the forger lacks something, never because of a slip;
keys are the drill's own. This module must not write to a store, and must not judge.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
import zstandard
from msgspec import UNSET

from ...errors import FormatError, ProofError
from ...trail.layout import data_key, seal_key
from ...trail.manifest import DataObject, RecordCounts
from ...trail.merkle import HASH_BYTES, Frontier, leaf_hashes
from ...trail.record_lines import number_lines, strip_seq
from ...trail.seal import Seal, build_seal
from .site import other_outcome
from .values import UntriedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...trail.layout import Origin
    from ...trail.manifest import Continues, Manifest
    from ...trail.note import SigningKey
    from .site import Note, Site

ZSTD_LEVEL = 3


def frame(lines: Sequence[bytes], *, level: int = ZSTD_LEVEL) -> bytes:
    """Return lines as a data object: one zstd frame with a checksum."""
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=False, write_dict_id=False).compress(
        b"".join(line + b"\n" for line in lines)
    )


def with_data(manifest: Manifest, origin: Origin, lines: Sequence[bytes], raw: bytes) -> Manifest:
    """Return a manifest that names this data object, as if it had been sealed so."""
    digest = sha256(raw).hexdigest()
    key = data_key(origin, manifest.records.first_seq, manifest.sealed_at[:10], digest)
    return msgspec.structs.replace(manifest, data=DataObject(key, len(raw), digest, "zstd", sum(map(len, lines)) + len(lines)))


def signatures_of(raw: bytes) -> bytes:
    """Return the signature lines of a seal."""
    return raw.rpartition(b"\n\n")[2]


def with_signatures(raw: bytes, lines: bytes) -> bytes:
    """Return a seal with other signature lines."""
    return raw.rpartition(b"\n\n")[0] + b"\n\n" + lines


def with_manifest(raw: bytes, line: bytes) -> bytes:
    """Return a seal with another manifest line, and everything else as it was."""
    return line + b"\n\n" + raw.partition(b"\n\n")[2]


def frontier_before_manifest(seal: Seal) -> Frontier:
    """Return the tree before a seal's manifest, which its proof is.

    Raises:
        UntriedError: The proof does not fit the manifest's place.
    """
    try:
        return Frontier(seal.manifest.seq, tuple(reversed(seal.proof.hashes)))
    except (FormatError, ProofError) as error:
        raise UntriedError(f"the proof of batch {seal.manifest.batch} does not fit its place") from error


def with_other_outcome(batch: int, at: int) -> Callable[[Note, list[bytes]], list[bytes]]:
    """Return what gives one event another outcome while its trail is sealed anew: the line with this index in this batch."""

    def edited(note: Note, lines: list[bytes]) -> list[bytes]:
        return [*lines[:at], other_outcome(lines[at]), *lines[at + 1 :]] if note.batch == batch else lines

    return edited


def reseal(  # noqa: PLR0913 -- one argument for each of a forger's choices
    site: Site,
    signers: Callable[[Manifest], Sequence[SigningKey]],
    *,
    origin: Origin | None = None,
    edit: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    lines_of: Callable[[Note, list[bytes]], list[bytes]] = lambda _, lines: lines,
    leaves_of: Callable[[Note, list[bytes]], list[bytes]] = lambda _, lines: lines,
    keep: int = 0,
    hide_before: int | None = None,
    until: int | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Seal a whole trail anew, with every number, hash and link recomputed.

    Args:
        site: The trail.
        signers: The keys that sign a batch.
        origin: Another name for it.
        edit: Changes a manifest before it is sealed; what follows is built on the changed one.
        lines_of: Changes a batch's lines, which are then numbered, counted as events, and stored anew.
        leaves_of: Changes what goes into the tree, while what is stored stays.
        hide_before: A leaf that is stored nowhere goes into the tree before this batch.
        keep: So many batches from the first on stay as they are.
        until: The last batch; all by default.

    Yields:
        Keys and bytes of seals, and of data objects that are other ones.

    Raises:
        UntriedError: The trail has a hole, or something in it cannot be read.
    """
    name = origin or site.origin
    frontier, previous, drift = Frontier.empty(), None, 0
    for note, seal, lines in site.walk():
        if until is not None and note.batch > until:
            return
        if note.batch < keep:
            frontier, previous = seal.frontier(), seal.sha256
            continue
        if note.batch == hide_before:
            frontier = frontier.append(bytes(HASH_BYTES))
        manifest = seal.manifest
        wanted = lines_of(note, lines)
        numbered = number_lines([strip_seq(line)[1] for line in wanted], frontier.size)
        added = len(numbered) - len(lines)
        drift += added
        counts, totals = manifest.records, manifest.totals
        manifest = msgspec.structs.replace(
            manifest,
            seq=frontier.size + len(numbered),
            previous=previous,
            records=msgspec.structs.replace(counts, first_seq=frontier.size, count=counts.count + added, events=counts.events + added),
            totals=msgspec.structs.replace(totals, records=totals.records + drift, events=totals.events + drift),
        )
        if not numbered:
            manifest = msgspec.structs.replace(manifest, data=None, window=None)
        elif numbered != lines or name != site.origin:
            raw = frame(numbered)
            manifest = with_data(manifest, name, numbered, raw)
            yield _data_key_of(manifest), raw
        manifest = edit(manifest)
        sealed, frontier = build_seal(manifest, frontier.extend(leaf_hashes(leaves_of(note, numbered))), str(name), signers(manifest))
        previous = sealed.sha256
        yield seal_key(name, note.batch), sealed.raw


def append(seal: Seal, manifest: Manifest, origin: Origin, signers: Sequence[SigningKey]) -> tuple[str, Seal]:
    """Return the key and the seal of one more batch without records, after a seal.

    Args:
        seal: The head so far.
        manifest: Like the head's; its number, place, link and totals are set here.
        origin: The trail.
        signers: The keys that sign it.
    """
    before, head = seal.frontier(), seal.manifest
    following = msgspec.structs.replace(
        manifest,
        seq=before.size,
        batch=head.batch + 1,
        previous=seal.sha256,
        records=RecordCounts(before.size, 0, 0, 0, 0),
        data=None,
        window=None,
        sources=(),
        totals=head.totals,
        key=UNSET,
        continues=UNSET,
    )
    return seal_key(origin, following.batch), build_seal(following, before, str(origin), signers)[0]


def opening(like: Manifest, origin: Origin, signer: SigningKey, continues: Continues | None) -> tuple[str, bytes]:
    """Return the key and the bytes of a first seal, made like another trail's."""
    manifest = msgspec.structs.replace(like, key=str(signer.verifier), continues=continues)
    return seal_key(origin, 0), build_seal(manifest, Frontier.empty(), str(origin), [signer])[0].raw


def _data_key_of(manifest: Manifest) -> str:
    if manifest.data is None:
        raise UntriedError(f"batch {manifest.batch} has no data object")
    return manifest.data.key
