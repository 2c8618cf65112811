"""Reviews: what is signed, and that nothing a store holds is believed too easily."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import ConfigError, NotVerifiedError
from agent.reader.ask.filters import Filter, Scope
from agent.reader.ask.search import count
from agent.reader.control.controls import controls
from agent.reader.control.pipeline import Weight
from agent.reader.control.reviews import MAX_DOUBTED, Standing, reviews, standing
from agent.reader.control.signing import Signature, review_event
from agent.reader.control.table import Fact
from agent.reader.own_trail.events import event_line
from tests.unit.reader.ask.made import at, event, plain
from tests.unit.reader.control.conftest import NOW

if TYPE_CHECKING:
    from agent.events.catalog import Catalog
    from tests.unit.reader.ask.made import Made
    from tests.unit.reader.control.conftest import Company

SIGNATURE = Signature("ada@example.com", "role grants", "None.", "no_findings")
MARCH = Filter(action=("role.*",), since=datetime(2026, 3, 1, tzinfo=UTC), until=datetime(2026, 4, 1, tzinfo=UTC))


def keep(made: Made, signed: dict[str, Any], *, trusted: bool = True) -> None:
    """Put a review into an index, as if an agent had sealed it."""
    row = {
        "occurred_at": datetime.fromisoformat(signed["occurred_at"]),
        "event_id": signed["event_id"],
        "actor_type": signed["actor"]["type"],
        "actor_id": signed["actor"]["id"],
        "action": signed["action"],
        "target_type": signed["target"]["type"],
        "target_id": signed["target"]["id"],
        "outcome": signed["outcome"],
        "context": json.dumps(signed["context"]),
    }
    made.trail("trailseal", "reviews", trusted=trusted).batch(at(40), row)


def fact(made: Made) -> tuple[Weight, str]:
    """Return what the control table says of the reviews."""
    table = controls(made.index, now=NOW)
    found = next(each for control in table.controls for each in control.facts if each.fact is Fact.REVIEWS)
    return found.weight, found.sentence


class TestSigning:
    def test_it_states_who_what_which_and_how_many(self, company: Company) -> None:
        signed = review_event(company.index, MARCH, SIGNATURE, NOW, more={"machine_user": "ada"})
        context = signed["context"]
        assert signed["actor"] == {"type": "reviewer", "id": "ada@example.com"}
        assert signed["target"] == {"type": "store", "id": str(company.written.store)}
        assert context["range"] == {"since": "2026-03-01T00:00:00.000000Z", "until": "2026-04-01T00:00:00.000000Z"}
        assert context["matched"] == count(company.index, MARCH) > 0
        assert context["filter"] == {"action": ["role.*"]}
        assert (context["query"], context["finding"], context["result"]) == ("role grants", "None.", "no_findings")
        assert context["machine_user"] == "ada"
        assert context["verdict"] == "incomplete"

    def test_it_fixes_what_was_there_by_every_trail_s_head(self, company: Company) -> None:
        context = review_event(company.index, MARCH, SIGNATURE, NOW)["context"]
        trails = {trail.origin: trail for trail in company.index.trails()}
        assert [head["origin"] for head in context["heads"]] == sorted(company.written.origins)
        for head in context["heads"]:
            trail = trails[head["origin"]]
            assert trail.root is not None
            assert (head["size"], head["root"]) == (trail.size, trail.root.hex())

    def test_only_trails_that_were_asked_for_are_fixed(self, company: Company) -> None:
        heads = review_event(company.index, Filter(service=("payments",)), SIGNATURE, NOW)["context"]["heads"]
        assert {head["origin"].split("/")[1] for head in heads} == {"payments"}

    def test_the_event_is_valid_whatever_the_reviewer_writes(self, company: Company) -> None:
        odd = Signature("a\0b\ud800", 'x"\n', "\u202e" * 8000, "findings")
        event_line(review_event(company.index, Filter(text="\U0001f600"), odd, NOW))

    def test_a_category_is_understood_with_a_catalog(self, company: Company, catalog: Catalog) -> None:
        asked = Filter(category=("authentication",))
        assert review_event(company.index, asked, SIGNATURE, NOW, catalog=catalog)["context"]["matched"] == count(
            company.index, asked, catalog=catalog
        )

    @pytest.mark.parametrize("service", ["nothing", "other/payments"])
    def test_what_is_not_there_cannot_be_reviewed(self, company: Company, service: str) -> None:
        with pytest.raises(NotVerifiedError):
            review_event(company.index, Filter(service=(service,)), SIGNATURE, NOW)

    def test_an_empty_store_cannot_be_reviewed(self, made: Made) -> None:
        with pytest.raises(NotVerifiedError):
            review_event(made.index, Filter(), SIGNATURE, NOW)

    @pytest.mark.parametrize(
        "wrong",
        [
            ("", "q", "f", "findings"),
            ("r", " \n", "f", "findings"),
            ("r", "q", "", "findings"),
            ("r", "q", "f", "fine"),
            ("r", "q", "f" * 8193, "findings"),
        ],
    )
    def test_a_signature_without_words_is_refused(self, wrong: tuple[str, str, str, str]) -> None:
        with pytest.raises(ConfigError):
            Signature(*wrong)


class TestReading:
    def test_what_was_signed_is_read_back(self, made: Made, company: Company) -> None:
        signed = review_event(company.index, MARCH, SIGNATURE, NOW)
        keep(made, signed)
        [found] = reviews(made.index)
        assert (found.reviewer, found.query, found.finding, found.result) == ("ada@example.com", "role grants", "None.", "no_findings")
        assert (found.since, found.until, found.signed_at) == (MARCH.since, MARCH.until, NOW)
        assert found.matched == signed["context"]["matched"]
        assert [head.origin for head in found.heads] == sorted(company.written.origins)
        assert found.trusted

    def test_a_review_that_somebody_slipped_in_is_said_to_be_vouched_for_by_nobody(self, made: Made, company: Company) -> None:
        keep(made, review_event(company.index, MARCH, SIGNATURE, NOW), trusted=False)
        assert [each.doubt for each in reviews(made.index)] == ["nobody vouches for this trail"]
        assert fact(made) == (
            Weight.ATTENTION,
            "0 reviews were signed. 1 more is in a trail that is not the reviewers', or that nobody vouches for.",
        )

    def test_a_review_that_a_service_prints_into_its_own_trail_is_no_evidence(self, made: Made, company: Company) -> None:
        keep(made, review_event(company.index, MARCH, SIGNATURE, NOW))
        made.trail("demo", "payments").batch(at(41), {**event(action="review.sign", actor="me"), "occurred_at": NOW})
        assert [each.doubt for each in reviews(made.index)] == ["in the trail of demo/payments, not of trailseal/reviews", ""]
        weight, sentence = fact(made)
        assert weight is Weight.ATTENTION
        assert sentence.startswith("1 review was signed, the newest by ada@example.com. 1 more is")

    def test_no_crowd_of_forged_reviews_pushes_a_signed_one_out(self, made: Made, company: Company) -> None:
        keep(made, review_event(company.index, MARCH, SIGNATURE, NOW))
        forged = [{**event(action="review.sign", actor=f"me-{number}"), "occurred_at": at(number / 100)} for number in range(50)]
        made.trail("demo", "payments").batch(at(41), *forged[:25])
        made.trail("trailseal", "reviews", trusted=False).batch(at(41), *forged[25:])
        found = reviews(made.index, limit=3)
        assert [(each.reviewer, bool(each.doubt)) for each in found] == [("me-48", True), ("me-49", True), ("ada@example.com", False)]

    def test_reviews_that_are_too_many_to_be_listed_are_not_said_to_be_all(self, made: Made, company: Company) -> None:
        keep(made, review_event(company.index, MARCH, SIGNATURE, NOW))
        forged = [{**event(action="review.sign", actor="me"), "occurred_at": at(1)} for _ in range(MAX_DOUBTED + 1)]
        made.trail("demo", "payments").batch(at(41), *forged)
        assert fact(made)[1].startswith(f"1 review was signed, the newest by ada@example.com. At least {MAX_DOUBTED:,} more are in a trail")

    @pytest.mark.parametrize(
        "context",
        [
            None,
            "{",
            "[1]",
            '"text"',
            "null",
            '{"range":7,"heads":7,"filter":7,"matched":"7","query":7,"finding":null,"result":["findings"]}',
            '{"range":{"since":"9999-99-99","until":7},"heads":[7,{},{"origin":1,"size":2,"root":3,"seal":4}],"matched":-1}',
            '{"range":{"since":"2026-03-01","until":"0001-01-01T00:00:00+14:00"},"heads":[{"origin":"o","size":1e30,"root":"r","seal":"s"}]}',
            '{"heads":[{"origin":"o","size":99999999999999999999999,"root":"r","seal":"s"}],"matched":true}',
            "[" * 5000,
            '{"heads":[{"origin":"\\ud800","size":1,"root":"r","seal":"s"},{"origin":"o","size":1,"root":"r","seal":"\\udfff"}]}',
            '{"heads":[{"origin":"o","size":true,"root":"r","seal":"s"}]}',
        ],
    )
    def test_no_context_makes_reading_fail(self, made: Made, context: str | None) -> None:
        made.trail("trailseal", "reviews").batch(at(40), {**event(action="review.sign"), "context": context})
        [found] = reviews(made.index)
        assert (found.since, found.until, found.matched, found.result, found.heads) == (None, None, None, None, ())
        assert standing(made.index, found) is Standing.UNKNOWN

    def test_only_reviews_of_the_range_and_the_scope_are_shown(self, made: Made, company: Company) -> None:
        keep(made, review_event(company.index, MARCH, SIGNATURE, NOW))
        assert len(reviews(made.index, since=NOW)) == 1
        assert reviews(made.index, until=NOW) == ()
        assert reviews(made.index, Scope(("demo/*",))) == ()
        assert len(reviews(made.index, Scope(("trailseal/reviews",)))) == 1
        assert reviews(made.index, Scope(until=NOW), NOW) == ()


class TestStanding:
    def review(self, made: Made, store: str | None = None, **changed: Any) -> Standing:
        trail = made.trail()
        trail.batch(at(1), event(), seal_sha256="aa" * 32)
        head = {"origin": trail.origin, "size": trail.size, "root": "00", "seal": "aa" * 32, **changed}
        context: dict[str, Any] = {"heads": [head]}
        made.trail("trailseal", "reviews").batch(at(40), event(action="review.sign", target=store or "/srv/trail", **context))
        [found] = reviews(made.index)
        return standing(made.index, found)

    def test_what_was_reviewed_holds_as_long_as_its_heads_are_there(self, made: Made) -> None:
        assert self.review(made) is Standing.HOLDS

    @pytest.mark.parametrize("changed", [{"size": 1}, {"seal": "bb" * 32}, {"origin": "demo/other/01jmzzzzzzzzzzzzzzzzzzzzz0/node-1"}])
    def test_another_seal_at_its_place_or_none_is_a_change(self, made: Made, changed: dict[str, Any]) -> None:
        assert self.review(made, **changed) is Standing.CHANGED

    def test_a_review_of_another_store_is_compared_there(self, made: Made) -> None:
        origin = "demo/other/01jmzzzzzzzzzzzzzzzzzzzzz0/node-1"
        assert self.review(made, store="/srv/other", origin=origin) is Standing.ELSEWHERE

    def test_a_store_under_another_name_that_has_its_trails_is_compared(self, made: Made) -> None:
        assert self.review(made, store="/srv/other", seal="bb" * 32) is Standing.CHANGED


def test_times_of_a_review_are_aware(made: Made) -> None:
    made.trail("trailseal", "reviews").batch(at(40), event(action="review.sign"))
    [found] = reviews(made.index)
    assert plain(found.signed_at) == plain(at(1))
    assert found.signed_at.tzinfo is UTC
