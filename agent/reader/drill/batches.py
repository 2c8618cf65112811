"""Tampering with what is there at all: batches, tails, trails, and things put beside them, by somebody who has no key.

Invariants: as in `contents`. Where only an age can tell (a head that is older than it should be), the verification is made at a moment
that the change names, and is compared with the untouched copy at that same moment.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from ...trail.layout import Origin, data_key, seal_key
from ...trail.manifest import ContinuesWhy, ManifestReason
from ...trail.ulid import new_ulid
from ..account import HEARTBEATS
from ..expected import ExpectedTrail
from ..findings import Code
from ..links import read_claim
from .contents import AFTERMATH, UNREAD
from .forge import frame, reseal
from .site import Note, Site, epoch_of, manifest_of, stored_data
from .values import Change, Expectation, Tampering, UntriedError, Who, entry, on_trail

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ...trail.manifest import Manifest

HOUR_SECONDS: Final = 3600.0
_NEW_FINDINGS_OF_A_TAIL: Final = frozenset({Code.LINK_WRONG, Code.TAIL_MISSING, Code.UNCLOSED, Code.DATA_UNSEALED, Code.FORK_REMAINS})


def _without(site: Site, notes: Iterable[Note], *, data: bool = True) -> dict[str, bytes | None]:
    """Return the removal of batches, with their data objects or without."""
    gone: dict[str, bytes | None] = {}
    for note in notes:
        gone[seal_key(site.origin, note.batch)] = None
        if data and note.data_key is not None:
            gone[note.data_key] = None
    return gone


# ---- in the middle ----------------------------------------------------------------------------------------------------------


def _delete_seal(site: Site) -> Change:
    note = site.middle()
    return on_trail(site, _without(site, [note], data=False), f"the seal of batch {note.batch} was removed", [note.batch])


def _delete_batch(site: Site) -> Change:
    note = site.middle(lambda note: note.data_key is not None, "a batch with records")
    return on_trail(site, _without(site, [note]), f"batch {note.batch} was removed, seal and data", [note.batch])


def _delete_first(site: Site) -> Change:
    if len(site.notes) < 2:
        raise UntriedError("the trail has only one batch")
    return on_trail(site, _without(site, site.notes[:1]), "batch 0, which names the key, was removed", [0])


def _close_ranks(site: Site) -> Change:
    """Remove a batch, and give each later one the number before its own."""
    note = site.middle(lambda note: note.data_key is not None, "a batch with records")
    objects = _without(site, [note])
    later = [other for other in site.notes if other.batch > note.batch]
    for other in later:
        objects[seal_key(site.origin, other.batch - 1)] = site.raw_seal(other.batch)
    objects[seal_key(site.origin, site.last.batch)] = None
    done = f"batch {note.batch} was removed, and the {len(later)} later seals were each renamed to the number before"
    return on_trail(site, objects, done, range(note.batch, site.last.batch))


def _swap_seals(site: Site) -> Change:
    first, second = site.middle(), site.last
    objects: dict[str, bytes | None] = {
        seal_key(site.origin, first.batch): site.raw_seal(second.batch),
        seal_key(site.origin, second.batch): site.raw_seal(first.batch),
    }
    return on_trail(site, objects, f"the seals of batches {first.batch} and {second.batch} changed places", [first.batch, second.batch])


def _replay(site: Site) -> Change:
    note, number = site.middle(), site.last.batch + 1
    done = f"the seal of batch {note.batch} was put under the next number, {number}"
    return on_trail(site, {seal_key(site.origin, number): site.raw_seal(note.batch)}, done, [number])


def _splice(site: Site) -> Change:
    note = site.middle()
    if site.others:
        donor = site.random.choice(site.others)
        stored = list(site.store.seals(donor))
        raw = site.raw_seal(min(stored, key=lambda batch: abs(batch - note.batch)), donor)
    else:
        # Without a second trail in the copy, one is made of this one: the same batches under another name, signed by somebody else.
        donor = Origin(site.origin.namespace, site.origin.service, site.origin.epoch, _other_instance(site))
        key = site.key("donor")
        raw = dict(reseal(site, lambda _: [key], origin=donor, until=note.batch))[seal_key(donor, note.batch)]
    done = f"in the place of batch {note.batch} there is a seal of {donor}"
    return on_trail(site, {seal_key(site.origin, note.batch): raw}, done, [note.batch])


def _other_instance(site: Site) -> str:
    return "drill-" + sha256(str(site.origin).encode()).hexdigest()[:8]


# ---- at the end -------------------------------------------------------------------------------------------------------------


def _tail_from(site: Site, first: int) -> list[Note]:
    return [note for note in site.notes if note.batch >= first]


def _refuse_forked(site: Site) -> None:
    """Do not try where a fork explains what is found; the threat model's residual risk 9 says so."""
    claims = (read_claim(site.store, other) for other in site.others)
    if any(claim is not None and claim.link.origin == str(site.origin) and claim.link.why is ContinuesWhy.FORK for claim in claims):
        raise UntriedError("another trail continues this one after a fork, so data without a seal are taken for its remains")


