"""Tampering by a forger: somebody who may change the store and signs with a key of their own, because they have not the trail's.

Invariants: the forgeries are right in everything but the key: numbers, hashes, links and names fit. Nobody trusts the drill's keys.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from ...trail.layout import Origin, parse_data_key, seal_key
from ...trail.manifest import Continues, ContinuesWhy, ManifestReason, encode_manifest
from ...trail.note import parse_note, sign_note
from ...trail.ulid import new_ulid
from ..findings import Code
from ..leftovers import IN_FLIGHT_SECONDS
from .contents import AFTERMATH, UNREAD
from .forge import append, opening, reseal, signatures_of, with_manifest, with_other_outcome, with_signatures
from .site import epoch_of, stored_data
from .values import Change, UntriedError, Who, entry, on_trail

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...trail.manifest import Manifest
    from ...trail.note import SigningKey
    from ..fetch import ObjectInfo
    from .site import Note, Site

_OF_A_LINK: Final = frozenset(
    {
        Code.LINK_WRONG,
        Code.TWO_SUCCESSORS,
        Code.TAIL_MISSING,
        Code.PREDECESSOR_ABSENT,
        Code.RESTARTED_UNLINKED,
        Code.WENT_ON,
        Code.RENAMED,
    }
)


def later_epoch(site: Site, purpose: str) -> Origin:
    """Return the name of a made-up epoch of the same instance, which begins at the drill's moment."""
    made = sha256(f"{site.seed}/{site.name}/{purpose}".encode()).digest()[:10]
    return Origin(site.origin.namespace, site.origin.service, new_ulid(round(site.now.timestamp() * 1000), made), site.origin.instance)


def stamp(site: Site, after: timedelta = timedelta()) -> str:
    """Return the drill's moment, or a later one, as a manifest has it."""
    return (site.now + after).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _sign_one(site: Site) -> Change:
    note, key = site.middle(), site.key()
    raw = site.raw_seal(note.batch)
    signed = sign_note(parse_note(site.seal(note.batch).proof.note).text, [key])
    forged = with_signatures(raw, signatures_of(signed))
    return on_trail(
        site, {seal_key(site.origin, note.batch): forged}, f"the seal of batch {note.batch} was signed by a forger", [note.batch]
    )


def _edit_in(site: Site) -> tuple[Note, Callable[[Note, list[bytes]], list[bytes]], int]:
    """Choose an event, and return what changes it while its trail is sealed anew."""
    note = site.with_events()
    at = site.an_event(site.lines(note))
    return note, with_other_outcome(note.batch, at), note.first_seq + at


def _rewrite_from(site: Site) -> Change:
    note, edited, seq = _edit_in(site)
    key = site.key()
    objects: dict[str, bytes | None] = {str(note.data_key): None}
    objects |= reseal(site, lambda _: [key], lines_of=edited, keep=note.batch)
    done = f"the outcome of the event with seq {seq} was changed, and every batch from {note.batch} on sealed anew by a forger"
    return on_trail(site, objects, done, range(note.batch, site.last.batch + 1))


def _sign_all_but_first(site: Site) -> Change:
    if len(site.notes) < 2:
        raise UntriedError("the trail has only one batch")
    key = site.key()
    objects: dict[str, bytes | None] = dict(reseal(site, lambda _: [key], keep=1))
    return on_trail(site, objects, "every batch but the first was sealed anew by a forger", range(1, site.last.batch + 1))


def with_key(signer: SigningKey) -> Callable[[Manifest], Manifest]:
    """Return what makes a first manifest name this key as the epoch's."""

    def edit(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, key=str(signer.verifier)) if manifest.batch == 0 else manifest

    return edit


