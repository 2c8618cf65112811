"""Tampering with what is stored: events, data objects, manifests, checkpoints, by somebody who has no key.

Invariants: each function chooses one place and returns what to do; it changes nothing itself. What may be found is said beside it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from ...trail.checkpoint import Checkpoint
from ...trail.layout import seal_key
from ...trail.manifest import encode_manifest
from ...trail.merkle import leaf_hash, leaf_hashes
from ...trail.note import Note as SignedNote
from ...trail.note import parse_note
from ...trail.proof import TlogProof
from ...trail.record_lines import number_lines, strip_seq
from ..findings import Code
from ..trustfile import MAX_SEAL_BYTES
from .forge import frame, frontier_before_manifest, with_data, with_manifest
from .site import Note, Site, manifest_of, other_outcome
from .values import Change, UntriedError, Who, entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...trail.manifest import Manifest

_UNSEALED: Final = frozenset({Code.DATA_UNSEALED, Code.DATA_IN_FLIGHT, Code.FORK_REMAINS})
"""What may be said of data whose seal is gone or cannot be read."""
AFTERMATH: Final = _UNSEALED | {Code.LINK_WRONG, Code.UNCLOSED}
"""What may follow from a seal that cannot be relied on: its data, a trail that continues it, and how the trail ends, hang on it."""
UNREAD: Final = frozenset({Code.BYTES_UNACCOUNTED, Code.OFFSETS_OVERLAP})
"""What may follow from data that cannot be relied on: gap records in it say which bytes are lost."""
_LOST: Final = re.compile(rb'("from_offset":)([0-9]+|null)(,"to_offset":)([0-9]+|null)')


def _on_seal(site: Site, note: Note, raw: bytes, done: str) -> Change:
    key = seal_key(site.origin, note.batch)
    return Change(objects={key: raw}, done=f"{done} ({key})", names=(str(site.origin), key), batches=frozenset({note.batch}))


def _on_data(site: Site, note: Note, raw: bytes | None, done: str) -> Change:
    if note.data_key is None:
        raise UntriedError(f"batch {note.batch} has no data object")
    return Change(
        objects={note.data_key: raw},
        done=f"{done} (batch {note.batch}, {note.data_key})",
        names=(str(site.origin), note.data_key),
        batches=frozenset({note.batch}),
    )


# ---- the data ---------------------------------------------------------------------------------------------------------------


def _flip_byte(site: Site) -> Change:
    note = site.with_events()
    raw = bytearray(site.data(note))
    at = site.random.randrange(len(raw))
    raw[at] ^= 1 << site.random.randrange(8)
    return _on_data(site, note, bytes(raw), f"one bit of byte {at:,} was flipped")


def _edited(site: Site) -> tuple[Note, list[bytes], int]:
    note = site.with_events()
    lines = site.lines(note)
    at = site.an_event(lines)
    lines[at] = other_outcome(lines[at])
    return note, lines, note.first_seq + at


def _edit_event(site: Site) -> Change:
    note, lines, seq = _edited(site)
    return _on_data(site, note, frame(lines), f"the outcome of the event with seq {seq} was changed, and the object compressed anew")


def _delete_event(site: Site) -> Change:
    note = site.with_events(2)
    lines = site.lines(note)
    at = site.an_event(lines)
    kept = number_lines([strip_seq(line)[1] for line in lines[:at] + lines[at + 1 :]], note.first_seq)
    return _on_data(site, note, frame(kept), f"the event with seq {note.first_seq + at} was taken out, and the rest renumbered")


def _insert_event(site: Site) -> Change:
    note = site.with_events()
    lines = site.lines(note)
    at = site.an_event(lines)
    more = [*lines[: at + 1], other_outcome(lines[at]), *lines[at + 1 :]]
    numbered = number_lines([strip_seq(line)[1] for line in more], note.first_seq)
    return _on_data(site, note, frame(numbered), f"an invented event was put in after seq {note.first_seq + at}")


def _reorder_events(site: Site) -> Change:
    note = site.with_events(2)
    lines = site.lines(note)
    first, second = sorted(site.random.sample(range(len(lines)), 2))
    lines[first], lines[second] = lines[second], lines[first]
    numbered = number_lines([strip_seq(line)[1] for line in lines], note.first_seq)
    done = f"the records with seq {note.first_seq + first} and {note.first_seq + second} changed places"
    return _on_data(site, note, frame(numbered), done)


def _hide_gap(site: Site) -> Change:
    found = [note for note in site.notes[1:] if note.gaps]
    if not found:
        raise UntriedError("the trail has no gap record")
    note = site.random.choice(found)
    lines = site.lines(note)
    at = next((at for at, line in enumerate(lines) if b'"kind":"gap"' in line[:64]), None)
    if at is None:
        raise UntriedError(f"the data of batch {note.batch} has no gap record")
    lines[at] = _LOST.sub(rb"\1\2\3\2", lines[at], count=1)
    return _on_data(site, note, frame(lines), f"the gap record with seq {note.first_seq + at} states now that no bytes are lost")


def _swap_data(site: Site) -> Change:
    first, second = site.two_with_data()
    return Change(
        objects={str(first.data_key): site.data(second), str(second.data_key): site.data(first)},
        done=f"the data objects of batches {first.batch} and {second.batch} changed places",
        names=(str(site.origin),),
        batches=frozenset({first.batch, second.batch}),
    )


def _delete_data(site: Site) -> Change:
    return _on_data(site, site.with_events(), None, "the data object was removed")


def _halve_data(site: Site) -> Change:
    note = site.with_events()
    raw = site.data(note)
    return _on_data(site, note, raw[: len(raw) // 2], f"the data object was cut to half, {len(raw) // 2:,} bytes")


def _empty_data(site: Site) -> Change:
    return _on_data(site, site.with_events(), b"", "the data object was emptied")


def _uncompress_data(site: Site) -> Change:
    note = site.with_events()
    raw = b"".join(line + b"\n" for line in site.lines(note))
    return _on_data(site, note, raw, "the data object was stored without compression")


def _recompress_data(site: Site) -> Change:
    note = site.with_events()
    raw = frame(site.lines(note), level=1)
    if raw == site.data(note):
        raise UntriedError("another compression gives the same bytes")
    return _on_data(site, note, raw, "the same lines were compressed at another level")


def _extend_data(site: Site) -> Change:
    note = site.with_events()
    return _on_data(site, note, site.data(note) + frame([b"{}"]), "a second zstd frame was put behind the first")


# ---- seals ------------------------------------------------------------------------------------------------------------------


def _extend_seal(site: Site) -> Change:
    note = site.middle()
    return _on_seal(site, note, site.raw_seal(note.batch) + b"\n", "a newline was put behind the seal")


def _halve_seal(site: Site) -> Change:
    note = site.middle()
    raw = site.raw_seal(note.batch)
    return _on_seal(site, note, raw[: len(raw) // 2], "the seal was cut to half")


def _empty_seal(site: Site) -> Change:
    return _on_seal(site, site.middle(), b"", "the seal was emptied")


def _respell_seal(site: Site) -> Change:
    note = site.middle()
    raw = site.raw_seal(note.batch).replace(b'"kind":"manifest"', b'"kind": "manifest"', 1)
    return _on_seal(site, note, raw, "a space was put into the manifest, which still reads the same")


def _blow_up_seal(site: Site) -> Change:
    note = site.middle()
    raw = site.raw_seal(note.batch)
    return _on_seal(site, note, raw + b"\n" * (MAX_SEAL_BYTES + 1 - len(raw)), f"the seal was blown up to {MAX_SEAL_BYTES + 1:,} bytes")


def _edit_manifest(what: str, edit: Callable[[Manifest], Manifest]) -> Callable[[Site], Change]:
    """Return a tampering that changes a manifest, and nothing that vouches for it."""

    def act(site: Site) -> Change:
        note = site.with_events()
        line = encode_manifest(edit(manifest_of(site, note)))
        return _on_seal(site, note, with_manifest(site.raw_seal(note.batch), line), what)

    return act


def _one_event_less(manifest: Manifest) -> Manifest:
    records, totals = manifest.records, manifest.totals
    return msgspec.structs.replace(
        manifest,
        records=msgspec.structs.replace(records, events=records.events - 1, quarantined=records.quarantined + 1),
        totals=msgspec.structs.replace(totals, events=totals.events - 1, quarantined=totals.quarantined + 1),
    )


def _a_day_later(manifest: Manifest) -> Manifest:
    later = datetime.fromisoformat(manifest.sealed_at) + timedelta(days=1)
    return msgspec.structs.replace(manifest, sealed_at=later.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def _another_previous(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, previous="0" * 64)


def _other_bytes_read(manifest: Manifest) -> Manifest:
    if not manifest.sources:
        raise UntriedError("the manifest names no source")
    first = manifest.sources[0]
    moved = msgspec.structs.replace(first, lines=first.lines + 1, observability=first.observability + 1)
    return msgspec.structs.replace(manifest, sources=(moved, *manifest.sources[1:]))


def _forge_consistently(site: Site, *, tree: bool) -> Change:
    """Edit an event, and recompute what follows from it as far as no key is needed."""
    note, lines, seq = _edited(site)
    seal = site.seal(note.batch)
    raw = frame(lines)
    manifest = with_data(seal.manifest, site.origin, lines, raw)
    if manifest.data is None:
        raise UntriedError(f"batch {note.batch} has no data object")
    line = encode_manifest(manifest)
    sealed = with_manifest(seal.raw, line)
    if tree:
        before = site.seal(note.batch - 1).frontier()
        after = before.extend(leaf_hashes(lines))
        signed = parse_note(seal.proof.note)
        root = after.append(leaf_hash(line)).root()
        text = Checkpoint(str(site.origin), manifest.seq + 1, root).text()
        sealed = line + b"\n\n" + TlogProof(manifest.seq, after.proof_of_next_leaf(), replace(signed, text=text).encode()).encode()
    key = seal_key(site.origin, note.batch)
    how = "size, hash, key, tree and root" if tree else "size, hash and key"
    return Change(
        objects={str(note.data_key): None, manifest.data.key: raw, key: sealed},
        done=f"the outcome of the event with seq {seq} was changed; {how} recomputed, the signature kept (batch {note.batch})",
        names=(str(site.origin), key),
        batches=frozenset({note.batch}),
    )


def _rehash(site: Site) -> Change:
    return _forge_consistently(site, tree=False)


def _rebuild(site: Site) -> Change:
    return _forge_consistently(site, tree=True)


# ---- checkpoints, proofs, signatures -------------------------------------------------------------------------------------------


def _with_note(site: Site, note: Note, signed: SignedNote, done: str) -> Change:
    seal = site.seal(note.batch)
    proof = replace(seal.proof, note=signed.encode())
    return _on_seal(site, note, seal.manifest_line + b"\n\n" + proof.encode(), done)


def _another_root(site: Site) -> Change:
    note = site.middle()
    seal = site.seal(note.batch)
    checkpoint = seal.checkpoint()
    text = Checkpoint(checkpoint.origin, checkpoint.size, bytes(32)).text()
    return _with_note(site, note, replace(parse_note(seal.proof.note), text=text), "the signed root was replaced by zeroes")


def _another_size(site: Site) -> Change:
    note = site.middle()
    seal = site.seal(note.batch)
    checkpoint = seal.checkpoint()
    text = Checkpoint(checkpoint.origin, checkpoint.size + 1, checkpoint.root).text()
    return _with_note(site, note, replace(parse_note(seal.proof.note), text=text), "the signed tree size was raised by one")


def _flip_signature(site: Site) -> Change:
    note = site.middle()
    signed = parse_note(site.seal(note.batch).proof.note)
    first = signed.signatures[0]
    flipped = replace(first, signature=bytes([first.signature[0] ^ 1]) + first.signature[1:])
    return _with_note(site, note, replace(signed, signatures=(flipped, *signed.signatures[1:])), "one bit of the signature was flipped")


def _another_signature(site: Site) -> Change:
    note = site.middle()
    signed = parse_note(site.seal(note.batch).proof.note)
    older = parse_note(site.seal(note.batch - 1).proof.note)
    done = f"the signature of batch {note.batch - 1} was put in the place of its own"
    return _with_note(site, note, replace(signed, signatures=older.signatures[:1]), done)


def _another_proof(site: Site) -> Change:
    note = site.middle(lambda note: note.first_seq + note.records > 0, "a batch with a proof")
    seal = site.seal(note.batch)
    frontier_before_manifest(seal)
    hashes = (bytes(32), *seal.proof.hashes[1:])
    proof = replace(seal.proof, hashes=hashes)
    return _on_seal(
        site, note, seal.manifest_line + b"\n\n" + proof.encode(), "the first hash of the inclusion proof was replaced by zeroes"
    )


_OF_A_PROOF: Final = AFTERMATH | {Code.PREVIOUS_WRONG}
"""Where the tree comes out right all the same, the next batch tells that this seal has other bytes."""
_ALTERED: Final = {Code.DATA_ALTERED}
_BROKEN: Final = {Code.SEAL_MALFORMED}
_PROOF: Final = {Code.PROOF_WRONG}
_SIGNED: Final = {Code.SIGNATURE_WRONG}

CONTENTS: Final = (
    entry(Who.STORE, "data-bit", "make an event unreadable and call it bad luck", _flip_byte, _ALTERED, UNREAD),
    entry(Who.STORE, "event-edit", "turn a refusal into a permission, or hide that it was one", _edit_event, _ALTERED, UNREAD),
    entry(Who.STORE, "event-delete", "make one act undone", _delete_event, _ALTERED, UNREAD),
    entry(Who.STORE, "event-insert", "put an act on somebody else's account", _insert_event, _ALTERED, UNREAD),
    entry(Who.STORE, "event-reorder", "make a permission come before the act that it was for", _reorder_events, _ALTERED, UNREAD),
    entry(Who.STORE, "event-edit-rehash", "edit an event so that its object's hash fits again", _rehash, _PROOF, AFTERMATH | UNREAD),
    entry(Who.STORE, "event-edit-rebuild", "edit an event so that hash and tree fit again", _rebuild, _SIGNED, AFTERMATH | UNREAD),
    entry(Who.STORE, "gap-edit", "make a stated loss look smaller", _hide_gap, _ALTERED, UNREAD),
    entry(Who.STORE, "data-swap", "move what happened to another time", _swap_data, _ALTERED, UNREAD),
    entry(Who.STORE, "data-delete", "remove a stretch of events, and keep its seal", _delete_data, {Code.DATA_MISSING}, UNREAD),
    entry(Who.STORE, "data-half", "lose the end of a batch, as if a disk had been full", _halve_data, _ALTERED, UNREAD),
    entry(Who.STORE, "data-empty", "lose a batch, as if a write had failed", _empty_data, _ALTERED, UNREAD),
    entry(Who.STORE, "data-uncompressed", "have readers see another object than the verifier", _uncompress_data, _ALTERED, UNREAD),
    entry(Who.STORE, "data-recompressed", "exchange an object for one that 'says the same'", _recompress_data, _ALTERED, UNREAD),
    entry(Who.STORE, "data-trailing", "add lines that some readers see and others do not", _extend_data, _ALTERED, UNREAD),
    entry(Who.STORE, "seal-trailing", "have a seal in two spellings", _extend_seal, _BROKEN, AFTERMATH),
    entry(Who.STORE, "seal-half", "damage a seal, as if a disk had been full", _halve_seal, _BROKEN, AFTERMATH),
    entry(Who.STORE, "seal-empty", "damage a seal, as if a write had failed", _empty_seal, _BROKEN, AFTERMATH),
    entry(Who.STORE, "seal-respelled", "have two texts for one statement", _respell_seal, _BROKEN, AFTERMATH),
    entry(Who.STORE, "seal-huge", "exhaust whoever verifies", _blow_up_seal, {Code.OBJECT_UNREADABLE}, AFTERMATH),
    entry(
        Who.STORE,
        "count-edit",
        "have the books agree with a missing event",
        _edit_manifest("one event less is counted", _one_event_less),
        _PROOF,
        AFTERMATH,
    ),
    entry(
        Who.STORE,
        "clock-edit",
        "move a batch out of the audited period",
        _edit_manifest("sealed a day later now", _a_day_later),
        _PROOF,
        AFTERMATH,
    ),
    entry(
        Who.STORE,
        "previous-edit",
        "cut the hash chain",
        _edit_manifest("`previous` names no seal now", _another_previous),
        _PROOF,
        _OF_A_PROOF,
    ),
    entry(
        Who.STORE,
        "source-edit",
        "pass an audit line off as an ordinary one",
        _edit_manifest("one line more was ordinary", _other_bytes_read),
        _PROOF,
        AFTERMATH,
    ),
    entry(Who.STORE, "root-edit", "have another tree signed", _another_root, _SIGNED, AFTERMATH | {Code.PROOF_WRONG, Code.ROOT_WRONG}),
    entry(
        Who.STORE,
        "size-edit",
        "have a longer or shorter tree signed",
        _another_size,
        _SIGNED,
        AFTERMATH | {Code.PROOF_WRONG, Code.ROOT_WRONG},
    ),
    entry(Who.STORE, "proof-edit", "break the way from an event to the signature", _another_proof, _PROOF, _OF_A_PROOF),
    entry(Who.STORE, "signature-bit", "make a batch disputable", _flip_signature, _SIGNED, AFTERMATH),
    entry(Who.STORE, "signature-replay", "use a genuine signature for another batch", _another_signature, _SIGNED, AFTERMATH),
)
