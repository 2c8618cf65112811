"""The pages in real Chromium: what an auditor does."""

from __future__ import annotations

import io
import json
import re
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browsing import at_home, enter, home
from tests.support.view_site import NOW

if TYPE_CHECKING:
    from tests.support.browser import Chromium
    from tests.support.view_site import Site

pytestmark = pytest.mark.slow


def test_a_link_leads_to_the_search_and_leaves_no_token_behind(chromium: Chromium, view: Site) -> None:
    grant = view.grant("acme/*", name="Jane Doe, auditor")
    token = view.token(grant)
    with enter(chromium, view, grant) as visit:
        page = at_home(visit, view)
        assert "Jane Doe, auditor" in page.locator("header").inner_text()
        assert token not in page.content()
        assert page.evaluate("document.cookie") == ""
        assert not any(token in url for url in visit.requests)
        page.go_back()
        assert token not in page.url
        assert all(url.startswith(home(view)) for url in visit.requests), "no external assets"


def test_searching_finds_and_counts(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        page.get_by_label("Action").fill("role.grant")
        page.get_by_label("From (UTC)").fill("2026-03-01")
        page.get_by_label("Before (UTC)").fill("2026-06-01")
        page.get_by_role("button", name="Search").click()
        page.wait_for_url("**/?action=role.grant&since=2026-03-01&until=2026-06-01")
        rows = page.locator("table.events tbody tr")
        total = int(re.search(r"([\d,]+) events? match", page.get_by_role("status").inner_text())[1].replace(",", ""))  # type: ignore[index]
        assert rows.count() == min(total, 50) > 10
        assert set(rows.locator("td:nth-child(3)").all_inner_texts()) == {"role.grant"}
        assert all("2026-03" <= text[:7] < "2026-06" for text in rows.locator("td:nth-child(1)").all_inner_texts())
        assert "What this answer stands on" in page.content()


def test_a_facet_narrows_the_answer_and_can_be_taken_back(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        everything = page.get_by_role("status").inner_text()
        page.get_by_label("Narrow by").get_by_role("link", name="denied").click()
        page.wait_for_url("**/?outcome=denied")
        assert set(page.locator("table.events tbody tr td:nth-child(5)").all_inner_texts()) == {"denied"}
        assert page.get_by_role("status").inner_text() != everything
        page.get_by_role("link", name="Remove the filter outcome denied").click()
        page.wait_for_url(home(view))
        assert page.get_by_role("status").inner_text() == everything


def test_pages_join_up(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/console")) as visit:
        page = at_home(visit, view)
        page.goto(f"{home(view)}?action=role.*")
        total = int(re.search(r"([\d,]+) events? match", page.get_by_role("status").inner_text())[1])  # type: ignore[index]
        seen: list[str] = []
        while True:
            seen += [str(link.get_attribute("href")) for link in page.locator("table.events tbody a").all()]
            following = page.get_by_role("link", name="Next page")
            if not following.count():
                break
            following.click()
            page.wait_for_load_state()
        assert len(seen) == len(set(seen)) == total > 50


def test_an_event_is_opened_its_proof_verified_and_downloaded(chromium: Chromium, view: Site, tmp_path: Path) -> None:
    from agent.reader.evidence.checking import check_proof
    from agent.trail.proof import TlogProof

    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        page.goto(f"{home(view)}?action=role.grant&outcome=success")
        page.locator("table.events tbody a").last.click()
        page.wait_for_url("**/event/**")
        assert page.get_by_role("heading", name="Proof verified just now").is_visible()
        said = page.locator("main").inner_text()
        for word in ("Tree size", "Root", "Signed by", "Vouched for by", "The exact record"):
            assert word in said
        names = []
        for name in ("Download the proof", "Download the leaf"):
            with page.expect_download() as download:
                page.get_by_role("link", name=name).click()
            names.append(tmp_path / download.value.suggested_filename)
            download.value.save_as(names[-1])
        proof, leaf = TlogProof.parse(names[0].read_bytes()), names[1].read_bytes()
        checked = check_proof(proof, leaf, view.desk.trust)
        assert f"/{checked.seq}" in page.url
        assert json.loads(leaf)["event"]["action"] == "role.grant"
        assert json.loads(page.locator("pre").first.inner_text()) == json.loads(leaf)


def test_a_grant_is_shown_with_its_approval(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        page.goto(f"{home(view)}?action=role.grant&outcome=success&text=CHG-4000")
        page.locator("table.events tbody a").first.click()
        page.wait_for_url("**/event/**")
        related = page.get_by_role("region", name="The same context.approval_id: CHG-4000")
        assert "role.approve" in related.inner_text()
    with enter(chromium, view, view.grant("acme/directory")) as visit:
        page = at_home(visit, view)
        page.goto(f"{home(view)}?action=role.grant&outcome=success&text=CHG-4000")
        page.locator("table.events tbody a").first.click()
        page.wait_for_url("**/event/**")
        assert "CHG-4000: the other side is not in your scope or not there." in page.locator("main").inner_text()
        assert "role.approve" not in page.content()


@pytest.mark.parametrize("kind", ["csv", "ndjson", "pack"])
def test_an_answer_is_exported(chromium: Chromium, view: Site, tmp_path: Path, kind: str) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        page.goto(f"{home(view)}?action=role.grant&outcome=denied")
        total = page.locator("table.events tbody tr").count()
        page.get_by_role("link", name="Export this answer").click()
        page.wait_for_url("**/export?**")
        page.get_by_label(re.compile({"csv": "^CSV", "ndjson": "^NDJSON", "pack": "^Evidence pack"}[kind])).check()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        body = Path(download.value.path()).read_bytes()
    if kind == "pack":
        with zipfile.ZipFile(io.BytesIO(body)) as pack:
            proofs = [name for name in pack.namelist() if name.endswith(".tlog-proof")]
        assert len(proofs) == total
    else:
        assert len(body.splitlines()) == total + 1
    assert view.recorder.events[-1]["context"]["format"] == kind


def test_the_approval_of_each_grant_goes_into_the_pack(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        page.goto(f"{home(view)}export?action=role.grant&outcome=success&text=CHG-4000")
        page.get_by_label("Into the pack also put").fill("context.approval_id")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        with zipfile.ZipFile(download.value.path()) as pack:
            events = [json.loads(line)["event"]["action"] for line in pack.read("events.ndjson").splitlines()]
    assert sorted(events) == ["role.approve", "role.grant", "role.request"]
    assert view.recorder.events[-1]["context"]["correlate"] == "context.approval_id"


def test_an_expired_link_is_told_so_and_shows_nothing(chromium: Chromium, view: Site) -> None:
    grant = view.grant("acme/*", now=NOW - timedelta(days=9), expires=NOW - timedelta(days=2))
    with enter(chromium, view, grant, errors=True) as visit:
        visit.page.get_by_role("heading", name="No access").wait_for()
        assert "This access has expired" in visit.page.inner_text("main")
        assert visit.page.context.cookies() == []
        visit.page.goto(f"{home(view)}health")
        assert "No access" in visit.page.inner_text("main")
        assert "acme" not in visit.page.content()


def test_an_event_out_of_scope_is_not_told_from_none(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        page.goto(f"{home(view)}?service=payments")
        address = page.locator("table.events tbody a").first.get_attribute("href")
    with enter(chromium, view, view.grant("acme/console"), errors=True) as visit:
        page = at_home(visit, view)
        answer = page.goto(f"{home(view).rstrip('/')}{address}")
        assert answer is not None
        assert answer.status == 404
        assert "Not in your scope, or not there" in page.inner_text("main")
        page.goto(f"{home(view)}?service=payments")
        assert "0 events match" in page.get_by_role("status").inner_text()
        assert "Nothing in your scope matches" in page.inner_text("main")