def _take_over(site: Site, *, keep_signature: bool) -> Change:
    """Seal the whole trail anew, with a first batch that names the forger's key."""
    note, edited, seq = _edit_in(site)
    key = site.key()
    objects: dict[str, bytes | None] = {str(note.data_key): None}
    objects |= reseal(site, lambda _: [key], lines_of=edited, edit=with_key(key))
    how = ""
    if keep_signature:
        first = seal_key(site.origin, 0)
        forged = objects[first] or b""
        objects[first] = with_signatures(forged, signatures_of(forged) + signatures_of(site.raw_seal(0)))
        how = "; the first seal bears the genuine signatures, too"
    done = f"the outcome of the event with seq {seq} was changed, and the whole trail sealed anew under a forger's key{how}"
    return on_trail(site, objects, done, range(site.last.batch + 1))


def _forge_heartbeat(site: Site) -> Change:
    head = site.seal(site.last.batch)
    manifest = msgspec.structs.replace(head.manifest, reason=ManifestReason.HEARTBEAT, sealed_at=stamp(site), unclean=UNSET)
    key, seal = append(head, manifest, site.origin, [site.key()])
    done = f"a heartbeat of this moment, signed by a forger, was put behind the head as batch {seal.manifest.batch}"
    return on_trail(site, {key: seal.raw}, done, [seal.manifest.batch])


def _forge_stop(site: Site) -> Change:
    """Cut the newest batches off, and end the trail in order."""
    note = site.middle()
    head = site.seal(note.batch)
    manifest = msgspec.structs.replace(head.manifest, reason=ManifestReason.STOP, unclean=UNSET)
    key, seal = append(head, manifest, site.origin, [site.key()])
    tail = [other for other in site.notes if other.batch > note.batch]
    objects: dict[str, bytes | None] = {seal_key(site.origin, other.batch): None for other in tail}
    objects |= {other.data_key: None for other in tail if other.data_key is not None}
    objects[key] = seal.raw
    done = f"the {len(tail)} batches after {note.batch} were removed, and a forger's `stop` put there"
    return on_trail(site, objects, done, [seal.manifest.batch])


def _forge_fork(site: Site) -> Change:
    """Open another history from the middle of this one; not where it would explain data that no seal names."""
    named = {note.data_key for note in site.notes}
    stored = stored_data(site.store, {epoch_of(site.origin)})
    if any(info.key not in named and not _in_flight(site, info) for info in stored):
        raise UntriedError("the trail has data without a seal, which would be taken for the remains of the fork")
    note = site.middle()
    checkpoint = site.seal(note.batch).checkpoint()
    link = Continues(str(site.origin), checkpoint.size, checkpoint.root.hex(), ContinuesWhy.FORK)
    name = later_epoch(site, "fork")
    key, raw = opening(site.seal(0).manifest, name, site.key(), link)
    done = f"a second history, {name}, signed by a forger, says that it continues this one from batch {note.batch} on"
    return Change(objects={key: raw}, done=done, names=(str(name), str(site.origin)))


def _in_flight(site: Site, info: ObjectInfo) -> bool:
    """Tell whether a data object waits for its seal, as a verifier sees it: young, and behind the head."""
    behind = parse_data_key(info.key).first_seq >= site.last.first_seq + site.last.records
    return behind and abs(site.now.timestamp() - info.modified) < IN_FLIGHT_SECONDS


def _edit_link(site: Site) -> Change:
    seal = site.seal(0)
    link = Continues(f"{site.origin.namespace}/{site.origin.service}/{'0' * 26}/{site.origin.instance}", 1, "0" * 64, ContinuesWhy.REOPENED)
    said = seal.manifest.continues
    link = msgspec.structs.replace(said, size=said.size + 1) if isinstance(said, Continues) else link
    line = encode_manifest(msgspec.structs.replace(seal.manifest, continues=link))
    done = f"batch 0 says now that it continues {link.origin} at size {link.size}"
    return on_trail(site, {seal_key(site.origin, 0): with_manifest(seal.raw, line)}, done, [0])


