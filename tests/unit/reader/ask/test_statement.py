from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agent.reader.ask.filters import ALL, Filter, Scope
from agent.reader.ask.statement import statement
from agent.reader.findings import Severity
from tests.unit.reader.ask.made import at, event

if TYPE_CHECKING:
    from agent.reader.ask.statement import Statement
    from tests.unit.reader.ask.made import Made, Trail

NOW = datetime(2026, 3, 3, 1, tzinfo=UTC)
DAY = Filter(since=at(10), until=at(20))


def whole(made: Made) -> Trail:
    """Fill a trail with two days of hourly batches and an event now and then."""
    trail = made.trail()
    for hour in range(49):
        events = [event(hour - 0.5), event(hour - 0.4, action="auth.login")] if hour % 5 == 1 else []
        trail.batch(at(hour), *events)
    return trail


def state(made: Made, filter_: Filter = DAY, scope: Scope = ALL, **more: Any) -> Statement:
    return statement(made.index, filter_, scope, NOW, **more)


def codes(found: Statement, severity: Severity | None = None) -> list[str]:
    return [reason.code for reason in found.reasons if severity is None or reason.severity is severity]


def test_an_undisturbed_range_is_complete_and_its_figures_are_those_of_the_batches_that_cover_it(made: Made) -> None:
    trail = whole(made)
    found = state(made, Filter(action=("role.grant",), since=at(10), until=at(20)))
    assert (found.verdict, found.exit_code, found.reasons) == ("complete", 0, ())
    (one,) = found.trails
    assert (one.origin, one.head, one.missing_batches) == (trail.origin, "beyond", 0)
    # Sealed at 10, 11 (with two events), … 20: the one at 20 holds what was read after 19.
    assert (one.batches, one.records, one.events, found.records) == (11, 4, 4, 4)
    assert (one.from_time, one.to_time) == (at(9), at(20))
    assert (one.first_seq, one.last_seq) == (14, 28)
    assert (found.matched, found.events_in_range) == (2, 4)
    assert (found.since, found.until, found.answered_at, found.refreshed_at) == (at(10), at(20), NOW, at(48))
    assert found.clock.synchronized_share == 1.0


def test_a_live_trail_without_an_end_of_the_range_is_complete_as_of_the_refresh(made: Made) -> None:
    whole(made)
    found = state(made, Filter())
    assert (found.verdict, codes(found)) == ("complete", ["as_of"])
    assert "2026-03-03T00:00:00.000000Z" in found.reasons[0].message
    assert found.trails[0].head == "live"