def _cut_seals(site: Site) -> Change:
    """Remove the newest seals, and leave what they sealed."""
    _refuse_forked(site)
    found = [note.batch for note in site.notes[1:] if note.data_key is not None]
    if not found:
        raise UntriedError("the trail has no batch with records")
    tail = _tail_from(site, found[-1])
    change = on_trail(site, _without(site, tail, data=False), f"the newest {len(tail)} seals were removed; their data stayed")
    keys = tuple(note.data_key for note in tail if note.data_key is not None)
    # In flight is what is younger than ten minutes, so it is judged later.
    return Change(objects=change.objects, done=change.done, names=(*change.names, *keys), later_seconds=HOUR_SECONDS)


def _cut_tail(site: Site) -> Change:
    """Remove the newest batches down to one that ends nothing."""
    after = [note for note in site.notes[:-1] if note.reason not in (ManifestReason.STOP, ManifestReason.CLOSE)]
    if not after:
        raise UntriedError("the trail has no batch before its newest one that is no `stop`")
    left = after[-1]
    tail = _tail_from(site, left.batch + 1)
    heartbeat = manifest_of(site, left).agent.heartbeat_seconds
    change = on_trail(
        site, _without(site, tail), f"the newest {len(tail)} batches were removed, seals and data; batch {left.batch} is the head"
    )
    return Change(objects=change.objects, done=change.done, names=change.names, later_seconds=HEARTBEATS * heartbeat + HOUR_SECONDS)


def _roll_back(site: Site, *, fresh: bool) -> Change:
    """Put the trail back to an earlier `stop`, as an older copy of the store would."""
    stops = [note for note in site.notes[:-1] if note.reason is ManifestReason.STOP]
    if not stops:
        raise UntriedError("the trail has no `stop` before its newest batch")
    left = site.random.choice(stops)
    head, old = manifest_of(site, site.last), manifest_of(site, left)
    now = datetime.fromisoformat(head.sealed_at)
    lost = (now - datetime.fromisoformat(old.sealed_at)).total_seconds()
    if lost < 2:
        raise UntriedError("the last `stop` before its newest batch is less than two seconds old")
    tail = _tail_from(site, left.batch + 1)
    done = f"the trail was put back to the `stop` of batch {left.batch}, {lost:,.0f} s before its head; {len(tail)} batches are gone"
    return Change(
        objects=_without(site, tail),
        done=f"{done}; verified right after the head{f' with --fresh {lost / 2:.0f}s' if fresh else ''}",
        names=(str(site.origin),),
        moment=now,
        fresh=timedelta(seconds=lost / 2) if fresh else None,
    )


# ---- whole trails -----------------------------------------------------------------------------------------------------------


def _objects_of(site: Site, origins: Collection[Origin]) -> dict[str, bytes | None]:
    """Return the removal of whole trails: their seals, and the data stored under their epochs, whatever the seals say of it."""
    epochs = set(map(epoch_of, origins))
    if any(epoch_of(other) in epochs for other in (site.origin, *site.others) if other not in origins):
        raise UntriedError("another trail bears the same epoch, so whose data they are cannot be told")
    gone: dict[str, bytes | None] = {seal_key(origin, batch): None for origin in origins for batch in site.store.seals(origin)}
    return gone | dict.fromkeys((info.key for info in stored_data(site.store, epochs)), None)


def _same_instance(site: Site) -> list[Origin]:
    mine = (site.origin.namespace, site.origin.service, site.origin.instance)
    return [site.origin, *(other for other in site.others if (other.namespace, other.service, other.instance) == mine)]


