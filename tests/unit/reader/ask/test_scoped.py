from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.reader.ask.filters import Scope
from agent.reader.ask.scoped import scoped, scoped_findings, scoped_gaps, scoped_quarantine, scoped_trails
from agent.reader.findings import EXPLANATIONS, Code, Severity
from tests.unit.reader.ask.made import at

if TYPE_CHECKING:
    from tests.unit.reader.ask.made import Made, Trail

MINE = Scope(("demo/*",))


def troubled(made: Made, namespace: str, service: str, **columns: Any) -> Trail:
    trail = made.trail(namespace, service, **columns)
    trail.hourly(0, 9)
    batch = trail.batch(at(10), quarantined=2, gaps=2)
    trail.hourly(11, 20)
    for hours, seq in ((9.5, 10), (9.75, 11)):
        place = {"trail": trail.number, "seq": seq, "batch": batch, "observed_at": at(hours), "source": service}
        made.insert("quarantine", place | {"reason": "missing_field", "detail": "actor", "raw": f"{service} raw", "length": 9})
        made.insert("gaps", place | {"seq": seq + 2, "cause": "truncated", "certainty": "known", "detail": service})
    made.finding("data_altered", "tampered", trail.origin, 15, message=trail.origin, key=f"trails/{trail.origin}/000000000015.seal")
    made.finding("gap", "incomplete", trail.origin, 10)
    return trail


def fill(made: Made) -> tuple[Trail, Trail]:
    other = troubled(made, "other", "secrets")
    mine = troubled(made, "demo", "payments", continues_origin=other.origin)
    made.finding("renamed", "notice", mine.origin, 0, message=f"continues {other.origin}")
    made.finding("foreign_object", "notice", None, key="secrets.txt")
    made.finding("foreign_object", "notice", None, key=f"trails/{other.origin}/000000000099.seal")
    data = f"records/namespace=demo/service=payments/date=2026-03-01/{mine.origin.split('/')[2]}-{0:020d}-{'0' * 16}.ndjson.zst"
    made.finding("data_unsealed", "incomplete", None, key=data)
    made.finding("signature_wrong", "tampered", "other/secrets/01jmzzzzzzzzzzzzzzzzzzzzz3/node-9", 0)
    return mine, other


def everything(made: Made, scope: Scope) -> str:
    return repr(
        (
            scoped_trails(made.index, scope),
            scoped_quarantine(made.index, scope),
            scoped_gaps(made.index, scope),
            scoped_findings(made.index, scope),
        )
    )


def test_what_is_of_another_service_is_never_named(made: Made) -> None:
    mine, other = fill(made)
    shown = everything(made, MINE)
    assert mine.origin in shown
    assert "secrets" not in shown
    assert other.origin not in shown
    assert other.origin.split("/")[2] not in shown
    assert shown != everything(made, Scope())
    assert "secrets" in everything(made, Scope())


def test_without_a_scope_everything_is_there(made: Made) -> None:
    mine, other = fill(made)
    trails = scoped_trails(made.index)
    assert [trail.origin for trail in trails] == [mine.origin, other.origin]
    assert trails[0].continues_origin == other.origin
    assert [len(found) for found in (scoped_quarantine(made.index), scoped_gaps(made.index), scoped_findings(made.index))] == [4, 4, 9]


def test_records_go_on_after_a_place(made: Made) -> None:
    mine, _ = fill(made)
    first, *others = scoped_quarantine(made.index)
    assert (first.origin, first.seq, first.observed_at, first.raw, first.length) == (mine.origin, 10, at(9.5), "payments raw", 9)
    assert scoped_quarantine(made.index, after=(first.origin, first.seq)) == others
    assert scoped_gaps(made.index, limit=1)[0].detail == "payments"


def test_a_range_cuts_records_by_when_they_were_observed_and_trails_by_their_batches(made: Made) -> None:
    fill(made)
    late = Scope(since=at(9.6))
    assert {found.seq for found in scoped_quarantine(made.index, late)} == {11}
    assert {found.seq for found in scoped_gaps(made.index, Scope(until=at(9.6)))} == {12}
    assert len(scoped_trails(made.index, late)) == 2
    assert scoped_trails(made.index, Scope(since=at(21))) == []
    assert scoped_trails(made.index, Scope(until=at(0))) == []


def test_findings_lie_where_the_batches_around_them_do(made: Made) -> None:
    fill(made)
    found = scoped_findings(made.index, Scope(("demo/*",), since=at(16)))
    assert "data_altered" not in [one.code for one in found]
    found = scoped_findings(made.index, Scope(("demo/*",), since=at(14.5), until=at(15)))
    assert (found[0].code, found[0].severity, found[0].indexed) == ("data_altered", Severity.TAMPERED, True)


def test_messages_are_replaced_by_what_their_code_means_where_services_are_hidden(made: Made) -> None:
    fill(made)
    found = {one.code: one for one in scoped_findings(made.index, MINE)}
    assert found["renamed"].message == EXPLANATIONS[Code.RENAMED].meaning
    assert found["data_unsealed"].key is not None
    assert "foreign_object" not in found


def test_a_condition_for_other_tables_holds_services_and_times(made: Made) -> None:
    mine, _ = fill(made)
    condition = scoped(Scope(("demo/*",), since=at(5), until=at(7)), "sealed_at")
    rows = made.index.rows(
        f"SELECT DISTINCT origin, batch FROM batches JOIN trails USING (trail) WHERE {condition.sql} ORDER BY batch",  # noqa: S608 -- a condition under test
        condition.parameters,
    )
    assert rows == [(mine.origin, 5), (mine.origin, 6)]
