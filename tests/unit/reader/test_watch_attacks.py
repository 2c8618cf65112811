"""What must not make the dead look alive: old seals, wrong clocks, epochs with made-up dates, instances that ended, and errors."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
import pytest
import tenacity
from click.testing import CliRunner
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from agent.config import BucketAddress
from agent.errors import ConfigError, NotVerifiedError
from agent.reader.bucket import BucketReader
from agent.reader.expected import parse_expected
from agent.reader.fetch import MemoryReader
from agent.reader.trustfile import TrustFile
from agent.reader.watch.cli import watch_command
from agent.reader.watch.judge import Report, State, judge
from agent.reader.watch.keep import Board, keep_looking, ping
from agent.reader.watch.looking import Looking
from agent.reader.watch.newest import Newest
from agent.reader.watch.show import as_json, metrics
from agent.stores.bucket import Access
from agent.trail.layout import seal_key
from agent.trail.manifest import ManifestReason
from agent.trail.merkle import Frontier
from tests.support.trail_factory import TrailFactory

if TYPE_CHECKING:
    from datetime import datetime


ANY = "trails: [{namespace: demo, service: payments, instance: 'web-*'}]"
DAY = timedelta(days=1)


class Store(MemoryReader):
    """Keep seals with the time at which each was stored, and count what is asked for."""

    def __init__(self, *factories: TrailFactory) -> None:
        """Hold these trails, each seal stored when the newest one of its trail was made."""
        super().__init__({})
        self.asked = 0
        for factory in factories:
            self.store(factory)

    def store(self, factory: TrailFactory, at: datetime | None = None) -> None:
        for key, raw in factory.objects.items():
            if key not in self.contents:
                self.contents[key] = raw
                self.modified[key] = (at or factory.now).timestamp()

    def stored_at(self, key: str) -> float | None:
        self.asked += 1
        return super().stored_at(key)


def look(store: MemoryReader, now: datetime, expected: str = ANY) -> Report:
    return judge(Newest(store, None).look(), parse_expected(expected, "expected.yaml"), now)


def states(report: Report) -> list[State]:
    return [trail.state for trail in report.trails]


def running(**arguments: Any) -> TrailFactory:
    factory = TrailFactory(**arguments)
    factory.heartbeat()
    return factory


def test_an_old_seal_that_is_stored_again_under_the_next_number_is_forged():
    factory = TrailFactory()
    factory.stop()
    stop = factory.objects[seal_key(factory.origin, factory.batch - 1)]
    factory.resume()
    store, now = Store(factory), factory.now + 2 * DAY
    assert states(look(store, now)) == [State.SILENT]
    again = seal_key(factory.origin, factory.batch)
    store.contents[again], store.modified[again] = stop, now.timestamp()
    report = look(store, now)
    assert (states(report), report.severity.exit_code) == ([State.FORGED], 10)
    assert "it is the seal of batch 1, stored once more under the number 3" in report.trails[0].why


def test_a_newest_seal_with_everything_right_but_the_key_is_forged():
    factory = running()
    thief = running(signer_seed=b"thief")
    thief.heartbeat()
    assert thief.origin == factory.origin
    store = Store(factory)
    store.store(thief)
    report = look(store, thief.now)
    assert (states(report), report.severity.exit_code) == ([State.FORGED], 10)
    assert "it is not signed with the trail's key" in report.trails[0].why


def test_a_trail_that_names_a_key_which_did_not_sign_its_first_seal_is_forged():
    factory, other = TrailFactory(), TrailFactory(signer_seed=b"other")
    factory.batch, factory.frontier, factory.previous = 0, Frontier.empty(), None
    factory.seal(ManifestReason.OPEN, after_seconds=0.0, key=other.vkey)
    report = look(Store(factory), factory.now)
    assert states(report) == [State.FORGED]
    assert "not signed with the key that it names" in report.trails[0].why


def test_a_trust_file_that_knows_another_key_vouches_for_nobody():
    factory, thief = running(), running(signer_seed=b"thief")
    honest = TrustFile.parse(factory.trust_line, "trust.txt")
    expected = parse_expected(ANY, "expected.yaml")
    assert states(judge(Newest(Store(factory), honest).look(), expected, factory.now)) == [State.LIVE]
    report = judge(Newest(Store(thief), honest).look(), expected, thief.now)
    assert (states(report), report.severity.exit_code) == ([State.UNKNOWN], 12)


def test_the_seal_of_a_later_batch_in_place_of_the_first_one_is_forged():
    factory = running()
    store = Store(factory)
    store.contents[seal_key(factory.origin, 0)] = factory.objects[seal_key(factory.origin, 1)]
    assert states(look(store, factory.now)) == [State.FORGED]


def test_a_stop_that_is_written_once_more_is_no_younger_for_it():
    factory = TrailFactory()
    factory.stop()
    store, now = Store(factory), factory.now + DAY
    store.modified[seal_key(factory.origin, 1)] = now.timestamp()
    report = look(store, now)
    assert states(report) == [State.UNCLOSED]
    assert "it stopped in order 24 h ago" in report.trails[0].why


def test_a_watcher_whose_own_clock_is_behind_says_so():
    factory = running()
    report = look(Store(factory), factory.now - DAY)
    assert (states(report), report.severity.exit_code) == ([State.CLOCK], 11)
    assert "this machine's clock is behind the store's" in report.trails[0].why
    assert states(look(Store(factory), factory.now - timedelta(seconds=100))) == [State.LIVE]


def test_a_closed_epoch_with_a_date_to_come_does_not_hide_a_silent_one_that_began_after_it():
    ahead = TrailFactory(seed=b"ahead", start=TrailFactory().now + 3650 * DAY)
    ahead.close()
    here = running(start=TrailFactory().now + DAY)
    store = Store(here)
    store.store(ahead, at=TrailFactory().now)
    assert ahead.origin.epoch > here.origin.epoch
    assert states(look(store, here.now)) == [State.LIVE]
    assert states(look(store, here.now + DAY)) == [State.SILENT]


def test_epochs_in_a_copy_follow_each_other_as_they_say_whatever_the_order_in_which_they_were_copied():
    first, second = running(seed=b"one"), running(seed=b"two", start=TrailFactory().now + DAY)
    store, now = Store(), second.now
    store.store(second, at=now - timedelta(seconds=20))
    store.store(first, at=now - timedelta(seconds=10))
    report = look(store, now)
    assert [trail.sight.origin for trail in report.trails] == [second.origin]


def test_when_an_epoch_began_is_asked_once():
    store = Store(running(seed=b"one"), running(seed=b"two", start=TrailFactory().now + DAY))
    newest = Newest(store, None)
    newest.look()
    store.asked = 0
    newest.look()
    assert store.asked == 2


def test_those_who_ended_are_not_asked_for_again_as_long_as_their_folders_are_there():
    factory = running()
    factory.close()
    store = Store(factory)
    newest = Newest(store, None)
    newest.look()
    store.asked = 0
    assert [sight.closed for sight in newest.look()] == [True]
    assert store.asked == 0


def test_an_entry_may_want_so_many_at_work_and_those_who_ended_well_do_not_count():
    ended, here = running(instance="web-1"), running(instance="web-2", seed=b"two")
    ended.close()
    wanted = ANY.replace("}", ", live: 1}")
    assert look(Store(ended, here), here.now, wanted).fine
    nobody = look(Store(ended), ended.now, wanted)
    assert (nobody.fine, nobody.severity.exit_code, states(nobody)) == (False, 11, [State.CLOSED])
    assert as_json(nobody)["missing"] == [
        {"expected": "demo/payments/*/web-*", "line": 1, "why": "0 at work; line 1 of the expected file wants 1"}
    ]
    (missing,) = (family for family in metrics(nobody) if family.name == "trailseal_watch_trail_missing")
    assert [sample.value for sample in missing.samples] == [1.0]
    assert look(Store(ended), ended.now).fine
    assert not look(Store(ended, here), here.now, wanted.replace("live: 1", "live: 2")).fine


@pytest.mark.parametrize("value", ["0", "-1", "true", "two", "1.5", "[1]"])
def test_a_wrong_number_of_instances_is_named_with_its_line(value: str):
    text = f"trails:\n  - {{namespace: demo, service: payments, instance: web-1,\n     live: {value}}}\n"
    with pytest.raises(ConfigError, match=r"expected\.yaml:3: trails\[0\]\.live: not a number of instances"):
        parse_expected(text, "expected.yaml")


def test_a_check_that_fails_for_a_reason_nobody_foresaw_hides_no_other_trail():
    class Odd(Store):
        def read(self, key: str, limit_bytes: int) -> bytes | None:
            if "/web-1/" in key:
                raise RuntimeError("odd")
            return super().read(key, limit_bytes)

    one, two = running(), running(instance="web-2", seed=b"two")
    report = look(Odd(one, two), one.now)
    assert (states(report), report.severity.exit_code) == ([State.UNKNOWN, State.LIVE], 12)
    assert "a check failed: RuntimeError: odd" in report.trails[0].why


def test_every_trail_counts_from_when_it_was_looked_at():
    factory = running()
    times = iter([factory.now.timestamp() + 100, factory.now.timestamp() + 300])
    newest = Newest(Store(factory), None, lambda: next(times))
    expected = parse_expected(ANY, "expected.yaml")
    assert states(judge(newest.look(), expected, factory.now + DAY)) == [State.LIVE]
    assert states(judge(newest.look(), expected, factory.now + DAY)) == [State.SILENT]


def test_metrics_do_not_name_those_who_ended_for_good():
    ended, here = running(instance="web-1"), running(instance="web-2", seed=b"two")
    ended.close()
    families = list(metrics(look(Store(ended, here), here.now)))
    named = {sample.labels["instance"] for family in families for sample in family.samples if "instance" in sample.labels}
    assert named == {"web-2"}
    (counted,) = (family for family in families if family.name == "trailseal_watch_instances")
    assert sum(sample.value for sample in counted.samples) == 2


def test_a_bucket_that_was_away_is_looked_at_again_when_it_is_back(monkeypatch: pytest.MonkeyPatch):
    factory = running()
    bucket = MemoryStore()
    for key, raw in factory.objects.items():
        obstore.put(bucket, key, raw)
    access = Access(address=BucketAddress.parse("s3://audit"))
    opened: list[BucketReader] = []

    def open_it() -> BucketReader:
        opened.append(BucketReader(access, bucket=bucket, wait=tenacity.wait_none()))
        opened[-1].greet()
        return opened[-1]

    def away(*_: object, **__: object) -> Any:
        raise GenericError("HTTP error\n\nDebug source:\n kind: Timeout")

    looking = Looking(open_it, None, parse_expected(ANY.replace("}", ", max_silence: 36500d}"), "expected.yaml"))
    assert states(looking.look()) == [State.LIVE]
    with monkeypatch.context() as patched:
        patched.setattr(obstore, "list_with_delimiter", away)
        for _ in range(5):
            with pytest.raises(NotVerifiedError):
                looking.look()
    assert states(looking.look()) == [State.LIVE]
    with monkeypatch.context() as patched:
        patched.setattr(obstore, "head", away)
        assert states(looking.look()) == [State.UNKNOWN]
    assert states(looking.look()) == [State.LIVE]
    before = len(opened)
    assert states(looking.look()) == [State.LIVE]
    assert len(opened) == before
    with monkeypatch.context() as patched:

        def outage(*_: object, **__: object) -> Any:
            patched.setattr(obstore, "list_with_delimiter", away)
            return away()

        # It begins in the middle of a look: that is no news of any trail, so the look failed.
        patched.setattr(obstore, "head", outage)
        with pytest.raises(NotVerifiedError, match="no answer in time"):
            looking.look()
    assert states(looking.look()) == [State.LIVE]
    looking.close()


def test_a_seal_that_is_gone_is_no_reason_to_open_the_store_anew():
    factory = running()
    store = Store(factory)
    opened: list[Store] = []

    def open_it() -> Store:
        opened.append(store)
        return store

    looking = Looking(open_it, None, parse_expected(ANY, "expected.yaml"))
    looking.look()
    del store.contents[seal_key(factory.origin, 1)]
    for _ in range(2):
        assert states(looking.look()) == [State.UNKNOWN]
    assert len(opened) == 1


class Twice:
    """Stop after two looks."""

    left = 2

    def is_set(self) -> bool:
        return self.left == 0

    def wait(self, _seconds: float) -> None:
        self.left -= 1


def test_a_look_that_fails_for_a_reason_nobody_foresaw_is_counted_and_the_next_one_is_made():
    def fail() -> Report:
        raise RuntimeError("odd")

    complaints: list[str] = []
    board = Board()
    stop: Any = Twice()
    keep_looking(fail, board, every_seconds=0.0, stop=stop, say=lambda _: None, complain=complaints.append)
    assert complaints == ["a look failed: RuntimeError: odd"] * 2
    assert board.registry.get_sample_value("trailseal_watch_failed_looks_total") == 2
    assert board.registry.get_sample_value("trailseal_watch_last_success_timestamp_seconds") == 0


def test_a_switch_that_answers_nonsense_is_an_error_like_any_other():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError, match="no answer that could be understood"):
            ping(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--every", "0s"], "between 100ms and 1d"),
        (["--every", "99999999d"], "between 100ms and 1d"),
        (["--once", "--every", "30s"], "--once and --every"),
        (["--listen", "127.0.0.1:0"], "give both"),
        (["--every", "30s", "--listen", "9601"], "HOST:PORT"),
        (["--ping", "hc.example.com/abc"], "http:// or https:// URL"),
        (["--ping", "https://"], "http:// or https:// URL"),
        (["--ping", "https://hc.example.com:99999/"], "http:// or https:// URL"),
        (["--ping", "https://hc.example.com/a b"], "http:// or https:// URL"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(options: list[str], words: str):
    done = CliRunner().invoke(watch_command, ["/nowhere", "--expected", "expected.yaml", *options])
    assert done.exit_code == 2
    assert words in done.output