def _delete_instance(site: Site, *, expected: bool) -> Change:
    origins = _same_instance(site)
    if not expected and len(origins) > len(site.others):
        raise UntriedError("the copy holds no trail but this instance's, and an empty store is never intact")
    claims = [claim for claim in (read_claim(site.store, other) for other in site.others) if claim is not None]
    if not expected and any(claim.successor not in origins and claim.link.origin in set(map(str, origins)) for claim in claims):
        raise UntriedError("another instance continues this one")
    mine = ExpectedTrail(site.origin.namespace, site.origin.service, site.origin.instance, since=None, max_silence=None, line=1)
    others = [
        ExpectedTrail(other.namespace, other.service, other.instance, since=None, max_silence=None, line=1)
        for other in site.others
        if other not in origins
    ]
    return Change(
        objects=_objects_of(site, origins),
        done=f"all {len(origins)} trails of {mine} were removed, with their data{'; --expected names them' if expected else ''}",
        names=(str(mine), site.store.name),
        expected=(mine, *others) if expected else None,
    )


def _delete_older_epoch(site: Site) -> Change:
    claim = read_claim(site.store, site.origin)
    older = next((other for other in site.others if claim is not None and str(other) == claim.link.origin), None)
    if older is None:
        raise UntriedError("the trail continues no other one of the copy")
    return Change(objects=_objects_of(site, [older]), done=f"{older} was removed, which this trail continues", names=(str(older),))


def _delete_everything(site: Site) -> Change:
    gone: dict[str, bytes | None] = dict.fromkeys(info.key for info in site.store.objects(""))
    return Change(objects=gone, done=f"all {len(gone):,} objects were removed", names=(site.store.name,))


# ---- beside the trails --------------------------------------------------------------------------------------------------------


def _plant_file(site: Site) -> Change:
    key = f"records/namespace={site.origin.namespace}/service={site.origin.service}/invented-by-the-drill.ndjson"
    raw = b"".join(line + b"\n" for line in site.lines(site.with_events())[:1])
    return Change(objects={key: raw}, done=f"a file with an event was put beside the data ({key})", names=(key,))


def _plant_data(site: Site) -> Change:
    _refuse_forked(site)
    note = site.with_events()
    raw = frame(site.lines(note))
    day = manifest_of(site, note).sealed_at[:10]
    first_seq = max(note.first_seq - 1, 0)
    key = data_key(site.origin, first_seq, day, sha256(raw).digest())
    done = f"a data object that no seal names was put among the trail's own ({key}); verified an hour later"
    return Change(objects={key: raw}, done=done, names=(key,), later_seconds=HOUR_SECONDS)


def _plant_trail(site: Site) -> Change:
    epoch = new_ulid(round(site.now.timestamp() * 1000), sha256(f"{site.seed}/{site.name}".encode()).digest()[:10])
    name = Origin(site.origin.namespace, site.origin.service, epoch, _other_instance(site))
    key = site.key("stranger")
    objects: dict[str, bytes | None] = dict(reseal(site, lambda _: [key], origin=name, edit=_renamed_key(str(key.verifier)), until=3))
    return Change(
        objects=objects, done=f"a trail of {len(objects)} objects, signed by a stranger, was put in as {name}", names=(str(name),)
    )


def _renamed_key(key: str) -> Callable[[Manifest], Manifest]:
    return lambda manifest: msgspec.structs.replace(manifest, key=key, continues=None) if manifest.batch == 0 else manifest


def _link_folder(site: Site) -> Change:
    folder = f"trails/{site.origin.namespace}/{site.origin.service}"
    return Change(objects={}, linked=(folder,), done=f"{folder} was moved away, and a symbolic link put in its place", names=(folder,))


_COPIED: Final = UNREAD | {Code.GAP, Code.SILENCE, Code.AWAY, Code.CLOCK_BACKWARDS, Code.UNCLOSED, Code.HEAD_IN_FUTURE}
"""What the batches of a made-up trail may bring along from the one they were copied from."""
_OF_A_HOLE: Final = AFTERMATH | UNREAD

