from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.exposition import generate_latest
from rich.console import Console
from ruamel.yaml import YAML

from agent.errors import NotVerifiedError
from agent.reader.expected import load_expected, parse_expected
from agent.reader.fetch import MemoryReader
from agent.reader.trustfile import TrustFile
from agent.reader.watch.cli import watch_command
from agent.reader.watch.judge import Report, State, judge
from agent.reader.watch.keep import Board, keep_looking
from agent.reader.watch.newest import Newest
from agent.reader.watch.show import MAX_NAMED, as_json, metrics, render
from agent.trail.layout import seal_key
from tests.support.trail_factory import TrailFactory

if TYPE_CHECKING:
    from agent.reader.watch.newest import Sight

ANY = "trails: [{namespace: demo, service: payments, instance: 'web-*'}]"


class CountingReader(MemoryReader):
    """Count what is asked for."""

    asked = 0

    def stored_at(self, key: str) -> float | None:
        self.asked += 1
        return super().stored_at(key)


def store_of(*factories: TrailFactory, stored_late: float = 0.5) -> CountingReader:
    """Return a store with these trails; each seal was stored so long after it was sealed."""
    objects: dict[str, bytes] = {}
    for factory in factories:
        objects |= factory.objects
    store = CountingReader(objects)
    for factory in factories:
        newest = seal_key(factory.origin, factory.batch - 1)
        store.modified[newest] = factory.now.timestamp() + stored_late
    return store


def look(store: MemoryReader, now: datetime, *, expected: str = ANY, trust: TrustFile | None = None, **more: Any) -> Report:
    return judge(Newest(store, trust).look(), parse_expected(expected, "expected.yaml"), now, **more)


def states(report: Report) -> dict[str, State]:
    return {trail.sight.instance[2]: trail.state for trail in report.trails}


def live(**arguments: Any) -> TrailFactory:
    factory = TrailFactory(**arguments)
    factory.add()
    factory.heartbeat()
    return factory


@pytest.mark.parametrize("age", [0, 170, 190])
def test_a_trail_is_silent_after_three_of_its_own_heartbeats(age: int):
    factory = live()
    report = look(store_of(factory), factory.now + timedelta(seconds=age))
    assert states(report) == {"web-1": State.LIVE if age < 180 else State.SILENT}
    assert (report.fine, report.severity.exit_code) == ((True, 0) if age < 180 else (False, 11))


def test_the_expected_file_may_allow_less_or_more():
    factory = live()
    now = factory.now + timedelta(seconds=90)
    short = "trails: [{namespace: demo, service: payments, instance: '*', max_silence: 1m}]"
    assert states(look(store_of(factory), now, expected=short)) == {"web-1": State.SILENT}
    long = short.replace("1m", "1h")
    assert states(look(store_of(factory), now + timedelta(minutes=30), expected=long)) == {"web-1": State.LIVE}


def test_an_end_in_order_is_unclosed_when_nobody_goes_on_and_a_closed_one_is_fine():
    stopped, closed = live(instance="web-1"), live(instance="web-2", seed=b"second")
    stopped.stop()
    closed.close()
    soon = look(store_of(stopped, closed), stopped.now + timedelta(seconds=100))
    assert states(soon) == {"web-1": State.LIVE, "web-2": State.CLOSED}
    late = look(store_of(stopped, closed), stopped.now + timedelta(days=100))
    assert states(late) == {"web-1": State.UNCLOSED, "web-2": State.CLOSED}
    assert late.severity.exit_code == 11


def test_only_the_newest_epoch_of_an_instance_counts():
    old = live(seed=b"old")
    new = live(seed=b"new", start=old.now + timedelta(days=3))
    report = look(store_of(old, new), new.now)
    assert states(report) == {"web-1": State.LIVE}
    assert report.trails[0].sight.origin == new.origin


def test_an_expected_trail_that_was_never_there_is_missing():
    factory = live(instance="db-1")
    report = look(store_of(factory), factory.now)
    assert [str(entry) for entry in report.missing] == ["demo/payments/*/web-*"]
    assert (states(report), report.severity.exit_code) == ({"db-1": State.LIVE}, 11)
    assert look(MemoryReader({}), factory.now).severity.exit_code == 11


def test_what_is_stored_late_is_late_and_what_is_dated_ahead_has_a_wrong_clock():
    factory = live()
    late = look(store_of(factory, stored_late=3600), factory.now + timedelta(seconds=3610))
    assert states(late) == {"web-1": State.LATE}
    ahead = look(store_of(factory, stored_late=-3600), factory.now - timedelta(seconds=3590))
    assert states(ahead) == {"web-1": State.CLOCK}
    # A clock that is ahead cannot make a trail look alive.
    silent = look(store_of(factory, stored_late=-3600), factory.now - timedelta(seconds=1800))
    assert states(silent) == {"web-1": State.SILENT}


