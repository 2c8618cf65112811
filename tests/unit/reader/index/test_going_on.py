"""An index is brought up to date by what is new alone, and whoever dies over it loses nothing but time."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from agent.errors import ConfigError, NotVerifiedError
from agent.reader.ahead import ReadAhead
from agent.reader.fetch import DirectoryReader, MemoryReader
from agent.reader.findings import Code
from agent.reader.index import open_index, refresh, walking
from agent.reader.index.cli import bring_up_to_date
from agent.reader.trustfile import TrustFile
from agent.trail.layout import seal_key
from agent.trail.manifest import ManifestReason, Window
from tests.support.evidence_store import write_store
from tests.support.index_truth import LATER, codes_in, everything_in, index_of, indexed_rows, objects_of, true_rows, trust_in
from tests.support.trail_factory import TrailFactory, sample_trail, stamp, two_epochs


class Watched(MemoryReader):
    """A store that remembers what was read, and fails where it is told to."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        """Read from this mapping."""
        super().__init__(objects)
        self.reads: list[str] = []
        self.fail_at: int | None = None
        self.error: BaseException = RuntimeError("the power went off")

    def read(self, key, limit_bytes):
        self.reads.append(key)
        if self.fail_at is not None and len(self.reads) > self.fail_at:
            raise self.error
        return super().read(key, limit_bytes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def small_stretches(monkeypatch):
    """Commit every second batch, so that there is much to die between."""
    monkeypatch.setattr(walking, "_STRETCH_BATCHES", 2)


def fresh(objects: dict[str, bytes], tmp_path, *trails: TrailFactory):
    """Return all that an index holds that was made in one go."""
    index_of(objects, tmp_path / "fresh", trust_in(*trails))
    return everything_in(tmp_path / "fresh")


def long_trail() -> TrailFactory:
    trail = TrailFactory()
    for size in (3, 250, 7, 0, 513, 40, 1):
        trail.add(size, quarantined=1, gaps=int(size == 7))
        trail.heartbeat()
    return trail


def test_a_second_look_reads_nothing_but_the_heads(path):
    trails = [sample_trail(), sample_trail(seed=b"other", instance="web-2"), *two_epochs()]
    store = Watched(objects_of(*trails))
    index_of(store, path, trust_in(*trails))
    store.reads.clear()
    done = index_of(store, path, trust_in(*trails))
    assert sorted(store.reads) == sorted(seal_key(trail.origin, trail.batch - 1) for trail in trails)
    assert (done.batches, done.records) == (0, 0)


def test_only_new_batches_are_read(path, tmp_path):
    trail = sample_trail()
    store = Watched(objects_of(trail))
    index_of(store, path, trust_in(trail))
    head = seal_key(trail.origin, trail.batch - 1)
    trail.resume()
    trail.add(6)
    store.contents.update(trail.objects)
    store.reads.clear()
    done = index_of(store, path, trust_in(trail))
    assert (done.batches, done.records) == (2, 6)
    assert [key for key in store.reads if key.endswith(".seal")] == [
        head,
        *(seal_key(trail.origin, trail.batch - back) for back in (2, 1)),
    ]
    assert len([key for key in store.reads if not key.endswith(".seal")]) == 1
    assert everything_in(path) == fresh(objects_of(trail), tmp_path, trail)


def test_indexed_batch_by_batch_it_is_the_same_as_indexed_at_once(path, tmp_path):
    trail = long_trail()
    seals = sorted(key for key in trail.objects if key.endswith(".seal"))
    objects = {key: raw for key, raw in trail.objects.items() if not key.endswith(".seal")}
    for seal in seals:
        objects[seal] = trail.objects[seal]
        assert index_of(objects, path, trust_in(trail)).batches == 1
    assert everything_in(path) == fresh(objects_of(trail), tmp_path, trail)


def test_a_second_epoch_that_comes_later_joins_up(path, tmp_path):
    trails = two_epochs()
    index_of(objects_of(trails[0]), path, trust_in(*trails))
    index_of(objects_of(*trails), path, trust_in(*trails))
    assert everything_in(path) == fresh(objects_of(*trails), tmp_path, *trails)
    assert codes_in(path) == set()


@pytest.mark.parametrize("fail_at", range(1, 23, 3))
def test_a_store_that_dies_in_the_middle_loses_nothing_and_doubles_nothing(path, tmp_path, small_stretches, fail_at):
    trail = long_trail()
    store = Watched(objects_of(trail))
    store.fail_at = fail_at
    with pytest.raises(RuntimeError, match="the power went off"):
        index_of(store, path, trust_in(trail))
    store.fail_at = None
    index_of(store, path, trust_in(trail))
    assert everything_in(path) == fresh(objects_of(trail), tmp_path, trail)


def test_it_goes_on_from_the_last_commit_and_not_from_the_start(path, small_stretches):
    trail = long_trail()
    store = Watched(objects_of(trail))
    store.fail_at = 14
    with pytest.raises(RuntimeError):
        index_of(store, path, trust_in(trail))
    store.fail_at = None
    store.reads.clear()
    index_of(store, path, trust_in(trail))
    assert seal_key(trail.origin, 1) not in store.reads
    assert set(indexed_rows(path)) == true_rows(trail.objects)


@pytest.mark.parametrize("fail_at", range(2, 20, 5))
def test_an_object_that_cannot_be_read_for_now_is_a_finding_and_is_read_the_next_time(path, tmp_path, small_stretches, fail_at):
    trail = long_trail()
    store = Watched(objects_of(trail))
    store.fail_at, store.error = fail_at, NotVerifiedError("503 Slow Down")
    index_of(store, path, trust_in(trail))
    assert Code.OBJECT_UNREADABLE.value in codes_in(path)
    assert set(indexed_rows(path)) < true_rows(trail.objects)
    store.fail_at = None
    index_of(store, path, trust_in(trail))
    assert everything_in(path) == fresh(objects_of(trail), tmp_path, trail)


def test_a_store_that_is_read_ahead_gives_the_same_index(path, tmp_path):
    trails = [long_trail(), sample_trail(seed=b"other", instance="web-2")]
    with ReadAhead(MemoryReader(objects_of(*trails))) as ahead:
        index_of(ahead, path, trust_in(*trails))
    trails[0].add(20)
    trails[0].stop()
    with ReadAhead(MemoryReader(objects_of(*trails))) as ahead:
        assert index_of(ahead, path, trust_in(*trails)).batches == 2
    assert everything_in(path) == fresh(objects_of(*trails), tmp_path, *trails)


def test_a_second_look_at_a_bucket_reads_nothing_but_the_heads(path):
    """What is read ahead must not be what is indexed already: that would be every seal of a bucket at every question."""
    trail = TrailFactory()
    for _ in range(60):
        trail.add(2)
    store = Watched(objects_of(trail))
    bring_up_to_date(store, path, trust_in(trail))
    store.reads.clear()
    bring_up_to_date(store, path, trust_in(trail))
    assert store.reads == [seal_key(trail.origin, trail.batch - 1)]


def test_a_store_whose_listing_fails_says_so_and_keeps_what_it_could_read(path, tmp_path):
    class HalfListed(MemoryReader):
        fails = True

        def origins(self):
            yield from super().origins()
            if self.fails:
                raise NotVerifiedError("a folder cannot be opened")

    trail = sample_trail()
    store = HalfListed(objects_of(trail))
    with pytest.raises(NotVerifiedError, match="a folder cannot be opened"):
        index_of(store, path, trust_in(trail))
    store.fails = False
    index_of(store, path, trust_in(trail))
    assert everything_in(path) == fresh(objects_of(trail), tmp_path, trail)


def test_a_hole_that_is_filled_while_the_agent_writes_is_no_hole(path, tmp_path):
    """A listing may hold a seal and not yet the one before it."""

    class Late(MemoryReader):
        def seals(self, origin):
            return (number for number in super().seals(origin) if number != 2)

    trail = sample_trail()
    index_of(Late(objects_of(trail)), path, trust_in(trail))
    assert everything_in(path) == fresh(objects_of(trail), tmp_path, trail)


_KILLED = """
    import os, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from agent.reader.fetch import DirectoryReader
    from agent.reader.index import refresh, walking
    from agent.reader.index.loading import load
    from agent.reader.trustfile import TrustFile

    walking._STRETCH_BATCHES = 8
    store, index, trust, kill_at, where = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    calls = 0

    def counted(*arguments):
        global calls
        calls += 1
        if where == "before" and calls == kill_at:
            os.kill(os.getpid(), 9)
        load(*arguments)
        if where == "inside" and calls == kill_at:
            os.kill(os.getpid(), 9)

    walking.load = counted
    refresh(DirectoryReader(store), index, trust=TrustFile.load(trust), now=datetime.now(UTC))
