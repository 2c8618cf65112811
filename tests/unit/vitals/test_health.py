from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from agent.vitals.clock import ManualClock
from agent.vitals.health import ALIVE_SECONDS, Health, Severity


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 1, 8, 14, tzinfo=UTC))


def test_it_is_not_ready_before_every_expected_condition_was_stated(clock):
    health = Health(clock, expect=["spool", "stores"])
    health.set("spool", ok=True)
    assert health.readiness() == {
        "ready": False,
        "reasons": [{"name": "stores", "detail": "starting", "severity": "critical", "since": "2026-01-08T14:00:00.000000Z"}],
    }
    health.set("stores", ok=True)
    assert health.readiness() == {"ready": True, "reasons": []}


def test_since_is_when_it_changed_not_when_it_was_last_said(clock):
    health = Health(clock)
    assert health.set("store:main", True) is True
    clock.advance(10)
    assert health.set("store:main", False, "403: no permission to put objects") is True
    clock.advance(10)
    assert health.set("store:main", False, "403: still no permission") is False
    [reason] = health.failed()
    assert (reason.detail, reason.since) == ("403: still no permission", datetime(2026, 1, 8, 14, 0, 10, tzinfo=UTC))
    clock.advance(10)
    assert health.set("store:main", True, "ignored while it is well") is True
    assert health.ready


def test_a_warning_is_shown_and_does_not_make_it_unready(clock):
    health = Health(clock)
    health.set("source:app", False, "/var/log/app/x.log: Permission denied", severity=Severity.WARNING)
    health.set("spool", False, "full")
    assert [reason.name for reason in health.failed()] == ["spool", "source:app"]
    health.forget("spool")
    health.forget("spool")
    assert health.ready
    assert health.readiness()["ready"] is True
    assert [reason.name for reason in health.failed()] == ["source:app"]


async def test_it_is_alive_while_the_loop_beats(clock):
    health = Health(clock)
    clock.advance(ALIVE_SECONDS + 1)
    assert health.liveness() == {"alive": False, "silent_seconds": ALIVE_SECONDS + 1}
    beating = asyncio.create_task(health.keep_beating())
    await asyncio.sleep(0)
    assert health.liveness() == {"alive": True, "silent_seconds": 0.0}
    beating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beating