def test_a_seal_that_somebody_else_made_is_no_sign_of_life():
    factory, other = live(), live(seed=b"other")
    store = store_of(factory)
    store.contents[seal_key(factory.origin, factory.batch)] = other.objects[seal_key(other.origin, other.batch - 1)]
    report = look(store, factory.now)
    assert states(report) == {"web-1": State.FORGED}
    assert report.severity.exit_code == 10
    store.contents[seal_key(factory.origin, factory.batch)] = b"nonsense"
    assert states(look(store, factory.now)) == {"web-1": State.FORGED}


def test_with_a_trust_file_only_who_is_vouched_for_counts():
    factory = live()
    vouched = TrustFile.parse(factory.trust_line, "trust.txt")
    assert states(look(store_of(factory), factory.now, trust=vouched)) == {"web-1": State.LIVE}
    stranger = look(store_of(factory), factory.now, trust=TrustFile())
    assert states(stranger) == {"web-1": State.UNKNOWN}
    assert stranger.severity.exit_code == 12


def test_a_first_seal_that_is_gone_leaves_nobody_to_vouch():
    factory = live()
    store = store_of(factory)
    del store.contents[seal_key(factory.origin, 0)]
    assert states(look(store, factory.now)) == {"web-1": State.UNKNOWN}


def test_a_seal_that_cannot_be_read_is_said_and_the_others_are_looked_at():
    class Failing(CountingReader):
        def read(self, key: str, limit_bytes: int) -> bytes | None:
            if "/web-1/" in key:
                raise NotVerifiedError("the disk is broken")
            return super().read(key, limit_bytes)

    one, two = live(), live(instance="web-2", seed=b"second")
    store = Failing(one.objects | two.objects, modified=one.now.timestamp())
    report = look(store, one.now)
    assert states(report) == {"web-1": State.UNKNOWN, "web-2": State.LIVE}
    assert "the disk is broken" in report.trails[0].why
    assert report.severity.exit_code == 12


@pytest.mark.parametrize("batches", [1, 2, 3, 7, 8, 9, 100])
def test_the_newest_seal_is_found_without_listing_them(batches: int):
    factory = TrailFactory()
    for _ in range(batches - 1):
        factory.heartbeat()
    store = store_of(factory)
    newest = Newest(store, None)
    assert [sight.batch for sight in newest.look()] == [batches - 1]
    assert store.asked <= 4 + 2 * batches.bit_length()
    store.asked = 0
    newest.look()
    assert store.asked == 2
    factory.heartbeat()
    store.contents |= factory.objects
    assert [sight.batch for sight in newest.look()] == [batches]


@pytest.mark.parametrize("closed", [False, True])
def test_what_was_there_and_is_not_any_more_is_said(*, closed: bool):
    factory = live()
    if closed:
        factory.close()
    store = store_of(factory)
    newest = Newest(store, None)
    assert [sight.unknown for sight in newest.look()] == [""]
    kept = dict(store.contents)
    store.contents.clear()
    for _ in range(2):
        assert [sight.unknown for sight in newest.look()] == [
            f"it cannot be read: the seal of batch {factory.batch - 1} was there and is not any more"
        ]
    store.contents |= kept
    assert [sight.unknown for sight in newest.look()] == [""]


def test_who_ended_long_ago_may_be_forgotten_while_others_go_on():
    gone, here = live(instance="web-1"), live(instance="web-2", seed=b"second", start=TrailFactory().now + timedelta(days=9))
    now = here.now
    assert states(look(store_of(gone, here), now, forget=timedelta(days=7))) == {"web-1": State.FORGOTTEN, "web-2": State.LIVE}
    assert states(look(store_of(gone, here), now, forget=timedelta(days=30))) == {"web-1": State.SILENT, "web-2": State.LIVE}
    # Nobody of the entry is left: that is never forgotten.
    assert states(look(store_of(gone), now, forget=timedelta(days=7))) == {"web-1": State.SILENT}


def report_of_everything() -> tuple[Report, list[Sight]]:
    one, two = live(), live(instance="web-2", seed=b"second", start=TrailFactory().now + timedelta(hours=2))
    sights = Newest(store_of(one, two), None).look()
    entries = parse_expected(ANY.replace("]", ", {namespace: demo, service: ledger, instance: '*'}]"), "expected.yaml")
    return judge(sights, entries, two.now), sights


def test_the_table_shows_what_is_wrong_and_the_json_everything():
    report, _ = report_of_everything()
    console = Console(width=160, record=True, color_system=None)
    for part in render(report, everything=False):
        console.print(part)
    text = console.export_text()
    assert "silent" in text
    assert "missing" in text
    assert "web-2" not in text
    assert text.strip().splitlines()[-1] == "Not everybody gives signs of life: 1 missing, 1 live, 1 silent."
    found = as_json(report)
    assert (found["fine"], found["exit_code"], found["counts"]) == (False, 11, {"live": 1, "silent": 1})
    assert [(one["instance"], one["state"]) for one in found["trails"]] == [("web-1", "silent"), ("web-2", "live")]


