"""Waiting for a seal, with the real spool and the real sealer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from agent.errors import IntegrityError
from agent.intake import Sealed
from agent.sealer import Identity, Sealer, SealPolicy
from agent.sources.socket.seals import SealWatch, prove
from agent.spool import Spool
from agent.trail.merkle import Frontier
from agent.trail.note import SigningKey
from agent.trail.proof import TlogProof
from agent.trail.seal import parse_seal, prove_records
from agent.vitals.clock import SystemClock
from tests.support.memory_intake import audit_line
from tests.support.posting import LINES, ONE
from tests.support.socket_site import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WHO = Identity("demo", "payments", "node-1", "0", "host", "boot", "0" * 64)


@contextlib.asynccontextmanager
async def sealing(state: Path, max_age_seconds: float) -> AsyncIterator[Spool]:
    """Run a spool and a sealer."""
    spool = Spool(state, 64 << 20)
    await spool.open()
    sealer = Sealer(spool, WHO, SealPolicy(max_age_seconds, 4 << 20, 60.0), SystemClock())
    await sealer.begin()
    parts = [asyncio.ensure_future(part) for part in (spool.run(), sealer.run())]
    try:
        yield spool
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await spool.close()


async def test_every_record_comes_back_with_a_proof_that_verifies(tmp_path):
    async with sealing(tmp_path, 0.3) as spool, served(spool) as site:
        waits = [
            site.post(b"\n".join(audit_line(f"{number}-{at}") for at in range(number)), LINES, "?wait=sealed") for number in range(1, 9)
        ]
        mixed = site.post(b"\n".join([b"{}", b"", audit_line("x"), audit_line("x")]), LINES, "?wait=sealed")
        answers = await asyncio.gather(*waits, mixed, site.post(audit_line("nobody waits"), ONE))
        head = spool.head
        assert head is not None
        key = SigningKey.parse(head.signing_key).verifier
    assert [answer.status for answer in answers] == [201] * 8 + [207, 201]
    seqs = []
    for answer in answers[:-1]:
        assert answer.body["sealed"] is True
        for result in answer.body["results"]:
            if result["status"] == "passed":
                assert "proof" not in result
                continue
            proof = TlogProof.parse(result["proof"].encode())
            checkpoint = proof.verify(result["record"].encode(), {key}, key.name)
            assert checkpoint.size > proof.index == result["seq"] == json.loads(result["record"])["seq"]
            assert json.loads(result["record"]).get("event", {}).get("event_id") == result.get("event_id")
            seqs.append(result["seq"])
    assert len(seqs) == len(set(seqs)) == 36 + 3
    assert spool.listeners == set()


async def test_a_wait_that_is_too_short_is_answered_as_durable(tmp_path):
    async with sealing(tmp_path, 30.0) as spool, served(spool) as site:
        answer = await site.post(audit_line(1), ONE, "?wait=sealed&timeout=0.2")
        assert (answer.status, answer.body["durable"], answer.body["sealed"]) == (202, True, False)
        assert answer.body["results"] == [{"line": 1, "status": "event", "event_id": "e1"}]
        assert spool.listeners == set()


async def test_a_stop_ends_the_wait(tmp_path):
    async with sealing(tmp_path, 30.0) as spool, served(spool) as site:
        waiting = asyncio.create_task(site.post(audit_line(1), ONE, "?wait=sealed&timeout=60"))
        await site.until(lambda: spool.held_records)
        site.stop.set()
        assert (await waiting).status == 202
        assert await site.running is True


async def test_a_seal_of_other_records_goes_by(tmp_path):
    async with sealing(tmp_path, 0.2) as spool, served(spool) as site:
        heard: list[Sealed] = []
        spool.listeners.add(heard.append)
        await site.post(audit_line(1), ONE)
        await site.until(lambda: any(sealed.data for sealed in heard))
        [batch] = [sealed for sealed in heard if sealed.data]
    lines = [b',"kind":"event","source":"api","other":1}']
    assert prove("api", batch, [lines]) == [None]
    assert prove("elsewhere", batch, [lines]) == [None]
    assert prove("api", Sealed(batch.seal, None, batch.frontier_before), [lines]) == [None]
    watch = SealWatch("api", spool.listeners)
    with watch.expect(lines) as proven:
        for listener in tuple(spool.listeners - {heard.append}):
            listener(batch)
        await watch.close()
        assert not proven.done()


async def test_a_frontier_of_another_batch_is_refused(tmp_path):
    async with sealing(tmp_path, 0.2) as spool, served(spool) as site:
        heard: list[Sealed] = []
        spool.listeners.add(heard.append)
        await site.post(audit_line(1), ONE)
        await site.until(lambda: any(sealed.data for sealed in heard))
    [batch] = [sealed for sealed in heard if sealed.data]
    with pytest.raises(IntegrityError, match="do not lead to a manifest"):
        prove_records(Frontier.empty(), [b"x"], parse_seal(batch.seal), [0])
