"""`trailseal verify`, run as a process over what the real agent wrote, tells intact, tampered, incomplete and unverified apart.

Every tampering is done to a copy, by somebody who may change the store's files but does not hold the agent's key.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support import loggen
from tests.support.agent_process import Site, believe, trailseal, until, verify

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

HEARTBEAT_SECONDS = 1.0


class Written(NamedTuple):
    """Two trails by the real agent, and the trust lines for both.

    Attributes:
        site: Where the first was written, ended by `stop`.
        other: The store of the second, of another instance.
        trust: The trust file.
    """

    site: Site
    other: Path
    trust: Path


def write_trail(site: Site, batches: int = 4) -> None:
    """Have the agent seal some lines, batch after batch, and end in order."""
    with site.run() as agent:
        agent.ready()
        for number in range(batches):
            with site.log.open("ab") as log:
                log.write(loggen.block(number * 40, 40, run=site.folder.name))
            site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Write both trails once for all tests."""
    folder = tmp_path_factory.mktemp("trails")
    site, other = Site(folder / "one"), Site(folder / "two", instance="node-2")
    write_trail(site)
    write_trail(other)
    trust = believe(site.store, folder / "trust.txt")
    with trust.open("a", encoding="utf-8") as lines:
        lines.write(trailseal("trust", other.store).stdout)
    return Written(site, other.store, trust)


@pytest.fixture
def store(written: Written, tmp_path: Path) -> Path:
    """Copy the first store."""
    return Path(shutil.copytree(written.site.store, tmp_path / "copy"))


def seals(store: Path) -> list[Path]:
    """Return the seals' files in batch order."""
    return sorted((store / "trails").rglob("*.seal"))


def data_objects(store: Path) -> list[Path]:
    """Return the data objects' files in order."""
    return sorted((store / "records").rglob("*.zst"))


