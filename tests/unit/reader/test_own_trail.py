"""The reader's own trail: what a real agent seals of it, and what happens when it cannot be recorded."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.config import load
from agent.errors import ConfigError, PermanentError, StateInUseError, TrailsealError, TransientError
from agent.events.classify import AllRule
from agent.events.validate import Validator
from agent.events.verdict import Accepted
from agent.reader.control.catalogs import load_catalog
from agent.reader.opening import Reach
from agent.reader.own_trail import OwnTrail, Recorder, own_catalog, own_event, record_once
from agent.reader.own_trail.events import event_line
from tests.support.agent_process import Trails, believe, until, verify

REPOSITORY = Path(__file__).parents[3]
NOW = datetime(2026, 3, 9, 8, 30, 0, 250_000, tzinfo=UTC)
CONTEXTS: dict[str, dict[str, Any]] = {
    "review.sign": {"range": {"since": None}, "query": "q", "matched": 3, "heads": [], "finding": "none", "result": "no_findings"},
    "view.access": {"path": "/", "scope": {}},
    "view.search": {"query": "actor=mallory", "scope": {}},
    "view.event": {"scope": {}},
    "view.export": {"query": "", "format": "csv", "scope": {}},
    "view.denied": {"path": "/", "reason": "expired"},
    "view.start": {"version": "0.1.0"},
    "view.stop": {},
    "grant.create": {"token_id": "t", "services": [], "expires": "2026-04-01"},
    "grant.revoke": {"token_id": "t"},
}


def event(action: str = "view.access", **fields: Any) -> dict[str, Any]:
    fields = {"actor": {"type": "auditor", "id": "ada"}, "target": {"type": "page", "id": "/"}, "context": CONTEXTS[action], **fields}
    return own_event(action, now=NOW, **fields)


@pytest.fixture
def settings(tmp_path: Path) -> OwnTrail:
    return OwnTrail(
        store=str(tmp_path / "store"), service="reviews", instance="desk", folder=tmp_path / "own", max_age_seconds=0.1, grace_seconds=5.0
    )


def sealed(settings: OwnTrail) -> list[dict[str, Any]]:
    return Trails(Path(settings.store)).records()


class TestEvents:
    def test_the_catalog_beside_the_configuration_is_the_one_that_is_used(self) -> None:
        assert load_catalog(REPOSITORY / "config/catalogs/trailseal.yaml") == own_catalog()

    @pytest.mark.parametrize("action", [entry.action for entry in own_catalog().entries])
    def test_every_action_of_ours_is_a_valid_event_with_what_the_catalog_demands(self, action: str) -> None:
        made = event(action)
        verdict = Validator(AllRule(), own_catalog()).judge_line(event_line(made))
        assert isinstance(verdict, Accepted)
        assert verdict.action == action
        assert verdict.occurred_at == NOW

    def test_there_is_an_example_of_every_action_and_of_no_other(self) -> None:
        assert set(CONTEXTS) == {entry.action for entry in own_catalog().entries}

    @pytest.mark.parametrize("hostile", ["\0", "\ud800", "a\nb", "x" * 100_000, "", '"}\u2028{"', "\x1b[2J", "\U0001f600"])
    def test_no_text_of_a_stranger_makes_an_event_that_cannot_be_recorded(self, hostile: str) -> None:
        made = event(
            actor={"type": "token", "id": hostile, "session": hostile},
            target={"type": "page", "id": hostile},
            context={"path": hostile, "scope": {"services": [hostile], hostile: 1}},
            event_id=hostile,
        )
        line = event_line(made)
        assert isinstance(Validator(AllRule(), own_catalog()).judge_line(line), Accepted)
        assert line.isascii()
        assert b"\n" not in line

    @pytest.mark.parametrize(
        ("wrong", "named"),
        [
            ({"context": {"path": "/"}}, "context.scope"),
            ({"outcome": "fine"}, "outcome"),
            ({"actor": {"type": "auditor"}}, "actor.id"),
            ({"context": {"path": "/", "scope": float("nan")}}, "JSON"),
            ({"context": {"path": "/", "scope": ["x" * 8000] * 40}}, "bytes"),
        ],
    )
    def test_what_would_end_in_quarantine_is_refused_before(self, wrong: dict[str, Any], named: str) -> None:
        with pytest.raises(PermanentError, match=named):
            event_line(event(**wrong))


class TestSettings:
    def test_no_text_is_taken_for_a_variable_of_the_environment(self, settings: OwnTrail, tmp_path: Path) -> None:
        odd = replace(settings, store=str(tmp_path / "${HOME} $x {y}: # é"), folder=tmp_path / "$$ own")
        odd.prepare({"pipe": "stdin"})
        read = load(str(odd.config_file), {})
        assert read.stores[0].directory == odd.store
        assert read.state == str(odd.home / "state")
        assert read.load_catalog() == own_catalog()

    def test_a_bucket_gets_what_the_command_line_says_of_it(self, settings: OwnTrail) -> None:
        bucket = replace(
            settings, store="s3://audit/own", reach=Reach("https://s3.example.com", "eu-central-1", "audit"), allow_unlocked=True
        )
        bucket.prepare({"socket": {"path": str(bucket.socket_path), "mode": "0600"}})
        store = load(str(bucket.config_file), {}).stores[0]
        assert (str(store.bucket), store.endpoint, store.region) == ("s3://audit/own", "https://s3.example.com", "eu-central-1")
        assert store.allow_unlocked

    def test_the_folder_is_below_the_state_home_unless_another_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert OwnTrail(store="/s", service="view").home.parent == tmp_path / "trailseal" / "view"
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert OwnTrail(store="/s", service="view").home.parent == tmp_path / ".local/state/trailseal/view"

    def test_two_stores_have_two_folders_and_one_store_has_one(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "link").symlink_to("a")
        homes = [OwnTrail(store=store, service="view").home for store in ("a", "./a", str(tmp_path / "a"), "link", "b", "s3://a", "s3://b")]
        assert len(set(homes[:4])) == 1
        assert len(set(homes)) == 4

    def test_a_trail_never_goes_on_in_another_store(self, settings: OwnTrail, tmp_path: Path) -> None:
        record_once(event("review.sign"), settings)
        with pytest.raises(ConfigError, match="lies in"):
            record_once(event("review.sign"), replace(settings, store=str(tmp_path / "other")))
        assert not (tmp_path / "other").exists()
        record_once(event("review.sign"), settings)
        assert len(sealed(settings)) == 2

    def test_a_folder_that_another_process_uses_is_said_to_be_in_use(self, settings: OwnTrail) -> None:
        with settings.alone(0.0), pytest.raises(StateInUseError), settings.alone(0.1):
            pass


class TestRecordOnce:
    @pytest.mark.slow
    def test_an_event_is_sealed_and_where_it_stands_is_known(self, settings: OwnTrail, tmp_path: Path) -> None:
        first, second = event("review.sign"), event("review.sign")
        recorded = [record_once(each, settings) for each in (first, second)]
        records = sealed(settings)
        assert [record["event"] for record in records] == [first, second]
        assert [record["seq"] for record in records] == [each.seq for each in recorded]
        assert recorded[0].origin == recorded[1].origin
        assert recorded[0].event_id == first["event_id"]
        verdict = verify(Path(settings.store), believe(Path(settings.store), tmp_path / "trust"))
        assert verdict.code == 0
        assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700

    def test_a_working_folder_with_a_package_of_our_name_runs_nothing_of_it(
        self, settings: OwnTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trap = tmp_path / "trap" / "agent"
        trap.mkdir(parents=True)
        (trap / "__init__.py").write_text("")
        (trap / "__main__.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
        monkeypatch.chdir(trap.parent)
        record_once(event("review.sign"), settings)
        assert not (tmp_path / "sprung").exists()

    def test_a_store_that_cannot_be_written_is_never_a_recorded_event(self, settings: OwnTrail, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        lost = event("review.sign")
        with pytest.raises(TransientError, match=lost["event_id"]) as raised:
            record_once(lost, replace(settings, store=str(tmp_path / "file/store"), grace_seconds=1.0))
        assert str(settings.home) in raised.value.hint

    @pytest.mark.slow
    def test_what_waited_for_its_store_goes_out_with_the_next_event(self, settings: OwnTrail, tmp_path: Path) -> None:
        record_once(event("review.sign"), settings)
        store, away = Path(settings.store), tmp_path / "away"
        store.rename(away)
        store.write_text("in the way")
        waiting = event("review.sign")
        with pytest.raises(TrailsealError):
            record_once(waiting, replace(settings, grace_seconds=1.0))
        store.unlink()
        away.rename(store)
        newest = event("review.sign")
        record_once(newest, settings)
        assert [record["event"] for record in sealed(settings)][1:] == [waiting, newest]

    def test_settings_that_the_agent_refuses_are_named(self, settings: OwnTrail) -> None:
        bucket = replace(settings, store="s3://audit/own", reach=Reach("http://s3.example.com"))
        with pytest.raises(TransientError, match=r"without TLS"):
            record_once(event("review.sign"), bucket)


class TestRecorder:
    async def test_events_are_durable_when_it_says_so_and_sealed_when_it_has_stopped(self, settings: OwnTrail, tmp_path: Path) -> None:
        events = [event() for _ in range(20)]
        async with Recorder(settings) as recorder:
            done = await asyncio.gather(*map(recorder.record, events))
        assert [each.event_id for each in done] == [each["event_id"] for each in events]
        recorded = [record["event"] for record in sealed(settings)]
        assert sorted(recorded, key=json.dumps) == sorted(events, key=json.dumps)
        assert verify(Path(settings.store), believe(Path(settings.store), tmp_path / "trust")).code == 0

    async def test_a_child_that_was_killed_is_started_again_and_no_event_is_missing(self, settings: OwnTrail) -> None:
        events = [event() for _ in range(6)]
        async with Recorder(settings) as recorder:
            for number, each in enumerate(events):
                if number == 3:
                    assert recorder._child is not None
                    recorder._child.kill()
                await recorder.record(each)
            assert recorder.starts == 2
        kept = {record["event"]["event_id"] for record in sealed(settings)}
        assert kept == {each["event_id"] for each in events}

    async def test_its_folder_is_the_owner_s_alone_and_the_store_is_as_readable_as_the_settings_say(self, settings: OwnTrail) -> None:
        before = os.umask(0)
        try:
            async with Recorder(replace(settings, umask=0o022)) as recorder:
                await recorder.record(event())
                made = [settings.home, *settings.home.rglob("*")]
                assert settings.socket_path in made
                assert settings.log_file in made
                assert {path for path in made if not path.is_symlink() and path.lstat().st_mode & 0o077} == set()
        finally:
            os.umask(before)
        before = os.umask(0o077)
        try:
            async with Recorder(replace(settings, umask=0o022)) as recorder:
                await recorder.record(event())
        finally:
            os.umask(before)
        folders = [path for path in Path(settings.store).rglob("*") if path.is_dir()]
        assert folders
        assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o755}

    async def test_a_disk_that_was_full_when_the_child_died_is_no_end_of_recording(
        self, settings: OwnTrail, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, refused = asyncio.create_subprocess_exec, 0

        async def full(*words: Any, **more: Any) -> asyncio.subprocess.Process:
            nonlocal refused
            refused += 1
            if refused <= 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return await real(*words, **more)

        async with Recorder(settings) as recorder:
            monkeypatch.setattr(asyncio, "create_subprocess_exec", full)
            assert recorder._child is not None
            recorder._child.kill()
            await recorder.record(event())
            assert (refused, recorder.starts) == (3, 2)

    async def test_an_agent_that_cannot_be_started_at_all_is_an_error_at_once(
        self, settings: OwnTrail, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def full(*_: Any, **__: Any) -> asyncio.subprocess.Process:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(asyncio, "create_subprocess_exec", full)
        with pytest.raises(TransientError, match="does not come up: it cannot be started: No space left"):
            await Recorder(settings).start()

    async def test_an_event_that_cannot_be_recorded_raises(self, settings: OwnTrail, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("agent.reader.own_trail.recorder.RECORD_SECONDS", 0.5)
        async with Recorder(settings) as recorder:
            assert recorder._child is not None
            recorder._child.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(TransientError, match="was not recorded"):
                    await recorder.record(event())
            finally:
                recorder._child.send_signal(signal.SIGCONT)

    async def test_nothing_is_recorded_before_the_start_or_after_the_end(self, settings: OwnTrail) -> None:
        recorder = Recorder(settings)
        async with recorder:
            pass
        with pytest.raises(TransientError):
            await recorder.record(event())
        await recorder.stop()

    async def test_an_invalid_event_raises_and_does_not_reach_the_trail(self, settings: OwnTrail) -> None:
        async with Recorder(settings) as recorder:
            with pytest.raises(PermanentError):
                await recorder.record(event(context={}))
        assert sealed(settings) == []

    async def test_a_second_recorder_on_the_same_folder_is_refused(self, settings: OwnTrail, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("agent.reader.own_trail.recorder.LOCK_SECONDS", 0.1)
        async with Recorder(settings) as recorder:
            with pytest.raises(StateInUseError):
                await Recorder(settings).start()
            await recorder.record(event())

    async def test_an_agent_that_refuses_its_settings_is_an_error_at_once(self, settings: OwnTrail, tmp_path: Path) -> None:
        with pytest.raises(TransientError, match="does not come up"):
            await Recorder(replace(settings, enrolment_key=tmp_path / "none.key")).start()

    async def test_the_agent_of_a_server_that_was_killed_is_ended_first(self, settings: OwnTrail) -> None:
        left = Recorder(settings)
        await left.start()
        await left.record(event())
        assert left._child is not None
        assert left._keeper is not None
        pid = left._child.pid
        # As after SIGKILL: the lock is gone, the keeper too, and the child lives on.
        left._held.close()
        left._stopping.set()
        async with Recorder(settings) as recorder:
            await recorder.record(event())
            await asyncio.to_thread(until, lambda: not _lives(pid), "the orphan's end")
        await left.stop()
        assert len(sealed(settings)) == 2


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
