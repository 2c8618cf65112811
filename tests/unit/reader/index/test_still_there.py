"""What a store lost after it was indexed, and what was known before, is told: also meanwhile, and when a refresh dies."""

from __future__ import annotations

from contextlib import closing, suppress

import pytest
from click.testing import CliRunner

from agent.errors import ConfigError, NotVerifiedError
from agent.reader.fetch import MemoryReader
from agent.reader.findings import Code, Severity
from agent.reader.index import default_path, open_index, update
from agent.reader.index.cli import index_command
from agent.reader.index.tables import connect
from agent.reader.opening import Reach, store_name
from agent.reader.trustfile import TrustFile
from agent.trail.layout import seal_key
from agent.trail.manifest import ContinuesWhy
from tests.support.index_truth import LATER, codes_in, found_in, index_of, indexed_rows, objects_of, true_rows, trust_in
from tests.support.trail_factory import TrailFactory, sample_trail

TRAIL = sample_trail()
ORIGIN = str(TRAIL.origin)
TRUST = trust_in(TRAIL)
DATA = sorted(key for key in TRAIL.objects if key.startswith("records/"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def store(path):
    """A store that was indexed when it was whole."""
    objects = objects_of(TRAIL)
    index_of(objects, path, TRUST)
    return objects


@pytest.mark.parametrize("batch", range(TRAIL.batch))
def test_any_seal_that_is_gone_is_told(path, store, batch):
    del store[seal_key(TRAIL.origin, batch)]
    index_of(store, path, TRUST)
    assert Code.VERSION_GONE.value in found_in(path)[ORIGIN, None]
    with open_index(path) as index:
        [(message,)] = index.rows("SELECT message FROM findings WHERE code = 'version_gone'")
    assert f"one seal that the index was made of, batch {batch} the first" in message
    assert set(indexed_rows(path)) == true_rows(TRAIL.objects)


@pytest.mark.parametrize("key", DATA)
def test_any_data_object_that_is_gone_or_cut_is_told_and_its_rows_stay(path, store, key):
    kept = store.pop(key)
    index_of(store, path, TRUST)
    assert Code.DATA_MISSING.value in codes_in(path)
    store[key] = kept[:-1]
    index_of(store, path, TRUST)
    assert Code.DATA_ALTERED.value in codes_in(path)
    assert Code.DATA_MISSING.value not in codes_in(path)
    assert set(indexed_rows(path)) == true_rows(TRAIL.objects)
    store[key] = kept
    index_of(store, path, TRUST)
    assert codes_in(path).isdisjoint({Code.DATA_ALTERED.value, Code.DATA_MISSING.value})


def cut_to_a_stop() -> tuple[dict[str, bytes], TrailFactory]:
    """Return a store whose trail ends in an orderly stop, because the seals after it were removed and their data was not."""
    trail = TrailFactory()
    trail.add(4)
    trail.stop()
    kept = trail.batch
    trail.resume()
    trail.add(3)
    trail.stop()
    return {
        key: raw for key, raw in trail.objects.items() if key not in {seal_key(trail.origin, at) for at in range(kept, trail.batch)}
    }, trail


def test_data_beyond_the_end_that_no_seal_names_is_told(path):
    objects, trail = cut_to_a_stop()
    index_of(objects, path, trust_in(trail))
    assert Code.DATA_UNSEALED.value in codes_in(path)


class Fresh(MemoryReader):
    """A store whose objects were all written a moment ago."""

    def objects(self, prefix):
        for info in super().objects(prefix):
            yield type(info)(info.key, info.size, LATER.timestamp() - 5)


def test_data_that_was_just_written_may_still_get_its_seal(path):
    objects, trail = cut_to_a_stop()
    index_of(Fresh(objects), path, trust_in(trail))
    assert Code.DATA_UNSEALED.value not in codes_in(path)


def test_what_a_fork_left_behind_is_no_cut_tail(path):
    objects, trail = cut_to_a_stop()
    at_stop = TrailFactory()
    at_stop.add(4)
    at_stop.stop()
    after = TrailFactory(seed=b"after", continues=at_stop.link(ContinuesWhy.FORK))
    after.add(2)
    after.stop()
    index_of(objects | after.objects, path, trust_in(trail, after))
    assert Code.DATA_UNSEALED.value not in codes_in(path)


def test_an_empty_store_is_never_intact(path, tmp_path):
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(index_command, [str(tmp_path / "empty"), "--index", str(path)])
    assert done.exit_code == Severity.UNVERIFIED.exit_code
    assert "store_empty" in done.output


def test_a_listing_that_broke_off_calls_nothing_gone(path, store):
    class Broken(MemoryReader):
        def origins(self):
            raise NotVerifiedError("cannot list trails")
            yield  # pragma: no cover

    with pytest.raises(NotVerifiedError):
        index_of(Broken(store), path, TRUST)
    assert codes_in(path) >= {Code.OBJECT_UNREADABLE.value}
    assert Code.VERSION_GONE.value not in codes_in(path)


def damaged() -> dict[str, bytes]:
    return {**TRAIL.objects, DATA[1]: b"?"}


def test_whoever_asks_during_a_refresh_sees_what_was_found_before(path):
    seen = []
    with closing(connect(path, read_only=False)) as connection:

        def ask(_: int) -> None:
            seen.append({code for (code,) in connection.cursor().execute("SELECT code FROM findings").fetchall()})

        update(connection, MemoryReader(damaged()), path, trust=TrustFile(), now=LATER)
        update(connection, MemoryReader(damaged()), path, trust=TrustFile(), now=LATER, advance=ask)
    assert seen
    assert all(codes >= {Code.DATA_ALTERED.value, Code.KEY_UNKNOWN.value} for codes in seen)


@pytest.mark.parametrize("moment", range(8))
def test_a_refresh_that_dies_takes_no_finding_with_it(path, moment):
    class Dying(MemoryReader):
        left = moment

        def read(self, key, limit_bytes):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().read(key, limit_bytes)

    index_of(damaged(), path, TrustFile())
    before = codes_in(path)
    with suppress(KeyboardInterrupt):
        index_of(Dying(damaged()), path, TrustFile())
    assert codes_in(path) >= before
    index_of(damaged(), path, TrustFile())
    assert codes_in(path) == before


def test_an_index_is_not_asked_as_if_another_trust_file_had_made_it(tmp_path):
    folder, trust, nobody = tmp_path / "store", tmp_path / "trust", tmp_path / "nobody"
    for key, raw in TRAIL.objects.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(raw)
    trust.write_text(TRAIL.trust_line)
    nobody.write_text("# nobody\n")
    path = tmp_path / "index"
    assert CliRunner().invoke(index_command, [str(folder), "--index", str(path), "--trust", str(trust)]).exit_code != 2
    from agent.reader.ask.cli import query_command

    asked = [str(folder), "--index", str(path), "--no-refresh", "--trust"]
    refused = CliRunner().invoke(query_command, [*asked, str(nobody)])
    assert (refused.exit_code, "another trust file" in refused.output) == (ConfigError.exit_code, True)
    assert CliRunner().invoke(query_command, [*asked, str(trust)]).exit_code == 0


def test_buckets_of_one_name_on_two_servers_have_two_indexes(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    names = [store_name("s3://audit/production", Reach(endpoint=one)) for one in ("https://a.example.com", "https://b.example.com", None)]
    assert len({default_path(name) for name in names}) == 3