def flip(path: Path, at: int) -> None:
    """Change one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    rewrite(path, bytes(data))


def change_letter(path: Path, at: int) -> None:
    """Change one character of base64 into another one."""
    data = bytearray(path.read_bytes())
    data[at] = ord("B") if data[at] == ord("A") else ord("A")
    rewrite(path, bytes(data))


def rewrite(path: Path, data: bytes) -> None:
    """Replace a file; those of a store cannot be written to by themselves."""
    path.unlink()
    path.write_bytes(data)


def flip_in_data_object(store: Path, other: Path) -> Path:
    path = data_objects(store)[2]
    flip(path, path.stat().st_size // 2)
    return path


def flip_in_manifest(store: Path, other: Path) -> Path:
    path = seals(store)[3]
    at = path.read_bytes().index(b'"host":"') + len(b'"host":"')
    flip(path, at)
    return path


def flip_in_checkpoint_root(store: Path, other: Path) -> Path:
    path = seals(store)[3]
    lines = path.read_bytes().split(b"\n")
    # … origin, size, root, empty line, signature, end
    change_letter(path, sum(len(line) + 1 for line in lines[:-4]) + 3)
    return path


def flip_in_checkpoint_signature(store: Path, other: Path) -> Path:
    path = seals(store)[3]
    change_letter(path, path.stat().st_size - 20)
    return path


def remove_batch_in_the_middle(store: Path, other: Path) -> Path:
    path = seals(store)[2]
    path.unlink()
    data_objects(store)[1].unlink()
    return path


def remove_data_object(store: Path, other: Path) -> Path:
    path = data_objects(store)[1]
    path.unlink()
    return path


def swap_two_batches(store: Path, other: Path) -> Path:
    first, second = seals(store)[2:4]
    one, two = first.read_bytes(), second.read_bytes()
    rewrite(first, two)
    rewrite(second, one)
    return first


def copy_seal_from_another_trail(store: Path, other: Path) -> Path:
    path = seals(store)[3]
    rewrite(path, seals(other)[3].read_bytes())
    return path


def replace_line_and_data_object(store: Path, other: Path) -> Path:
    path = data_objects(store)[0]
    rewrite(path, data_objects(other)[0].read_bytes())
    return path


def test_what_the_agent_wrote_is_intact_and_complete(written: Written) -> None:
    verdict = verify(written.site.store, written.trust)
    assert verdict.code == 0, verdict.findings()
    assert verdict.report["verdict"] == "intact"
    (trail,) = verdict.report["trails"]
    assert trail["events"] == trail["records"] == len(loggen.event_ids(160))
    assert trail["state"] == "stopped"
    assert written.site.trails.event_ids() == loggen.event_ids(160, run="one")


def test_the_table_says_the_same_as_the_exit_code(written: Written, store: Path) -> None:
    flip_in_data_object(store, written.other)
    done = trailseal("verify", store, "--trust", written.trust)
    assert done.returncode == 10
    assert done.stdout.splitlines()[-1].startswith("tampered: 1 trail")
    assert trailseal("verify", written.site.store, "--trust", written.trust, "--quiet").stdout.startswith("intact and complete")


@pytest.mark.parametrize(
    ("tamper", "codes"),
    [
        (flip_in_data_object, {"data_altered"}),
        (flip_in_manifest, {"proof_wrong"}),
        (flip_in_checkpoint_root, {"signature_wrong"}),
        (flip_in_checkpoint_signature, {"signature_wrong"}),
        (remove_batch_in_the_middle, {"seal_missing"}),
        (remove_data_object, {"data_missing"}),
        (swap_two_batches, {"seal_misplaced"}),
        (copy_seal_from_another_trail, {"seal_misplaced", "signature_wrong"}),
        (replace_line_and_data_object, {"data_altered"}),
    ],
)
def test_tampering_exits_10_and_names_what_was_changed(
    written: Written, store: Path, tamper: Callable[[Path, Path], Path], codes: set[str]
) -> None:
    changed = tamper(store, written.other)
    verdict = verify(store, written.trust)
    assert verdict.code == 10, verdict.findings()
    assert verdict.report["verdict"] == "tampered"
    assert verdict.codes() & codes, verdict.findings()
    named = [finding["key"] for finding in verdict.findings() if finding["severity"] == "tampered"]
    assert str(changed.relative_to(store)) in named, verdict.findings()


def test_a_trail_without_its_newest_seal_is_incomplete(tmp_path: Path) -> None:
    site = Site(tmp_path / "site", seal={"max_age": "200ms", "heartbeat": f"{HEARTBEAT_SECONDS:.0f}s"})
    site.log.write_bytes(loggen.block(0, 40))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        batches = len(site.trails.seals())
        until(lambda: len(site.trails.seals()) >= batches + 2, "two heartbeats")
        agent.kill()
    # While its head is young, a trail that nobody ended is live.
    time.sleep(3 * HEARTBEAT_SECONDS + 0.5)
    trust = believe(site.store, tmp_path / "trust.txt")
    shortened = site.copy_store("shortened")
    newest = seals(shortened)[-1]
    newest.unlink()
    verdict = verify(shortened, trust)
    assert verdict.code == 11, verdict.findings()
    assert verdict.report["trails"][0]["batches"] == len(seals(shortened))
    assert {finding["severity"] for finding in verdict.findings()} == {"incomplete"}
    assert verdict.codes() == {"unclosed"}


def test_a_trail_without_its_newest_seal_but_with_its_data_says_which_data_nobody_sealed(written: Written, store: Path) -> None:
    for path in seals(store)[-2:]:
        path.unlink()
    verdict = verify(store, written.trust)
    assert verdict.code in {0, 11}
    left = {finding["key"] for finding in verdict.findings(notices=True) if finding["code"] in {"data_in_flight", "data_unsealed"}}
    assert str(data_objects(store)[-1].relative_to(store)) in left


def test_a_source_that_lost_bytes_is_a_stated_gap_and_incomplete(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.log.write_bytes(loggen.block(0, 100))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    read = site.log.stat().st_size
    with site.log.open("ab") as log:
        log.write(loggen.block(100, 100))
    # While the agent is down: what it had not read is destroyed, and other lines stand in its place.
    site.log.write_bytes(loggen.block(500, 20))
    with site.run() as agent:
        agent.ready()
        until(lambda: site.trails.kind("gap"), "a gap record in the store")
        site.wait_drained(read + site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    (gap,) = site.trails.kind("gap")
    assert gap["from_offset"] == read
    assert gap["path"] == str(site.log)
    assert site.trails.event_ids() == [*loggen.event_ids(100), loggen.event_id(500), loggen.event_id(510)]
    verdict = site.verify()
    assert verdict.code == 11, verdict.findings()
    assert verdict.codes() == {"gap"}
    (finding,) = verdict.findings()
    assert finding["first_seq"] == gap["seq"]


def test_an_empty_store_is_not_verified(written: Written, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    verdict = verify(tmp_path / "empty", written.trust)
    assert (verdict.code, verdict.codes()) == (12, {"store_empty"})


def test_a_store_that_does_not_exist_is_not_verified(written: Written, tmp_path: Path) -> None:
    done = trailseal("verify", tmp_path / "nowhere", "--trust", written.trust)
    assert done.returncode in {2, 12}
    assert "nowhere" in done.stdout + done.stderr


def test_a_key_nobody_vouched_for_is_not_verified(written: Written, tmp_path: Path) -> None:
    verdict = verify(written.site.store, None)
    assert (verdict.code, verdict.codes()) == (12, {"key_unknown"})
    strangers = believe(written.other, tmp_path / "strangers.txt")
    verdict = verify(written.site.store, strangers)
    assert (verdict.code, verdict.codes()) == (12, {"key_unknown"})


def test_two_trails_in_one_store_are_judged_each_and_the_worst_wins(written: Written, store: Path) -> None:
    shutil.copytree(written.other, store, dirs_exist_ok=True)
    verdict = verify(store, written.trust)
    assert verdict.code == 0, verdict.findings()
    (path,) = list((store / "trails").rglob("node-2/000000000003.seal"))
    flip(path, 100)
    verdict = verify(store, written.trust)
    assert verdict.code == 10
    assert {trail["origin"].rsplit("/", 1)[1]: trail["verdict"] for trail in verdict.report["trails"]} == {
        "node-1": "intact",
        "node-2": "tampered",
    }