def _edit_key(site: Site) -> Change:
    """Name the forger's key in the first manifest, and sign what was signed with it."""
    seal, key = site.seal(0), site.key()
    line = encode_manifest(msgspec.structs.replace(seal.manifest, key=str(key.verifier)))
    note = sign_note(parse_note(seal.proof.note).text, [key])
    raw = line + b"\n\n" + replace(seal.proof, note=note).encode()
    done = "batch 0 names a forger's key now, which signed its old checkpoint"
    return on_trail(site, {seal_key(site.origin, 0): raw}, done, range(site.last.batch + 1))


def _slip_in_key(site: Site) -> Change:
    """Name the forger's key in the first manifest, keep the genuine checkpoint, and seal everything after it anew."""
    note, edited, seq = _edit_in(site)
    seal, key = site.seal(0), site.key()
    objects: dict[str, bytes | None] = {str(note.data_key): None}
    objects |= reseal(site, lambda _: [key], lines_of=edited, keep=1)
    line = encode_manifest(msgspec.structs.replace(seal.manifest, key=str(key.verifier)))
    objects[seal_key(site.origin, 0)] = with_manifest(seal.raw, line)
    done = f"batch 0 names a forger's key under its genuine signature; the outcome of seq {seq} was changed, and all the rest sealed anew"
    return on_trail(site, objects, done, range(site.last.batch + 1))


_OF_A_SIGNATURE: Final = AFTERMATH | UNREAD
_OF_A_KEY: Final = AFTERMATH | UNREAD | _OF_A_LINK | {Code.KEY_UNKNOWN, Code.SIGNATURE_WRONG, Code.PREVIOUS_WRONG}

KEYS: Final = (
    entry(
        Who.FORGER,
        "sign-one",
        "seal one batch anew, and hope that nobody looks at the key",
        _sign_one,
        {Code.SIGNATURE_WRONG},
        _OF_A_SIGNATURE,
    ),
    entry(
        Who.FORGER, "rewrite", "edit an event, and seal everything after it anew", _rewrite_from, {Code.SIGNATURE_WRONG}, _OF_A_SIGNATURE
    ),
    entry(
        Who.FORGER,
        "sign-all",
        "sign everything anew, and keep the first batch that names the key",
        _sign_all_but_first,
        {Code.SIGNATURE_WRONG},
        _OF_A_SIGNATURE,
    ),
    entry(
        Who.FORGER,
        "take-over",
        "have a trail of one's own in the place of the genuine one",
        lambda site: _take_over(site, keep_signature=False),
        {Code.KEY_UNKNOWN},
        frozenset({Code.LINK_WRONG}),
    ),
    entry(
        Who.FORGER,
        "take-over-signed",
        "the same, with the genuine signature beside the forged one",
        lambda site: _take_over(site, keep_signature=True),
        {Code.SIGNATURE_WRONG},
        _OF_A_KEY,
    ),
    entry(Who.FORGER, "heartbeat-forge", "make a stopped agent look alive", _forge_heartbeat, {Code.SIGNATURE_WRONG}, _OF_A_SIGNATURE),
    entry(
        Who.FORGER,
        "stop-forge",
        "make a trail that was cut off look ended",
        _forge_stop,
        {Code.SIGNATURE_WRONG},
        _OF_A_SIGNATURE | {Code.TAIL_MISSING},
    ),
    entry(Who.FORGER, "fork-forge", "have two histories to choose from", _forge_fork, {Code.KEY_UNKNOWN}, _OF_A_LINK | {Code.UNCLOSED}),
    entry(Who.STORE, "link-edit", "tie a trail to another past", _edit_link, {Code.PROOF_WRONG}, _OF_A_LINK | AFTERMATH | UNREAD),
    entry(
        Who.FORGER,
        "key-slip",
        "have a genuine signature vouch for a forger's key",
        _slip_in_key,
        {Code.SIGNATURE_WRONG},
        _OF_A_KEY | {Code.PROOF_WRONG},
    ),
    entry(Who.FORGER, "key-edit", "have another key vouch for everything that follows", _edit_key, {Code.PROOF_WRONG}, _OF_A_KEY),
)
