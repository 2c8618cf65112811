"""An incident is reconstructed from what verifies, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.reader.drill import timeline
from agent.reader.drill.timeline import Timeline, reconstruct
from agent.reader.fetch import MemoryReader
from agent.trail.layout import seal_key
from agent.trail.manifest import ManifestReason, SourceProgress, Window, encode_manifest
from agent.trail.note import SigningKey, parse_note, sign_note
from agent.trail.records import event_bodies
from agent.trail.seal import parse_seal
from tests.support.copying import trust_of
from tests.support.index_truth import objects_of
from tests.support.trail_factory import PATH, SOURCE, START, TrailFactory, stamp

if TYPE_CHECKING:
    from agent.reader.trustfile import TrustFile


def event(actor: str, action: str, target: str, *, at: int, outcome: str = "success", session: str | None = None, **more: Any) -> bytes:
    """Return an event so many seconds after the start."""
    who = {"type": "user", "id": actor} | ({"session": session} if session else {})
    made = {
        "event_id": f"{actor}-{at}",
        "occurred_at": stamp(START + timedelta(seconds=at)),
        "actor": who,
        "action": action,
        "target": {"type": "user", "id": target},
        "outcome": outcome,
    }
    return msgspec.json.encode(made | more)


def seal_events(trail: TrailFactory, *lines: bytes, after_seconds: float = 5.0) -> None:
    """Seal a batch of these events."""
    observed = stamp(trail.now)
    begin = at = trail.offsets.get(trail.file_id, 0)
    places = []
    for line in lines:
        places.append((at, len(line)))
        at += len(line) + 1
    trail.offsets[trail.file_id] = at
    times = sorted(msgspec.json.decode(line)["occurred_at"] for line in lines)
    progress = SourceProgress(
        id=SOURCE,
        kind="file",
        path=PATH,
        file_id=trail.file_id,
        from_offset=begin,
        to_offset=at,
        lines=len(lines),
        audit=len(lines),
        observability=0,
        quarantined=0,
    )
    trail.seal(
        ManifestReason.AGE,
        after_seconds=after_seconds,
        bodies=event_bodies(SOURCE, observed, list(lines), places),
        counts={"events": len(lines)},
        window=Window(times[0], times[-1], observed, observed),
        sources=(progress,),
    )


@pytest.fixture
def incident() -> tuple[TrailFactory, TrailFactory]:
    """Mallory is made admin, exports, is denied, and somebody else uses her session; all in two services."""
    admin, orders = TrailFactory(seed=b"admin", service="admin"), TrailFactory(seed=b"orders", service="orders")
    seal_events(
        admin, event("eve", "role.grant", "mallory", at=1, context={"granted_role": "admin"}), event("eve", "data.read", "bob", at=2)
    )
    seal_events(orders, event("mallory", "data.export", "all", at=10, session="s-1"), event("bob", "auth.login", "bob", at=11))
    seal_events(admin, event("mallory", "user.delete", "bob", at=20, outcome="denied", session="s-1"))
    seal_events(orders, event("bob", "data.read", "x", at=30, session="s-1"), event("bob", "data.read", "x", at=31, session="s-9"))
    for trail in (admin, orders):
        trail.stop()
    return admin, orders


def rebuilt(
    *trails: TrailFactory, actor: str | None = "mallory", objects: dict[str, bytes] | None = None, trust: TrustFile | None = None
) -> Timeline:
    made = reconstruct(MemoryReader(objects_of(*trails) if objects is None else objects), trust or trust_of(*trails), actor)
    assert made is not None
    return made


def told(made: Timeline) -> list[tuple[str, str, str]]:
    return [(entry.kind, entry.action or entry.remark.split(" ")[0], entry.outcome) for entry in made.entries]


def test_what_somebody_did_and_what_was_done_to_them_is_told_in_order_across_services(incident):
    made = rebuilt(*incident)
    assert told(made) == [
        ("target", "role.grant", "success"),
        ("did", "data.export", "success"),
        ("did", "user.delete", "denied"),
        ("session", "data.read", "success"),
    ]
    assert made.outcomes == {"success": 1, "denied": 1}
    assert made.sessions == {"s-1": 2}
    assert (made.events, made.verified, made.unverified, made.omitted) == (7, 8, 0, 0)
    first = made.entries[0]
    assert (first.origin, first.batch, first.seq) == (str(incident[0].origin), 1, 1)
    assert first.context == '{"granted_role":"admin"}'


def test_events_of_a_batch_that_does_not_verify_are_left_out_and_the_place_is_marked(incident):
    _, orders = incident
    objects = objects_of(*incident)
    (key,) = [key for key in objects if f"{orders.origin.epoch}-{1:020d}" in key]
    objects[key] = objects[key][:-1] + b"?"
    made = rebuilt(*incident, objects=objects)
    assert ("did", "data.export", "success") not in told(made)
    (hole,) = [entry for entry in made.entries if entry.kind == "unverified"]
    assert (hole.origin, hole.batch, hole.seq) == (str(orders.origin), 1, None)
    assert "data_altered" in hole.remark
    assert made.unverified == 1


def test_an_event_that_a_forger_signed_is_left_out(incident):
    admin, orders = incident
    objects = objects_of(*incident)
    key = seal_key(orders.origin, 1)
    raw = objects[key]
    note = parse_seal(raw).proof.note.decode().partition("\n\n")[0] + "\n"
    forged = sign_note(note, [SigningKey.from_seed(str(orders.origin), bytes(32))])
    objects[key] = raw.rpartition(b"\n\n")[0] + b"\n\n" + forged.rpartition(b"\n\n")[2]
    made = rebuilt(*incident, objects=objects)
    assert ("did", "data.export", "success") not in told(made)
    assert any("signature_wrong" in entry.remark for entry in made.entries)
    assert any(entry.origin == str(admin.origin) for entry in made.entries)


def test_a_trail_that_nobody_vouches_for_is_left_out_and_named(incident):
    admin, orders = incident
    made = rebuilt(*incident, trust=trust_of(admin))
    assert {entry.origin for entry in made.entries} == {str(admin.origin)}
    assert made.unvouched == (str(orders.origin),)


def test_a_trail_without_its_first_seal_is_left_out(incident):
    admin, orders = incident
    objects = objects_of(*incident)
    del objects[seal_key(orders.origin, 0)]
    assert rebuilt(*incident, objects=objects).unvouched == (str(orders.origin),)
    assert admin.origin != orders.origin


def test_a_forger_whose_key_was_slipped_under_a_genuine_signature_is_not_believed(incident):
    """The first seal keeps its signature, which does not cover the key that its manifest names."""
    _, orders = incident
    forger = SigningKey.from_seed(str(orders.origin), bytes(32))
    objects = objects_of(*incident)
    first = parse_seal(objects[seal_key(orders.origin, 0)])
    raw = objects[seal_key(orders.origin, 0)]
    line = encode_manifest(msgspec.structs.replace(first.manifest, key=str(forger.verifier)))
    objects[seal_key(orders.origin, 0)] = line + b"\n\n" + raw.partition(b"\n\n")[2]
    for batch in range(1, orders.batch):
        sealed = objects[seal_key(orders.origin, batch)]
        note = sign_note(parse_note(parse_seal(sealed).proof.note).text, [forger])
        objects[seal_key(orders.origin, batch)] = sealed.rpartition(b"\n\n")[0] + b"\n\n" + note.rpartition(b"\n\n")[2]
    made = rebuilt(*incident, objects=objects)
    assert made.unvouched == (str(orders.origin),)
    assert all(entry.origin != str(orders.origin) for entry in made.entries)


def test_gaps_and_silences_stand_where_something_may_be_missing():
    trail = TrailFactory()
    seal_events(trail, event("mallory", "auth.login", "mallory", at=1))
    trail.add(0, gaps=1)
    seal_events(trail, event("bob", "auth.login", "bob", at=9000), after_seconds=9000)
    seal_events(trail, event("mallory", "auth.logout", "mallory", at=9020))
    trail.stop()
    trail.resume(after_seconds=90000)
    trail.stop()
    made = rebuilt(trail)
    assert [entry.kind for entry in made.entries] == ["did", "gap", "silence", "did"]
    gap, silence = made.entries[1:3]
    assert "truncated, known. test loss 0" in gap.remark
    assert "9000 s without a batch" in silence.remark


def test_the_busiest_actor_is_chosen_when_nobody_is_named(incident):
    made = rebuilt(*incident, actor=None)
    assert (made.actor, made.chosen) == ("bob", True)
    assert not rebuilt(*incident, actor="bob").chosen


def test_an_actor_who_did_nothing_has_an_empty_timeline(incident):
    made = rebuilt(*incident, actor="nobody")
    assert (made.entries, made.outcomes, made.sessions) == ((), {}, {})


def test_a_store_without_events_has_no_busiest_actor():
    trail = TrailFactory()
    trail.stop()
    assert reconstruct(MemoryReader(trail.objects), trust_of(trail), None) is None


def test_more_entries_than_are_kept_leave_the_earliest_and_are_counted(monkeypatch):
    monkeypatch.setattr(timeline, "MOST_ENTRIES", 5)
    trail = TrailFactory()
    for batch in reversed(range(4)):
        seal_events(trail, *(event("mallory", f"act-{batch * 10 + number}", "x", at=batch * 10 + number) for number in range(6)))
    trail.stop()
    made = rebuilt(trail)
    assert [entry.action for entry in made.entries] == [f"act-{number}" for number in range(5)]
    assert made.omitted == 24 - 5
    assert made.outcomes == {"success": 24}


def test_an_event_of_another_form_under_a_right_signature_is_counted_and_not_searched():
    """Its own agent would not have sealed it; a thief of the key may."""
    trail = TrailFactory()
    odd = msgspec.json.encode(msgspec.json.decode(event("mallory", "auth.login", "x", at=1)) | {"actor": "mallory"})
    seal_events(trail, odd, event("mallory", "auth.logout", "x", at=2))
    trail.stop()
    made = rebuilt(trail)
    assert [entry.action for entry in made.entries] == ["auth.logout"]
    assert (made.events, made.unreadable, made.unverified) == (1, 1, 0)


def test_a_time_that_is_none_stops_nothing():
    trail = TrailFactory()
    odd = msgspec.json.encode(msgspec.json.decode(event("mallory", "auth.login", "x", at=1)) | {"occurred_at": "2026-13-45T99:99:99Z"})
    seal_events(trail, odd)
    seal_events(trail, event("mallory", "auth.logout", "x", at=2))
    trail.stop()
    made = rebuilt(trail)
    assert [(entry.kind, entry.action) for entry in made.entries] == [("unverified", ""), ("did", "auth.logout")]
    assert "window_wrong" in made.entries[0].remark
    assert replace(made.entries[1], at="no time").moment == timeline._NO_TIME