class TestWhatIsMissing:
    def test_a_batch_that_is_not_there_makes_its_range_incomplete_and_no_other(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(0, 14)
        trail.skip()
        trail.hourly(16, 48)
        found = state(made)
        assert (found.verdict, codes(found), found.trails[0].missing_batches) == ("incomplete", ["batches_missing"], 1)
        assert state(made, Filter(since=at(20), until=at(30))).verdict == "complete"
        assert state(made, Filter(since=at(5), until=at(10))).verdict == "complete"
        assert state(made, Filter()).verdict == "incomplete"

    def test_a_beginning_that_is_not_there_is_missing_from_every_range_before_what_is_left(self, made: Made) -> None:
        trail = made.trail()
        trail.skip()
        trail.skip()
        trail.hourly(12, 48)
        found = state(made)
        assert (found.verdict, found.trails[0].missing_batches) == ("incomplete", 2)
        assert state(made, Filter(since=at(1), until=at(2))).trails[0].missing_batches == 2

    def test_a_gap_record_in_the_range_is_listed(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(0, 14)
        batch = trail.batch(at(15), gaps=1, bytes_lost=300)
        trail.hourly(16, 48)
        loss = {"seq": 15, "observed_at": at(15), "source": "file", "cause": "rotated_away", "certainty": "known", "from_offset": 0}
        made.insert("gaps", {"trail": trail.number, "batch": batch, **loss, "to_offset": 300, "detail": "x"})
        made.finding("gap", "incomplete", trail.origin, batch)
        found = state(made)
        assert (found.verdict, found.exit_code, codes(found)) == ("incomplete", 11, ["gap"])
        assert (found.losses_total, found.losses[0].cause, found.losses[0].to_offset, found.trails[0].bytes_lost) == (
            1,
            "rotated_away",
            300,
            300,
        )
        assert state(made, Filter(since=at(20), until=at(30))).verdict == "complete"

    def test_silence_is_longer_than_three_heartbeats_and_not_after_an_orderly_end(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(0, 10)
        trail.batch(at(13), reason="heartbeat")
        trail.batch(at(17), reason="heartbeat")
        trail.batch(at(18), reason="stop")
        trail.batch(at(40), reason="resume", unclean=False)
        trail.hourly(41, 48)
        found = state(made, Filter())
        assert (found.verdict, found.silences_total) == ("incomplete", 1)
        (silence,) = found.silences
        assert (silence.after, silence.before, silence.seconds, silence.allowed_seconds) == (at(13), at(17), 4 * 3600, 3 * 3600)
        assert state(made, Filter(since=at(20), until=at(30))).verdict == "complete"

    def test_a_clock_that_was_set_back_does_not_hide_silence(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(0, 10)
        trail.batch(at(11), monotonic_ns=10**15 + int(20 * 3600e9), reason="heartbeat")
        trail.batch(at(12), monotonic_ns=10**15 + int(21 * 3600e9), reason="heartbeat")
        assert state(made, Filter(since=at(8), until=at(11.5))).silences[0].seconds == 10 * 3600

    def test_an_agent_that_crashed_and_came_back_is_listed_but_its_account_is_believed(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(0, 10)
        trail.batch(at(15), reason="resume", unclean=True)
        trail.hourly(16, 48)
        found = state(made)
        assert (found.verdict, found.silences_total, found.silences[0].resumed) == ("complete", 1, True)

    def test_a_trail_that_just_ends_is_open_and_only_ranges_that_reach_its_end_suffer(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(0, 15)
        found = state(made)
        assert (found.verdict, codes(found), found.trails[0].head) == ("incomplete", ["unclosed"], "open")
        assert state(made, Filter(since=at(3), until=at(9))).verdict == "complete"

    @pytest.mark.parametrize("reason", ["stop", "close"])
    def test_a_trail_that_ends_in_an_orderly_way_is_complete_up_to_there(self, made: Made, reason: str) -> None:
        trail = made.trail()
        trail.hourly(0, 14)
        trail.batch(at(15), reason=reason)
        found = state(made)
        assert (found.verdict, found.trails[0].ends_before) == ("complete", True)
        assert codes(found) == ["ends_before"]
        assert found.trails[0].head == {"stop": "stopped", "close": "closed"}[reason]

    def test_a_trail_that_another_one_continues_is_not_open(self, made: Made) -> None:
        first = made.trail()
        first.hourly(0, 15)
        second = made.trail(continues_origin=first.origin)
        second.hourly(16, 48)
        found = state(made)
        assert ([trail.head for trail in found.trails], found.verdict) == (["continued", "beyond"], "complete")
        assert codes(found) == []
        assert [trail.begins_after for trail in found.trails] == [False, True]


class TestWhatDoesNotVerify:
    def test_a_key_nobody_vouches_for_is_unverified(self, made: Made) -> None:
        made.trail(trusted=False).hourly(0, 48)
        found = state(made)
        assert (found.verdict, found.exit_code, codes(found)) == ("unverified", 12, ["key_unknown"])

    def test_tampering_in_the_range_is_unverified_with_the_exit_code_of_tampering(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(0, 14)
        trail.skip()
        trail.hourly(16, 48)
        made.finding("data_altered", "tampered", trail.origin, 15)
        found = state(made)
        assert (found.verdict, found.exit_code) == ("unverified", 10)
        assert codes(found) == ["data_altered", "batches_missing"]
        assert state(made, Filter(since=at(20), until=at(30))).exit_code == 0
        assert state(made, Filter(since=at(1), until=at(5))).exit_code == 0

    def test_a_finding_about_a_whole_trail_is_in_every_range(self, made: Made) -> None:
        trail = whole(made)
        made.finding("version_gone", "tampered", trail.origin)
        made.finding("foreign_object", "notice", None, key="x.txt")
        found = state(made, Filter(since=at(1), until=at(2)))
        assert (found.exit_code, codes(found)) == (10, ["version_gone", "foreign_object"])

    def test_a_severity_this_version_does_not_know_is_taken_for_the_worst(self, made: Made) -> None:
        made.finding("new_thing", "catastrophic", whole(made).origin)
        assert state(made).exit_code == 10

    def test_a_trail_of_which_nothing_was_verified_is_never_complete(self, made: Made) -> None:
        whole(made)
        made.trail(trusted=False)
        made.finding("signature_wrong", "tampered", "demo/payments/01jmzzzzzzzzzzzzzzzzzzzzz1/node-1", 0)
        found = state(made)
        assert (found.verdict, found.exit_code, len(found.trails)) == ("unverified", 10, 2)

    def test_nothing_to_look_at_is_not_a_complete_answer(self, made: Made) -> None:
        assert codes(state(made)) == ["no_trail"]
        assert state(made).exit_code == 12

    def test_a_service_that_is_in_no_trail_is_not_a_complete_answer(self, made: Made) -> None:
        whole(made)
        assert state(made, Filter(service=("paymnets",))).verdict == "unverified"

    def test_a_range_before_every_trail_is_covered_by_nothing(self, made: Made) -> None:
        whole(made)
        found = state(made, Filter(since=at(-90), until=at(-80)))
        assert (found.verdict, codes(found), found.trails, found.trails_outside) == ("incomplete", ["no_batch", "uncovered"], (), 1)

    def test_a_trail_that_died_before_the_range_was_silent_all_through_it(self, made: Made) -> None:
        whole(made)
        dead = made.trail("demo", "console")
        dead.hourly(0, 5)
        found = state(made)
        assert (found.verdict, codes(found, Severity.INCOMPLETE)) == ("incomplete", ["unclosed"])
        assert [(trail.origin, trail.batches, trail.head) for trail in found.trails if not trail.batches] == [(dead.origin, 0, "open")]

    def test_a_service_that_ended_before_the_range_or_begins_after_it_is_named(self, made: Made) -> None:
        whole(made)
        ended = made.trail("demo", "console")
        ended.hourly(0, 4)
        ended.batch(at(5), reason="stop")
        made.trail("demo", "later").hourly(30, 48)
        found = state(made)
        assert (found.verdict, codes(found), found.trails_outside) == ("complete", ["uncovered", "uncovered"], 2)
        assert "no trail of demo/console covers the range" in found.reasons[0].message

    def test_a_service_that_covers_a_part_of_the_range_is_named_with_the_part(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(12, 14)
        trail.batch(at(15), reason="close")
        found = state(made)
        assert (found.verdict, codes(found)) == ("complete", ["begins_after", "ends_before"])
        assert "from 2026-03-01T12:00:00.000000Z on only" in found.reasons[0].message
        assert "until 2026-03-01T15:00:00.000000Z only" in found.reasons[1].message

    def test_batches_proven_by_their_own_seal_only_are_said_to_be(self, made: Made) -> None:
        trail = made.trail()
        trail.hourly(0, 9)
        for hour in range(10, 49):
            trail.batch(at(hour), chained=False)
        found = state(made)
        assert (codes(found), found.trails[0].unchained_batches) == (["not_chained"], 11)


def test_events_that_were_sealed_long_after_the_range_are_part_of_its_population(made: Made) -> None:
    trail = whole(made)
    trail.batch(at(49), event(12))
    found = state(made)
    (one,) = found.trails
    assert (one.late_batches, one.batches, one.records, found.events_in_range) == (1, 12, 5, 5)
    assert one.last_seq == 28


def test_quarantined_records_are_no_fault_but_are_mentioned(made: Made) -> None:
    trail = made.trail()
    trail.hourly(0, 14)
    trail.batch(at(15), quarantined=3)
    trail.hourly(16, 48)
    found = state(made)
    assert (found.verdict, codes(found), found.quarantined) == ("complete", ["quarantined"], 3)
    assert "no filter finds them" in found.reasons[0].message


def test_the_worst_clock_is_named_and_the_share_of_good_ones(made: Made) -> None:
    trail = made.trail()
    trail.hourly(0, 14)
    trail.batch(at(15), clock_synchronized=False, clock_offset_seconds=-7.5, clock_max_error_seconds=16.0)
    trail.batch(at(16), clock_synchronized=None, clock_offset_seconds=None, clock_max_error_seconds=None)
    trail.hourly(17, 48)
    clock = state(made).clock
    assert (clock.batches, clock.synchronized, clock.worst_offset_seconds, clock.worst_error_seconds) == (11, 9, 7.5, 16.0)


def test_a_statement_is_plain_json_whatever_the_index_says(made: Made) -> None:
    trail = whole(made)
    made.finding("gap", "incomplete", trail.origin, 12, message="\x1b[2J\u202e'\";--")
    plain = state(made, Filter(since=at(0), actor=("\x1b[31m",), text="' OR 1=1")).as_json()
    again = json.loads(json.dumps(plain))
    assert (again["verdict"], again["exit_code"], again["format"]) == ("incomplete", 11, 1)
    assert again["reasons"][0]["message"].startswith("batch 12: \x1b[2J")
    assert again["trails"][0]["clock"]["synchronized"] == 49
    assert again["since"] == "2026-03-01T00:00:00.000000Z"


def test_a_flood_of_findings_is_cut_but_never_the_worst(made: Made) -> None:
    trail = whole(made)
    for batch in range(300):
        made.finding("away", "notice", trail.origin, 11, message=f"{batch}", key=None)
        made.finding("data_key_wrong", "incomplete", trail.origin, None, message=f"{batch}")
    made.finding("root_wrong", "tampered", trail.origin)
    found = state(made)
    assert (found.exit_code, len(found.reasons), found.reasons[0].code, found.reasons_omitted) == (10, 200, "root_wrong", 401)


@pytest.mark.parametrize("seed", range(8))
def test_the_figures_are_those_that_plain_counting_gives(made: Made, seed: int) -> None:
    import random

    rng = random.Random(seed)
    trail, hour = made.trail(), 0.0
    batches: list[tuple[int, float, list[float], str]] = []
    for _ in range(40):
        if rng.random() < 0.1:
            trail.skip()
            continue
        hour += rng.choice([0.5, 1, 1, 2, 5])
        occurred = [hour - rng.choice([0.1, 0.2, 9.0]) for _ in range(rng.randrange(3))]
        reason = rng.choice(["age", "heartbeat", "stop"]) if trail.batches else "open"
        batches.append((trail.batch(at(hour), *map(event, occurred), reason=reason), hour, occurred, reason))
    since = rng.uniform(0, hour)
    until = since + rng.uniform(0.1, 30)
    (one,) = state(made, Filter(since=at(since), until=at(until))).trails or (None,)
    within, late, missing, silent = [], [], 0, 0
    before: tuple[int, float, list[float], str] | None = None
    for batch in batches:
        number, sealed, occurred, _ = batch
        begins = (-1e9 if number else sealed) if before is None else before[1]
        if sealed >= since and begins < until:
            within.append(batch)
            missing += number - (-1 if before is None else before[0]) - 1
            silent += before is not None and number == before[0] + 1 and sealed - before[1] > 3 and before[3] not in ("stop", "close")
        elif occurred and max(occurred) >= since and min(occurred) < until:
            late.append(batch)
        before = batch
    if one is None:
        assert (within, late) == ([], [])
        return
    assert (one.batches, one.late_batches, one.missing_batches) == (len(within) + len(late), len(late), missing)
    assert one.records == sum(len(batch[2]) for batch in within + late)
    found = state(made, Filter(since=at(since), until=at(until)))
    assert found.silences_total == silent
    assert found.events_in_range == sum(since <= hours < until for batch in batches for hours in batch[2])


class TestScopes:
    def fill(self, made: Made) -> tuple[str, str]:
        mine = whole(made)
        other = made.trail("other", "secrets", trusted=False, continues_origin=mine.origin)
        other.hourly(0, 14)
        other.skip()
        batch = other.batch(at(16), event(15.5), gaps=1, quarantined=1)
        loss = {"observed_at": at(15), "source": "file", "cause": "rotated_away", "certainty": "known"}
        made.insert("gaps", {"trail": other.number, "seq": 17, "batch": batch, **loss})
        made.finding("data_altered", "tampered", other.origin, 15, message=other.origin)
        made.finding("foreign_object", "tampered", None, key=f"trails/{other.origin}/000000000015.seal")
        made.finding("foreign_object", "tampered", None, key="secrets.txt")
        made.finding("renamed", "notice", mine.origin, 12, message=f"continues {other.origin}")
        return mine.origin, other.origin

    def test_a_statement_for_one_service_says_nothing_of_another(self, made: Made) -> None:
        mine, other = self.fill(made)
        assert state(made).exit_code == 10
        for asked in (DAY, Filter(), Filter(service=("*",)), Filter(service=("other/secrets", "payments"))):
            for everywhere in (False, True):
                found = state(made, asked, Scope(("demo/*",)), everywhere=everywhere)
                text = json.dumps(found.as_json() | {"query": None, "command": None})
                assert mine in text
                assert other not in text
                assert "secrets" not in text
                assert found.verdict == "complete"

    def test_a_statement_for_a_range_says_nothing_of_what_is_outside(self, made: Made) -> None:
        whole(made)
        found = state(made, Filter(since=at(1), until=at(40)), Scope(since=at(10), until=at(20)))
        assert (found.since, found.until, found.trails[0].batches, found.matched) == (at(10), at(20), 11, 4)

    def test_counterparts_anywhere_need_a_statement_of_everything(self, made: Made) -> None:
        whole(made)
        made.trail("demo", "approvals").hourly(0, 3)
        found = state(made, Filter(service=("payments",), since=at(1), until=at(2)), everywhere=True)
        assert (found.since, found.until, len(found.trails), found.verdict) == (None, None, 2, "incomplete")


def test_the_query_is_stated_in_words_and_as_a_command_that_a_shell_takes(made: Made) -> None:
    whole(made)
    asked = Filter(action=("role.*", "it's"), outcome=("success",), text="a b", since=at(0))
    found = state(made, asked, Scope(("demo/*",)), more=("--correlate", "context.approval_id"))
    assert found.query == (
        "events of which the action is role.* or it's and the outcome is success and any text holds 'a b', "
        "at 2026-03-01T00:00:00.000000Z or later; only what this access allows: demo/*"
    )
    assert found.command == (
        """trailseal query /srv/trail --action 'role.*' --action 'it'"'"'s' --outcome success --text 'a b' """
        "--since 2026-03-01T00:00:00.000000Z --correlate context.approval_id"
    )