"""


def test_nothing_of_an_index_can_be_read_by_others_at_any_moment(path, small_stretches):
    seen: dict[str, set[int]] = {}

    def look(_: int) -> None:
        for one in (path, *path.parent.glob("index.*"), *path.parent.glob("index.loading/*")):
            if one.exists():
                seen.setdefault(one.name, set()).add(stat.S_IMODE(one.stat().st_mode) & 0o077)

    before = os.umask(0o022)
    try:
        trail = long_trail()
        refresh(MemoryReader(objects_of(trail)), path, trust=TrustFile(), now=LATER, advance=look)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert {"index", "index.wal", "index.loading", "events"} <= seen.keys()
    assert set().union(*seen.values()) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before", "inside"])
def test_a_process_killed_again_and_again_ends_with_the_same_index(tmp_path, where):
    written = write_store(tmp_path, events=1500)
    index = tmp_path / "index"
    script = textwrap.dedent(_KILLED)
    for kill_at in (2, 7, 3, 11):
        arguments = [str(written.store), str(index), str(written.trust), str(kill_at), where]
        ended = subprocess.run([sys.executable, "-c", script, *arguments], check=False, cwd=os.curdir, capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    loading = index.with_name("index.loading")
    assert stat.S_IMODE(loading.stat().st_mode) == 0o700
    index_of(DirectoryReader(written.store), index, TrustFile.load(written.trust))
    # What it was about to take in does not stay behind.
    assert not loading.exists()
    index_of(DirectoryReader(written.store), tmp_path / "fresh", TrustFile.load(written.trust))
    # Trails are numbered as they are met, so that the numbers are the same, too.
    assert everything_in(index) == everything_in(tmp_path / "fresh")
    with open_index(index) as opened:
        assert opened.rows("SELECT count(*), count(DISTINCT (trail, seq)) FROM event_rows") == [(written.events, written.events)]


@pytest.mark.parametrize(
    "event",
    [
        b'{"event_id":"e","occurred_at":"%b","actor":7,"action":[1],"target":"x","outcome":{},"context":3}',
        b'{"event_id":"e","occurred_at":"%b"}',
        b'{"event_id":"e","occurred_at":"%b","actor":{"id":123456789012345678901234567890},"action":"a"}',
        b'{"event_id":"e","occurred_at":"%b","context":{"n":123456789012345678901234567890,"f":1e400,"s":"\\u0000"}}',
    ],
)
def test_a_sealed_line_that_is_no_event_raises_nothing_and_hides_no_other_batch(path, event):
    trail = TrailFactory()
    trail.add(3)
    time = stamp(trail.now)
    body = b',"kind":"event","source":"app","observed_at":"%b","event":' % time.encode() + event % time.encode() + b"}"
    trail.seal(ManifestReason.AGE, after_seconds=5, bodies=[body], counts={"events": 1}, window=Window(time, time, time, time))
    trail.add(4)
    index_of(objects_of(trail), path, trust_in(trail))
    with open_index(path) as index:
        batches = dict(index.rows("SELECT batch, count(*) FROM event_rows GROUP BY batch"))
        codes = {code for (code,) in index.rows("SELECT code FROM findings")}
    assert (batches[1], batches[3]) == (3, 4)
    assert batches.get(2) == 1 or Code.CHECK_FAILED.value in codes


_MEASURED = """
    import resource, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from agent.reader.fetch import DirectoryReader
    from agent.reader.index import refresh, walking
    from agent.reader.trustfile import TrustFile

    walking._STRETCH_BYTES = 1 << 20
    store, index, trust = map(Path, sys.argv[1:])
    refresh(DirectoryReader(store), index, trust=TrustFile.load(trust), now=datetime.now(UTC))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_trail(tmp_path):
    """Peak memory of a process that indexes ten times as much is the same, within what the allocator and the database need."""
    peaks = []
    for events in (20_000, 200_000):
        written = write_store(tmp_path / str(events), events=events, batch_records=2000)
        arguments = [str(written.store), str(tmp_path / str(events) / "index"), str(written.trust)]
        ended = subprocess.run([sys.executable, "-c", textwrap.dedent(_MEASURED), *arguments], check=True, capture_output=True, text=True)
        peaks.append(int(ended.stdout))
    assert peaks[1] < peaks[0] + 150 * 1024, peaks


