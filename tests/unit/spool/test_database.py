"""The spool's transactions: what they promise, and what they refuse."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.errors import DamagedStateError, IntegrityError, StateError
from agent.spool import Database, StateLock
from agent.spool.connection import DATABASE_FILE
from tests.support.batches import append_of, event, quiet

if TYPE_CHECKING:
    from pathlib import Path


def test_records_and_cursor_survive_together(tmp_path: Path) -> None:
    first = Database(tmp_path)
    first.append([append_of(0, 3)])
    # No close: what a SIGKILL leaves is the database and its write-ahead log.
    first._db.close()

    again = Database(tmp_path)
    (block,) = again.blocks_after(None, 1 << 20)
    assert block.bodies.count(b"\n") == 3
    assert event(1) in block.bodies
    (cursor,) = again.cursors()
    assert cursor.offset == block.meta.progress[0].to_offset
    again.close()


def test_neighbouring_appends_become_one_block_whose_progress_joins_up(tmp_path: Path) -> None:
    db = Database(tmp_path)
    one = append_of(0, 2)
    end = one.progress[0].to_offset
    assert end is not None
    db.append([one, quiet(end, 100), append_of(2, 1, offset=end + 100)])
    (block,) = db.blocks_after(None, 1 << 20)
    (step,) = block.meta.progress
    assert (step.from_offset, step.lines, step.audit, step.observability) == (0, 6, 3, 3)
    assert block.meta.records == 3
    db.close()


def test_a_block_spans_the_times_of_its_records_only(tmp_path: Path) -> None:
    db = Database(tmp_path)
    end = 0
    appends = []
    for second, records in enumerate((0, 1, 1, 0)):
        append = append_of(second, 1, offset=end) if records else quiet(end, 100)
        end = append.progress[0].to_offset or 0
        appends.append(msgspec.structs.replace(append, observed_at=f"2026-01-08T14:32:0{second}.000000Z"))
    db.append(appends)
    (block,) = db.blocks_after(None, 1 << 20)
    assert (block.meta.observed_min[17:19], block.meta.observed_max[17:19]) == ("01", "02")
    db.close()


def test_progress_that_does_not_join_up_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    db = Database(tmp_path)
    with pytest.raises(IntegrityError, match="does not join up"):
        db.append([append_of(0, 1), append_of(1, 1, offset=5)])
    assert db.blocks_after(None, 1 << 20) == []
    assert db.cursors() == []
    db.close()


def test_a_block_whose_bytes_rotted_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = Database(tmp_path)
    db.append([append_of(0, 1)])
    db.close()
    raw = sqlite3.connect(tmp_path / DATABASE_FILE)
    raw.execute("UPDATE blocks SET bodies = cast(replace(cast(bodies AS TEXT), 'admin', 'guest') AS BLOB)")
    raw.commit()
    raw.close()

    with pytest.raises(DamagedStateError, match="SHA-256"):
        Database(tmp_path)
    # A large spool is not read as a whole at the start; then the block is found out when it is to be sealed.
    monkeypatch.setattr("agent.spool.inspection.DEEP_BYTES", 0)
    again = Database(tmp_path)
    with pytest.raises(DamagedStateError, match="SHA-256"):
        again.blocks_after(None, 1 << 20)
    assert any("SHA-256" in problem for problem in again.problems())
    again.close()


def test_a_spool_of_another_format_is_refused(tmp_path: Path) -> None:
    Database(tmp_path).close()
    raw = sqlite3.connect(tmp_path / DATABASE_FILE)
    raw.execute("PRAGMA user_version=99")
    raw.execute("DELETE FROM meta")
    raw.commit()
    raw.close()
    with pytest.raises(StateError, match="format 99"):
        Database(tmp_path)


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"this is not SQLite" * 1000)
    with pytest.raises(DamagedStateError, match="does not begin"):
        Database(tmp_path)


def test_the_spool_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    db = Database(tmp_path)
    db.append([append_of(0, 1)])
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    db.close()


def test_a_state_directory_serves_one_agent(tmp_path: Path) -> None:
    with StateLock(tmp_path / "state"):
        second = StateLock(tmp_path / "state")
        with pytest.raises(StateError, match="in use by another agent"):
            second.acquire()
    with StateLock(tmp_path / "state"):
        pass
