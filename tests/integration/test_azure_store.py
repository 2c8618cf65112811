"""The whole way with Azure Blob, as far as Azurite is one: shipped, resumed, verified; no lock is claimed that nobody saw."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import Site, trailseal, until
from tests.support.object_servers.azurite import Azurite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        server.container("audit")
        yield server


def test_an_agent_ships_to_azure_resumes_and_the_trail_verifies(tmp_path: Path, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", azurite.key)
    where = f"az://{azurite.account}/audit/prod"
    store = {"id": "main", "bucket": where, "endpoint": azurite.endpoint, "allow_unlocked": True}
    site = Site(tmp_path, stores=[store])
    for turn in range(2):
        with site.log.open("ab") as log:
            log.write(loggen.block(turn * 1000, 1000))
        with site.run(env=os.environ) as agent:
            until(lambda turn=turn: (site.status() or {}).get("head", {}).get("events") == 100 * (turn + 1), "the events sealed")  # type: ignore[misc]
            until(site.is_ready, "an agent that is ready")
            (warned,) = [reason for reason in (site.status() or {})["reasons"] if reason["name"] == "guarantees of store main"]
            assert "allow_unlocked" in warned["detail"]
            assert agent.stop() == 0, agent.log
    trust = tmp_path / "trust.txt"
    printed = trailseal("trust", where, "--endpoint", azurite.endpoint)
    assert printed.returncode == 0, printed.stderr
    trust.write_text(printed.stdout, encoding="utf-8")
    done = trailseal("verify", where, "--endpoint", azurite.endpoint, "--trust", trust, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["records"], report["assurance"]) == (0, 200, "unanchored"), report["findings"]
    assert {finding["code"] for finding in report["findings"]} <= {"not_attested", "away"}
    demanded = trailseal("verify", where, "--endpoint", azurite.endpoint, "--trust", trust, "--level", "locked")
    assert demanded.returncode == 12
