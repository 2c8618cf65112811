"""An agent whose catalog includes others: a change of an included file alone takes effect, and one that is missing changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from agent.vitals.catalogue import PREFIX
from tests.support import loggen
from tests.support.agent_process import Site, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_a_change_of_an_included_catalog_takes_effect_and_a_missing_one_changes_nothing_until_it_comes(tmp_path: Path) -> None:
    main, included, later = (tmp_path / name for name in ("main.yaml", "included.yaml", "later.yaml"))

    def write(path: Path, required: str) -> None:
        entry = {"category": "authorization", "sensitivity": "high", "required_context": [required]}
        path.write_text(json.dumps({"format": 1, "actions": {"role.grant": entry}}), encoding="utf-8")

    def running() -> str | None:
        return (site.status() or {}).get("config_sha256")

    def says() -> str:
        return next((str(reason["detail"]) for reason in (site.status() or {}).get("reasons", []) if reason["name"] == "configuration"), "")

    write(included, "granted_role")
    main.write_text("format: 1\ninclude: included.yaml\n", encoding="utf-8")
    site = Site(tmp_path, catalog=["shipped:kubernetes", str(main)])
    site.log.write_bytes(loggen.audit_line(1))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        before = running()
        write(included, "ticket")
        until(lambda: running() not in {before, None}, "the other included catalog")
        with site.log.open("ab") as log:
            log.write(loggen.audit_line(5))
        site.wait_drained(site.log.stat().st_size)
        second = running()
        main.write_text("format: 1\ninclude: later.yaml\n", encoding="utf-8")
        until(lambda: f"{main}:2: include: the catalog {later} cannot be read" in says(), "a condition that names the missing file")
        assert running() == second
        write(later, "granted_role")
        until(lambda: running() not in {second, None}, "the catalog that came")
        with site.log.open("ab") as log:
            log.write(loggen.audit_line(5))
        site.wait_drained(site.log.stat().st_size)
        assert site.metrics()[f'{PREFIX}events_total{{category="authorization",outcome="success",source="app"}}'] >= 1
        assert agent.stop() == 0, agent.log
    assert [record["kind"] for record in site.trails.records()] == ["event", "quarantine", "event"]
    assert site.trails.kind("quarantine")[0]["detail"] == "context.ticket"