_SHORT_OF_DISK = """
    import resource, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from agent.errors import TrailsealError
    from agent.reader.fetch import DirectoryReader
    from agent.reader.index import refresh, walking
    from agent.reader.trustfile import TrustFile

    walking._STRETCH_BATCHES = 8
    store, index, trust = map(Path, sys.argv[1:4])
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
    try:
        refresh(DirectoryReader(store), index, trust=TrustFile.load(trust), now=datetime.now(UTC))
    except TrailsealError as error:
        print(error.hint)
        sys.exit(error.exit_code)
"""


@pytest.mark.slow
def test_a_full_disk_is_said_plainly_and_made_room_it_goes_on(tmp_path):
    written = write_store(tmp_path, events=1500)
    index = tmp_path / "index"
    endings = []
    for limit_bytes in (300 << 10, 1 << 20, 3 << 20):
        arguments = [str(written.store), str(index), str(written.trust), str(limit_bytes)]
        command = [sys.executable, "-c", textwrap.dedent(_SHORT_OF_DISK), *arguments]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        endings.append((ended.returncode, ended.stdout, ended.stderr))
    assert any(code for code, *_ in endings)
    assert all(code == 0 or hint.strip() for code, hint, _ in endings), endings
    assert all("Traceback" not in trace for *_, trace in endings), endings
    index_of(DirectoryReader(written.store), index, TrustFile.load(written.trust))
    index_of(DirectoryReader(written.store), tmp_path / "fresh", TrustFile.load(written.trust))
    assert everything_in(index) == everything_in(tmp_path / "fresh")


@pytest.mark.parametrize("left_bytes", [1, 8 << 10, 300 << 10])
def test_a_file_cut_short_is_refused_with_the_way_out(path, left_bytes):
    """A disk that was full while the file was first made leaves one that no database is."""
    trail = long_trail()
    index_of(objects_of(trail), path, trust_in(trail))
    path.write_bytes(path.read_bytes()[:left_bytes])
    with pytest.raises(ConfigError) as refused:
        index_of(objects_of(trail), path, trust_in(trail))
    assert "made anew" in (refused.value.hint or "")