def exposition(board: Board) -> dict[str, float]:
    lines = generate_latest(board.registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_metrics_say_the_same():
    report, _ = report_of_everything()
    board = Board()
    assert exposition(board)["trailseal_watch_last_success_timestamp_seconds"] == 0
    board.show(report, 0.25)
    found = exposition(board)
    one = '{instance="web-1",namespace="demo",service="payments"}'
    two = '{instance="web-2",namespace="demo",service="payments"}'
    assert found[f"trailseal_watch_trail_silent{one}"] == 1
    assert found[f"trailseal_watch_trail_silent{two}"] == 0
    assert found[f"trailseal_watch_trail_unclosed{one}"] == 0
    assert found['trailseal_watch_trail_missing{expected="demo/ledger/*/*"}'] == 1
    assert found['trailseal_watch_trail_missing{expected="demo/payments/*/web-*"}'] == 0
    assert found['trailseal_watch_instances{namespace="demo",service="payments",state="silent"}'] == 1
    assert found["trailseal_watch_last_success_timestamp_seconds"] == report.at.timestamp()
    assert found[f"trailseal_watch_trail_silent_seconds{one}"] > 7000


def test_metrics_name_those_who_are_not_fine_first_and_no_more_than_so_many():
    report, _ = report_of_everything()
    silent, alive = report.trails
    many = Report(report.at, (*[alive] * (MAX_NAMED + 10), silent), (), ())
    (family,) = (one for one in metrics(many) if one.name == "trailseal_watch_trail_silent")
    assert len(family.samples) == MAX_NAMED
    assert family.samples[0].value == 1


class Once:
    """Stop after so many looks."""

    def __init__(self, looks: int) -> None:
        """Begin with so many left."""
        self.left = looks

    def is_set(self) -> bool:
        return self.left == 0

    def wait(self, _seconds: float) -> None:
        self.left -= 1


def test_a_look_that_fails_leaves_the_time_of_the_last_success_and_pings_nobody():
    report, _ = report_of_everything()
    looks: list[Any] = [report, NotVerifiedError("the store is away"), NotVerifiedError("the store is away")]
    said: list[Report] = []
    complaints: list[str] = []
    board = Board()

    def next_look() -> Report:
        found = looks.pop(0)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Report)
        return found

    stop: Any = Once(3)
    keep_looking(
        next_look, board, every_seconds=0.0, stop=stop, say=said.append, complain=complaints.append, ping_url="http://127.0.0.1:9/never"
    )
    assert said == [report]
    assert complaints == ["the store could not be looked at: the store is away"] * 2
    found = exposition(board)
    assert found["trailseal_watch_failed_looks_total"] == 2
    assert found["trailseal_watch_last_success_timestamp_seconds"] == report.at.timestamp()
    assert found['trailseal_watch_pings_total{outcome="failed"}'] == 0


def test_a_switch_that_does_not_answer_is_said_and_changes_nothing_else():
    factory = live()
    report = look(store_of(factory), factory.now)
    assert report.fine
    complaints: list[str] = []
    board, stop = Board(), Once(1)
    keep_looking(
        lambda: report,
        board,
        every_seconds=0.0,
        stop=stop,  # type: ignore[arg-type]
        say=lambda _: None,
        complain=complaints.append,
        ping_url="http://127.0.0.1:9/nobody",
    )
    assert len(complaints) == 1
    assert exposition(board)['trailseal_watch_pings_total{outcome="failed"}'] == 1
    assert report.at.tzinfo is UTC


def test_the_documentation_has_every_option_state_and_metric():
    text = (Path(__file__).parents[3] / "docs" / "watch.md").read_text(encoding="utf-8")
    options = {option for parameter in watch_command.params for option in parameter.opts if option.startswith("--")}
    assert options == set(re.findall(r"(?<=[`(, ])--[a-z-]+", text)) - {"--help"}
    assert {state.value for state in State} == set(re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE)) & set(State)
    report, _ = report_of_everything()
    board = Board()
    board.show(report, 0.0)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in board.registry.collect()}
    documented = {name.replace("…", "trailseal_watch_trail") for name in re.findall(r"`(trailseal_watch_\w+|…_\w+)`", text)}
    assert names == documented


def test_the_commands_in_the_documentation_are_ones():
    text = (Path(__file__).parents[3] / "docs" / "watch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    commands = [shlex.split(words) for _, block in blocks for words in re.findall(r"(?m)trailseal watch (.+)$", block)]
    (cron,) = (YAML(typ="safe").load(block) for kind, block in blocks if kind == "yaml")
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "watch"
    commands.append(container["args"][1:])
    assert len(commands) == 4
    for words in commands:
        with watch_command.make_context("watch", list(words)) as context:
            assert (context.params["store"], context.params["expected"].name) == ("s3://audit/production", "expected.yaml")


def test_the_example_of_an_expected_file_is_one():
    path = Path(__file__).parents[3] / "config" / "expected.yaml"
    assert [str(entry) for entry in load_expected(path)] == ["demo/ledger/*/vm-1", "demo/payments/*/web-*"]
