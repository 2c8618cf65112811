"""The socket source in one process, with an intake in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from agent.config import Address, Socket
from agent.errors import DurabilityError
from agent.events.classify import FieldRule
from agent.intake import Append, Cursor
from tests.support.memory_intake import MemoryIntake, audit_line
from tests.support.posting import ONE, Client
from tests.support.socket_site import LOOPBACK, served

if TYPE_CHECKING:
    from collections.abc import Awaitable


class HesitantIntake(MemoryIntake):
    """An intake without room for as long as the test wants."""

    full = True

    def has_room(self, size_bytes: int = 0) -> bool:
        return not self.full

    async def submit(self, append: Append) -> Awaitable[None]:
        while self.full:
            await asyncio.sleep(0.01)
        return await super().submit(append)


async def test_the_answer_comes_after_the_disk():
    intake = MemoryIntake()
    intake.held = True
    async with served(intake) as site:
        posting = asyncio.create_task(site.post(audit_line(1), ONE))
        await site.until(lambda: intake._waiting)
        await asyncio.sleep(0.1)
        assert not posting.done()
        intake.commit()
        answer = await posting
    assert (answer.status, answer.body["durable"], answer.body["sealed"]) == (201, True, False)
    assert answer.body["results"] == [{"line": 1, "status": "event", "event_id": "e1"}]
    assert intake.event_ids() == ["e1"]


async def test_a_mixed_request_is_durable_and_says_which_lines_are_no_events():
    async with served() as site:
        answer = await site.post(b"\n".join([audit_line(1), b"{}", b"", audit_line(2)]))
    assert answer.status == 207
    assert [answer.body[name] for name in ("events", "quarantined", "passed")] == [2, 1, 1]
    assert [record["reason"] for record in site.intake.of_kind("quarantine")] == ["missing_field"]
    assert site.sink.data == b"\n"


async def test_lines_that_are_not_audit_pass_on():
    async with served(rule=FieldRule()) as site:
        answer = await site.post(b"plain\n" + audit_line(1))
        assert (answer.status, [each["status"] for each in answer.body["results"]]) == (207, ["passed", "event"])
    assert site.sink.data == b"plain\n"
    assert site.intake.event_ids() == ["e1"]


async def test_offsets_join_up_from_request_to_request_and_from_start_to_start():
    intake = MemoryIntake()
    sizes = []
    for _ in range(2):
        async with served(intake) as site:
            for count in (1, 3):
                body = b"\n".join([audit_line(1)] * count)
                assert (await site.post(body)).status == 201
                sizes.append(len(body))
    steps = [step for append in intake.durable for step in append.progress]
    assert [(step.from_offset, step.to_offset) for step in steps] == [(sum(sizes[:at]), sum(sizes[: at + 1])) for at in range(4)]
    assert [(step.kind, step.lines, step.audit, step.observability) for step in steps] == [("socket", n, n, 0) for n in (1, 3, 1, 3)]
    assert len({step.file_id for step in steps}) == 1
    [cursor] = intake.all_cursors()
    assert cursor.offset == sum(sizes)


async def test_a_cursor_of_another_kind_under_the_same_id_is_not_taken_over():
    intake = MemoryIntake()
    foreign = Cursor(source="api", file_id="01kebz2d3z0000000000000009", path="/var/log/app.log", offset=500, size_seen=500)
    await intake.submit(Append(cursors=(foreign,), observed_at="2026-01-08T14:32:07.000000Z"))
    async with served(intake) as site:
        await site.post(audit_line(1), ONE)
    [step] = intake.durable[-1].progress
    assert (step.from_offset, step.file_id) == (0, "01kebz2d3z0000000000000000")


async def test_many_clients_at_once_are_each_recorded_once():
    async with served() as site:
        answers = await asyncio.gather(*[site.post(audit_line(number)) for number in range(40)])
    assert [answer.status for answer in answers] == [201] * 40
    assert sorted(site.intake.event_ids()) == sorted(f"e{number}" for number in range(40))
    steps = [step for append in site.intake.durable for step in append.progress]
    assert [step.from_offset for step in steps] == [0, *[step.to_offset for step in steps[:-1]]]
    assert len({append.observed_at for append in site.intake.durable}) == 40


async def test_a_large_request_is_judged_beside_the_event_loop():
    body = b"\n".join(audit_line(number, padding=200) for number in range(400))
    async with served() as site:
        answers = await asyncio.gather(*[site.post(body) for _ in range(4)])
    assert [answer.body["events"] for answer in answers] == [400] * 4
    assert len(site.intake.event_ids()) == 1600


async def test_without_room_nothing_is_recorded_and_the_client_comes_again():
    intake = HesitantIntake()
    async with served(intake, room_seconds=0.2) as site:
        refused = await site.post(audit_line(1))
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert refused.body["type"] == "urn:trailseal:problem:no_room"
        assert (await site.ask("GET", "/healthz")).status == 503
        intake.full = False
        assert (await site.post(audit_line(1))).status == 201
        assert (await site.ask("GET", "/healthz")).body == {"status": "ok"}
    assert intake.event_ids() == ["e1"]
    assert [step.from_offset for append in intake.durable for step in append.progress] == [0]


async def test_an_accepted_request_that_the_disk_does_not_confirm_is_left_open():
    intake = MemoryIntake()
    intake.held = True
    async with served(intake, durable_seconds=0.2) as site:
        answer = await site.post(audit_line(1))
        assert (answer.status, answer.body["type"]) == (504, "urn:trailseal:problem:unknown_outcome")
        intake.commit()
    assert intake.event_ids() == ["e1"]


async def test_a_disk_that_refuses_leaves_it_open_too():
    class Failing(MemoryIntake):
        async def submit(self, append: Append) -> Awaitable[None]:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(DurabilityError("the disk refused"))
            return failed

    async with served(Failing()) as site:
        assert (await site.post(audit_line(1))).status == 504


async def test_a_stop_refuses_what_comes_and_answers_what_is_under_way():
    intake = MemoryIntake()
    intake.held = True
    async with served(intake) as site:
        waiting = asyncio.create_task(site.post(audit_line(1)))
        idle = Client(site.where)
        assert (await asyncio.to_thread(idle.ask, "GET", "/healthz")).status == 200
        await site.until(lambda: intake._waiting)
        site.stop.set()
        await asyncio.sleep(0.1)
        late = await asyncio.to_thread(idle.post, audit_line(2))
        assert (late.status, late.body["type"], late.headers["connection"]) == (503, "urn:trailseal:problem:stopping", "close")
        idle.close()
        with pytest.raises(OSError, match="refused"):
            await site.post(audit_line(3))
        intake.commit()
        answer = await waiting
        assert (answer.status, answer.headers["connection"]) == (201, "close")
        assert await site.running is True
    assert intake.event_ids() == ["e1"]


async def test_a_stop_does_not_wait_for_ever():
    intake = MemoryIntake()
    intake.held = True
    async with served(intake, stop_seconds=0.2) as site:
        waiting = asyncio.create_task(site.post(audit_line(1)))
        await site.until(lambda: intake._waiting)
        site.stop.set()
        assert await site.running is False
        with pytest.raises((OSError, EOFError)):
            await waiting
        intake.commit()


class TestUnixSocket:
    async def test_it_has_its_mode_and_goes_with_the_source(self, tmp_path):
        path = tmp_path / "events.sock"
        async with served(where=Socket(path=str(path), mode=0o620)) as site:
            assert stat.S_IMODE(path.stat().st_mode) == 0o620
            assert (await site.post(audit_line(1), ONE)).status == 201
        assert not path.exists()

    async def test_what_a_dead_process_left_is_replaced(self, tmp_path):
        path = tmp_path / "events.sock"
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(str(path))
        async with served(where=Socket(path=str(path))) as site:
            assert (await site.post(audit_line(1), ONE)).status == 201

    async def test_a_living_socket_is_left_alone_and_tried_again(self, tmp_path):
        path = tmp_path / "events.sock"
        living = socket.socket(socket.AF_UNIX)
        living.bind(str(path))
        living.listen()
        before = os.lstat(path).st_ino
        async with served(where=Socket(path=str(path)), retry_seconds=(0.05, 0.1)) as site:
            await site.until(lambda: site.problems)
            assert site.problems[0] == (str(path), f"another process listens on {path}")
            assert os.lstat(path).st_ino == before
            living.close()
            path.unlink()
            await site.until(lambda: site.source.addresses)
            assert site.problems[-1] == (str(path), None)
            assert (await site.post(audit_line(1), ONE)).status == 201

    async def test_another_kind_of_file_is_not_removed(self, tmp_path):
        path = tmp_path / "events.sock"
        path.write_text("precious")
        async with served(where=Socket(path=str(path)), retry_seconds=(0.05, 0.1)) as site:
            assert site.problems[0] == (str(path), f"{path} is there and is no socket")
        assert path.read_text() == "precious"

    async def test_both_ways_lead_to_one_sequence(self, tmp_path):
        path = tmp_path / "events.sock"
        async with served(where=Socket(listen=LOOPBACK, path=str(path))) as site:
            await site.until(lambda: len(site.source.addresses) == 2)
            for where in [address if isinstance(address, str) else address[1] for address in site.source.addresses]:  # type: ignore[index]
                with contextlib.closing(Client(where)) as client:
                    assert (await asyncio.to_thread(client.post, audit_line(1))).status == 201
        assert len({step.file_id for append in site.intake.durable for step in append.progress}) == 1


async def test_an_address_that_is_taken_is_tried_again():
    taken = socket.create_server(("127.0.0.1", 0))
    address = Address("127.0.0.1", taken.getsockname()[1])
    async with served(where=Socket(listen=address), retry_seconds=(0.05, 0.1)) as site:
        await site.until(lambda: len(site.problems) > 2)
        assert "in use" in (site.problems[0][1] or "")
        taken.close()
        await site.until(lambda: site.source.addresses)
        assert site.problems[-1] == (str(address), None)
        assert (await site.post(audit_line(1))).status == 201
