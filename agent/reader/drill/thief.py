"""Lies under a right signature: by a thief of the trail's key, or by an agent that was tampered with.

The drill has no service's key. It seals a stretch of the trail anew with a key of its own, trusts that one for this exercise, and then
lies in each way that the numbers of a trail can contradict.

Invariants: the stand-in is made of the copy and never put into it; what a signature covers consistently cannot be contradicted, and the
last entry shows just that. This module must not write to a store.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from ...trail.layout import data_key
from ...trail.manifest import Continues, ContinuesWhy, ManifestReason
from ...trail.record_lines import number_lines, strip_seq
from ..account import HEARTBEATS
from ..findings import Code
from .contents import AFTERMATH, UNREAD
from .forge import append, frame, opening, reseal, with_data, with_other_outcome
from .keys import later_epoch, stamp, with_key
from .values import Change, Expectation, Tampering, UntriedError, Who, entry, on_trail

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...trail.manifest import Manifest
    from ...trail.note import SigningKey
    from ...trail.seal import Seal
    from .site import Note, Site

MOST_BATCHES: Final = 64
"""How many batches the stand-in has at most: a lie needs no long trail."""
_NANOSECONDS: Final = 10**9
_AT: Final = re.compile(rb'("at":\[)([0-9]{1,15},)')
_HEAD_BYTES: Final = 400
"""Where in a record's line its place stands: before what the service wrote, unless the source's id is very long."""


def stand_in(site: Site, signer: SigningKey) -> dict[str, bytes]:
    """Return the objects of the stand-in: the trail's first batches, sealed anew with this key, ended in order.

    Raises:
        UntriedError: The trail has a hole, or too few batches.
    """
    able = [note for note in site.notes[:MOST_BATCHES] if note.reason is not ManifestReason.RESUME]
    if len(able) < 3:
        raise UntriedError("the trail has less than three batches")
    until = able[-1].batch

    def edit(manifest: Manifest) -> Manifest:
        if manifest.batch == 0:
            return with_key(signer)(msgspec.structs.replace(manifest, continues=None))
        if manifest.batch == until:
            return msgspec.structs.replace(manifest, reason=ManifestReason.STOP)
        return manifest

    objects = dict(reseal(site, lambda _: [signer], edit=edit, until=until))
    for note in site.notes:
        if note.batch <= until and note.data_key is not None:
            objects.setdefault(note.data_key, site.data(note))
    return objects


def _signer(site: Site) -> SigningKey:
    if site.stand_in is None:
        raise UntriedError("no key stands in for the trail's own")
    return site.stand_in


def _resealed(site: Site, done: str, batches: list[int] | range, edit: Callable[[Manifest], Manifest]) -> Change:
    signer = _signer(site)
    objects: dict[str, bytes | None] = dict(reseal(site, lambda _: [signer], edit=edit))
    return on_trail(site, objects, done, batches)


def _lie_about_counts(site: Site) -> Change:
    note = site.with_events()

    def edit(manifest: Manifest) -> Manifest:
        records, totals = manifest.records, manifest.totals
        if manifest.batch == note.batch:
            records = msgspec.structs.replace(records, events=records.events - 1, quarantined=records.quarantined + 1)
        if manifest.batch >= note.batch:
            totals = msgspec.structs.replace(totals, events=totals.events - 1, quarantined=totals.quarantined + 1)
        return msgspec.structs.replace(manifest, records=records, totals=totals)

    return _resealed(site, f"batch {note.batch} counts one event as quarantined, and so do all totals after it", [note.batch], edit)


def _one(note: Note, edit: Callable[[Manifest], Manifest]) -> Callable[[Manifest], Manifest]:
    return lambda manifest: edit(manifest) if manifest.batch == note.batch else manifest


def _lie_about_totals(site: Site) -> Change:
    note = site.middle()

    def edit(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, totals=msgspec.structs.replace(manifest.totals, lines=manifest.totals.lines + 1))

    return _resealed(site, f"the totals of batch {note.batch} count a line more", [note.batch, note.batch + 1], _one(note, edit))


def _lie_about_times(site: Site) -> Change:
    note = site.with_events()

    def edit(manifest: Manifest) -> Manifest:
        if manifest.window is None or manifest.window.occurred_min is None:
            raise UntriedError(f"batch {note.batch} states no times")
        early = datetime.fromisoformat(manifest.window.occurred_min) - timedelta(hours=1)
        return msgspec.structs.replace(
            manifest, window=msgspec.structs.replace(manifest.window, occurred_min=early.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        )

    return _resealed(site, f"batch {note.batch} says that its earliest event is an hour older than it is", [note.batch], _one(note, edit))


def _lie_about_offsets(site: Site, shift: int) -> Change:
    found = []
    seen: set[str] = set()
    for note, seal, _ in site.walk():
        files = [source for source in seal.manifest.sources if source.file_id in seen and source.from_offset and not note.gaps]
        found += [(note, str(source.file_id)) for source in files if source.to_offset and source.to_offset > (source.from_offset or 0)]
        seen |= {source.file_id for source in seal.manifest.sources if source.file_id is not None}
    if not found:
        raise UntriedError("no source of the trail has offsets in two batches")
    note, file_id = site.random.choice(found)

    def edit(manifest: Manifest) -> Manifest:
        moved = (
            msgspec.structs.replace(source, from_offset=(source.from_offset or 0) + shift) if source.file_id == file_id else source
            for source in manifest.sources
        )
        return msgspec.structs.replace(manifest, sources=tuple(moved))

    done = f"batch {note.batch} begins {abs(shift)} byte {'after' if shift > 0 else 'before'} the end of what was read before"
    return _resealed(site, done, [note.batch], _one(note, edit))


def _seal_other_leaves(site: Site) -> Change:
    note = site.with_events()
    at = site.an_event(site.lines(note))
    signer = _signer(site)
    objects: dict[str, bytes | None] = dict(reseal(site, lambda _: [signer], leaves_of=with_other_outcome(note.batch, at)))
    done = f"the tree of batch {note.batch} was signed over another event than the one that is stored (seq {note.first_seq + at})"
    return on_trail(site, objects, done, [note.batch])


def _hide_leaf(site: Site) -> Change:
    note = site.with_events()
    signer = _signer(site)
    objects: dict[str, bytes | None] = {later.data_key: None for later in site.notes if later.batch >= note.batch and later.data_key}
    objects |= reseal(site, lambda _: [signer], hide_before=note.batch)
    done = f"before batch {note.batch} the signed tree has a leaf that is stored nowhere; everything after it was renumbered"
    return on_trail(site, objects, done, [note.batch])


def _misnumber(site: Site) -> Change:
    note = site.with_events()
    signer = _signer(site)
    lines = number_lines([strip_seq(line)[1] for line in site.lines(note)], note.first_seq + 1)
    raw = frame(lines)
    key = data_key(site.origin, note.first_seq, site.seal(note.batch).manifest.sealed_at[:10], sha256(raw).digest())
    objects: dict[str, bytes | None] = {str(note.data_key): None, key: raw}
    objects |= reseal(
        site,
        lambda _: [signer],
        edit=_one(note, lambda manifest: with_data(manifest, site.origin, lines, raw)),
        leaves_of=lambda other, given: lines if other.batch == note.batch else given,
    )
    done = f"the records of batch {note.batch} were numbered one too high, and sealed so"
    return on_trail(site, objects, done, [note.batch])


def _misplace(site: Site) -> Change:
    note = site.with_events()
    signer = _signer(site)
    lines = site.lines(note)
    found = [at for at, line in enumerate(lines) if _AT.search(line[:_HEAD_BYTES])]
    if not found:
        raise UntriedError("the records of the batch have no place in a source")
    at = site.random.choice(found)
    moved = _AT.sub(rb"\g<1>9\g<2>", lines[at], count=1)

    def edited(other: Note, given: list[bytes]) -> list[bytes]:
        return [*given[:at], moved, *given[at + 1 :]] if other.batch == note.batch else given

    objects: dict[str, bytes | None] = {str(note.data_key): None}
    objects |= reseal(site, lambda _: [signer], lines_of=edited)
    done = f"the record with seq {note.first_seq + at} claims a place in its source that the batch does not account for"
    return on_trail(site, objects, done, [note.batch])


def _cut_chain(site: Site) -> Change:
    note = site.middle()
    done = f"batch {note.batch} names a previous seal that never was"
    return _resealed(site, done, [note.batch], _one(note, lambda manifest: msgspec.structs.replace(manifest, previous="0" * 64)))


def _move_data(site: Site) -> Change:
    note = site.with_events()
    raw, signer = site.data(note), _signer(site)
    manifest = site.seal(note.batch).manifest
    if manifest.data is None:
        raise UntriedError(f"batch {note.batch} has no data object")
    key = data_key(site.origin, note.first_seq, "1999-12-31", manifest.data.sha256)

    def edit(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, data=msgspec.structs.replace(manifest.data, key=key)) if manifest.data else manifest

    objects: dict[str, bytes | None] = {str(note.data_key): None, key: raw}
    objects |= reseal(site, lambda _: [signer], edit=_one(note, edit))
    done = f"the data of batch {note.batch} was stored and sealed under another day, 1999-12-31"
    return on_trail(site, objects, done, [note.batch])


def _running(site: Site) -> Note:
    """Choose a batch that the same run of the agent cut after another one."""
    return site.middle(lambda note: note.batch > 1 and note.reason is not ManifestReason.RESUME, "a batch of a running agent")


def _turn_back_clock(site: Site) -> Change:
    note = _running(site)
    done = f"the monotonic clock of batch {note.batch} stands at zero"
    return _resealed(site, done, [note.batch], _one(note, lambda manifest: msgspec.structs.replace(manifest, monotonic_ns=0)))


def _fall_silent(site: Site) -> Change:
    note = _running(site)
    pause = (HEARTBEATS + 1) * site.seal(note.batch - 1).manifest.agent.heartbeat_seconds

    def edit(manifest: Manifest) -> Manifest:
        if manifest.batch < note.batch:
            return manifest
        return msgspec.structs.replace(manifest, monotonic_ns=manifest.monotonic_ns + round(pause * _NANOSECONDS))

    return _resealed(site, f"before batch {note.batch} the agent wrote nothing for {pause:g} s more", [note.batch], edit)


def _head(site: Site) -> Seal:
    return site.seal(site.last.batch)


def _future_head(site: Site) -> Change:
    head = _head(site)
    # What is at most three heartbeats ahead may be a difference of clocks.
    ahead = timedelta(days=1, seconds=(HEARTBEATS + 1) * head.manifest.agent.heartbeat_seconds)
    manifest = msgspec.structs.replace(head.manifest, reason=ManifestReason.RESUME, unclean=False, sealed_at=stamp(site, ahead))
    key, seal = append(head, manifest, site.origin, [_signer(site)])
    done = f"batch {seal.manifest.batch} was signed {ahead} ahead of time, so that the trail looks fresh until then"
    return on_trail(site, {key: seal.raw}, done, [seal.manifest.batch])


def _after_close(site: Site) -> Change:
    head, signer = _head(site), _signer(site)
    objects: dict[str, bytes | None] = {}
    for reason in (ManifestReason.RESUME, ManifestReason.CLOSE, ManifestReason.HEARTBEAT):
        manifest = msgspec.structs.replace(head.manifest, reason=reason, unclean=False if reason is ManifestReason.RESUME else UNSET)
        key, head = append(head, manifest, site.origin, [signer])
        objects[key] = head.raw
    done = f"the trail was closed, and batch {head.manifest.batch} put behind its end"
    return on_trail(site, objects, done, [head.manifest.batch])


def _link(site: Site, *, size: int = 0, root: str | None = None, why: ContinuesWhy = ContinuesWhy.REOPENED) -> Continues:
    checkpoint = _head(site).checkpoint()
    return Continues(str(site.origin), checkpoint.size + size, root or checkpoint.root.hex(), why)


def _successor(site: Site, purpose: str, link: Continues) -> tuple[str, bytes, str]:
    name = later_epoch(site, purpose)
    key, raw = opening(site.seal(0).manifest, name, _signer(site), link)
    return key, raw, str(name)


def _two_histories(site: Site) -> Change:
    one, two = _successor(site, "one", _link(site)), _successor(site, "two", _link(site))
    done = f"two trails, {one[2]} and {two[2]}, both continue this one at its head"
    return Change(objects={one[0]: one[1], two[0]: two[1]}, done=done, names=(one[2], two[2], str(site.origin)))


def _wrong_link(site: Site) -> Change:
    key, raw, name = _successor(site, "link", _link(site, root="0" * 64))
    return Change(objects={key: raw}, done=f"{name} continues a tree that this trail never had", names=(name,))


def _missing_head(site: Site) -> Change:
    key, raw, name = _successor(site, "tail", _link(site, size=1, root="0" * 64))
    return Change(objects={key: raw}, done=f"{name} continues this trail one leaf behind its head", names=(name, str(site.origin)))


def _rewrite(site: Site) -> Change:
    note = site.with_events()
    at = site.an_event(site.lines(note))
    signer = _signer(site)
    objects: dict[str, bytes | None] = {str(note.data_key): None}
    objects |= reseal(site, lambda _: [signer], lines_of=with_other_outcome(note.batch, at))
    done = f"the outcome of the event with seq {note.first_seq + at} was changed, and the whole trail sealed anew with its own key"
    return on_trail(site, objects, done)


THIEF: Final = (
    entry(Who.THIEF, "lie-counts", "pass an event off as a malformed line", _lie_about_counts, {Code.COUNTS_WRONG}),
    entry(Who.THIEF, "lie-totals", "have the sums cover a missing line", _lie_about_totals, {Code.TOTALS_WRONG}),
    entry(Who.THIEF, "lie-times", "move events out of the audited period", _lie_about_times, {Code.WINDOW_WRONG}),
    entry(
        Who.THIEF,
        "skip-bytes",
        "leave out what the service wrote",
        lambda site: _lie_about_offsets(site, 1),
        {Code.BYTES_UNACCOUNTED},
        frozenset({Code.POSITION_WRONG}),
    ),
    entry(Who.THIEF, "read-twice", "record the same bytes in two ways", lambda site: _lie_about_offsets(site, -1), {Code.OFFSETS_OVERLAP}),
    entry(Who.THIEF, "other-leaves", "keep one story and prove another", _seal_other_leaves, {Code.ROOT_WRONG}),
    entry(
        Who.THIEF,
        "hidden-leaf",
        "keep room in the tree for a record to be invented later",
        _hide_leaf,
        {Code.SEQ_BROKEN},
        frozenset({Code.GAP}),
    ),
    entry(Who.THIEF, "misnumber", "have a record with another number than its place in the tree", _misnumber, {Code.DATA_MALFORMED}),
    entry(Who.THIEF, "misplace", "pass an invented record off as one that was read", _misplace, {Code.POSITION_WRONG}),
    entry(Who.THIEF, "chain-cut", "have no batch stand behind this one", _cut_chain, {Code.PREVIOUS_WRONG}),
    entry(Who.THIEF, "other-key", "hide an object from those who read by day", _move_data, {Code.DATA_KEY_WRONG}),
    entry(
        Who.THIEF,
        "clock-back",
        "have time to fill in a batch afterwards",
        _turn_back_clock,
        {Code.MONOTONIC_BACKWARDS},
        frozenset({Code.SILENCE, Code.AWAY}),
    ),
    entry(Who.THIEF, "silence", "switch the agent off for a while", _fall_silent, {Code.SILENCE}),
    entry(Who.THIEF, "future-head", "have a dead trail look fresh for days", _future_head, {Code.HEAD_IN_FUTURE}, frozenset({Code.AWAY})),
    entry(
        Who.THIEF, "after-close", "add to a trail that was closed", _after_close, {Code.REASON_WRONG}, frozenset({Code.UNCLOSED, Code.AWAY})
    ),
    entry(Who.THIEF, "fork", "have two histories to choose from", _two_histories, {Code.TWO_SUCCESSORS}, UNREAD | {Code.UNCLOSED}),
    entry(Who.THIEF, "link-wrong", "tie a trail to a past that never was", _wrong_link, {Code.LINK_WRONG}, UNREAD | {Code.UNCLOSED}),
    entry(Who.THIEF, "link-beyond", "cut off what a later trail continues", _missing_head, {Code.TAIL_MISSING}, UNREAD | {Code.UNCLOSED}),
)

THIEF_LIMITS: Final = (
    Tampering(
        name="rewrite-with-the-key",
        who=Who.THIEF,
        wants="rewrite the past, with the trail's own key and the right to replace what is stored",
        must=frozenset({Code.ROOT_WRONG, Code.SIGNATURE_WRONG, Code.PREVIOUS_WRONG}),
        may=AFTERMATH,
        act=_rewrite,
        expectation=Expectation.LIMIT,
        remedy="a retention lock (level `locked`) or a head that somebody else kept shows it: never give key and store to one hand",
    ),
)