BATCHES: Final = (
    entry(Who.STORE, "seal-delete", "unseal a stretch of events, so that it proves nothing", _delete_seal, {Code.SEAL_MISSING}, _OF_A_HOLE),
    entry(Who.STORE, "batch-delete", "make a stretch of time empty", _delete_batch, {Code.SEAL_MISSING}, _OF_A_HOLE),
    entry(
        Who.STORE,
        "opening-delete",
        "take away what says whose key it is",
        _delete_first,
        {Code.SEAL_MISSING},
        _OF_A_HOLE | {Code.KEY_UNKNOWN, Code.SIGNATURE_WRONG},
    ),
    entry(Who.STORE, "batches-renumber", "close the hole that a removed batch leaves", _close_ranks, {Code.SEAL_MISPLACED}, _OF_A_HOLE),
    entry(Who.STORE, "seal-swap", "have two stretches of time change places", _swap_seals, {Code.SEAL_MISPLACED}, _OF_A_HOLE),
    entry(Who.STORE, "batch-replay", "let an old, quiet batch stand for what happened since", _replay, {Code.SEAL_MISPLACED}, _OF_A_HOLE),
    entry(Who.STORE, "batch-splice", "pass another service's batch off as this one's", _splice, {Code.SEAL_MISPLACED}, _OF_A_HOLE),
    entry(Who.STORE, "tail-cut-seals", "undo the newest batches, quickly", _cut_seals, {Code.DATA_UNSEALED}, _NEW_FINDINGS_OF_A_TAIL),
    entry(
        Who.STORE,
        "tail-cut",
        "undo the newest batches without a trace",
        _cut_tail,
        {Code.UNCLOSED, Code.TAIL_MISSING},
        _NEW_FINDINGS_OF_A_TAIL,
    ),
    entry(
        Who.STORE,
        "roll-back",
        "restore an older copy of the store, from before the act",
        lambda site: _roll_back(site, fresh=True),
        {Code.NOT_FRESH, Code.TAIL_MISSING},
        _NEW_FINDINGS_OF_A_TAIL,
    ),
    entry(
        Who.STORE,
        "instance-delete",
        "make a service have no audit trail at all",
        lambda site: _delete_instance(site, expected=True),
        {Code.EXPECTED_ABSENT},
        frozenset({Code.STORE_EMPTY, Code.PREDECESSOR_ABSENT}),
    ),
    entry(Who.STORE, "epoch-delete", "lose the older half of a history", _delete_older_epoch, {Code.PREDECESSOR_ABSENT}, _OF_A_HOLE),
    entry(Who.STORE, "store-empty", "lose everything, as if it had never been there", _delete_everything, {Code.STORE_EMPTY}),
    entry(Who.STORE, "file-plant", "have those who read the folder see an event that was never sealed", _plant_file, {Code.FOREIGN_OBJECT}),
    entry(Who.STORE, "data-plant", "have those who read the data see events that were never sealed", _plant_data, {Code.DATA_UNSEALED}),
    entry(Who.STORE, "trail-plant", "put a made-up trail beside the genuine ones", _plant_trail, {Code.KEY_UNKNOWN}, _COPIED),
    entry(
        Who.STORE,
        "folder-link",
        "hide trails behind a link, so that a listing shows none",
        _link_folder,
        {Code.OBJECT_UNREADABLE},
        _OF_A_HOLE | {Code.STORE_EMPTY, Code.PREDECESSOR_ABSENT, Code.FOREIGN_OBJECT},
    ),
)

STORE_LIMITS: Final = (
    Tampering(
        name="roll-back-unasked",
        who=Who.STORE,
        wants="restore an older copy of the store that ends in a `stop`, and nobody demands a fresh head",
        must=frozenset({Code.NOT_FRESH, Code.TAIL_MISSING}),
        act=lambda site: _roll_back(site, fresh=False),
        expectation=Expectation.LIMIT,
        remedy="`--fresh`, `max_silence` in the expected file, heads kept elsewhere, and the confirmed-heartbeat metric show it",
    ),
    Tampering(
        name="instance-delete-unasked",
        who=Who.STORE,
        wants="remove a service's trails as a whole, and nobody says which have to be there",
        must=frozenset({Code.EXPECTED_ABSENT}),
        act=lambda site: _delete_instance(site, expected=False),
        expectation=Expectation.LIMIT,
        remedy="`--expected` shows it: nothing inside a trail can prove that another one exists",
    ),
)
