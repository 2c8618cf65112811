"""The pages in real Chromium: what somebody who wrote hostile events hopes for."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.reader.control.catalogs import load_catalog
from tests.integration.conftest import CATALOG
from tests.support.browsing import at_home, enter, home
from tests.support.trail_factory import TrailFactory, stamp
from tests.support.trail_factory import write_store as write_objects
from tests.support.two_services import BEGIN, seal
from tests.support.view_site import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.browser import Chromium
    from tests.support.view_site import Site

pytestmark = pytest.mark.slow


TEMPLATE = "{{ 1337 * 7331 }}{% for x in y %}"
HOSTILE = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "javascript:window.pwned=1",
    "'><svg/onload=window.pwned=1>",
    "</pre></td></title></textarea><script>window.pwned=1</script>",
    TEMPLATE,
    "\u202egnp.exe\u2066\u200b\ufeff",
    "\u001b[31mred\u0007\u0000",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    '=HYPERLINK("https://elsewhere.example.com")',
)


def hostile_event(number: int, text: str) -> bytes:
    return msgspec.json.encode(
        {
            "stream": "audit",
            "event_id": f"{number}{text}",
            "occurred_at": stamp(BEGIN + timedelta(days=1, minutes=number)),
            "actor": {"type": text, "id": text, "session": text},
            "action": text,
            "target": {"type": text, "id": text},
            "outcome": "denied",
            "context": {text: text, "approval_id": text, "deep": {text: [text, {text: text}]}},
        }
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A store in which every text that a service can choose is meant to do harm."""
    folder = tmp_path_factory.mktemp("hostile")
    trail = TrailFactory(start=BEGIN, service="hostile", heartbeat_seconds=864_000)
    seal(trail, BEGIN + timedelta(days=1), [hostile_event(number, text) for number, text in enumerate(HOSTILE)], HOSTILE[1], troubled=True)
    seal(trail, BEGIN + timedelta(days=2), [], HOSTILE[4], troubled=True)
    trail.close()
    write_objects(trail.objects, folder / "store")
    (folder / "trust.txt").write_text(trail.trust_line, encoding="utf-8")
    with served(folder / "store", folder / "trust.txt", folder, catalog=load_catalog(CATALOG)) as running:
        yield running


def test_hostile_texts_in_events_stay_texts(chromium: Chromium, hostile: Site) -> None:
    grant = hostile.grant("demo/*", name="<b onclick=window.pwned=1>Jane</b>")
    with enter(chromium, hostile, grant) as visit:
        dialogs: list[str] = []
        visit.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        page = at_home(visit, hostile)
        events = [str(link.get_attribute("href")) for link in page.locator("table.events tbody a").all()]
        assert len(events) == len(HOSTILE)
        narrowed = [str(link.get_attribute("href")) for link in page.locator(".facets a").all()]
        assert len(narrowed) > 30
        for address in ["/", *events, *narrowed[::3], "/health", "/quarantine", "/coverage", "/control", "/export?text=%3Cscript%3E"]:
            answer = page.goto(f"{home(hostile).rstrip('/')}{address}")
            assert answer is not None
            assert answer.status == 200, address
            assert page.evaluate("window.pwned") is None, address
            assert (
                page.locator("img, svg:not(.chart), script:not([src]), iframe, main script, [onerror], [onload], [onclick]").count() == 0
            ), address
            assert page.locator("a[href^='javascript:' i]").count() == 0, address
            shown = page.locator("body").inner_text()
            for invisible in ("\u202e", "\u2066", "\u200b", "\ufeff", "\u001b", "\u0007"):
                assert invisible not in shown, address
        assert dialogs == []
        assert visit.errors == []
        assert all(url.startswith(home(hostile)) for url in visit.requests)


def test_hostile_texts_are_shown_as_they_are(chromium: Chromium, hostile: Site) -> None:
    with enter(chromium, hostile, hostile.grant("demo/*")) as visit:
        page = at_home(visit, hostile)
        shown = page.locator("table.events").inner_text()
        for text in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[5], HOSTILE[8]):
            assert text in shown
        assert "\\u202egnp.exe" in shown


def test_a_template_in_an_event_is_shown_and_not_run(chromium: Chromium, hostile: Site) -> None:
    with enter(chromium, hostile, hostile.grant("demo/*")) as visit:
        page = at_home(visit, hostile)
        row = page.locator("table.events tbody tr").nth(len(HOSTILE) - 1 - HOSTILE.index(TEMPLATE))
        assert row.locator("td").nth(2).inner_text() == TEMPLATE
        row.locator("a").click()
        assert page.locator("h1").inner_text() == f"{TEMPLATE} by {TEMPLATE}"
        facts = dict(zip(page.locator("dl dt").all_inner_texts(), page.locator("dl dd").all_inner_texts(), strict=True))
        assert facts["Event id"] == f"{HOSTILE.index(TEMPLATE)}{TEMPLATE}"
        assert facts["context.approval_id"] == TEMPLATE
        assert facts[f"context.{TEMPLATE}"] == TEMPLATE
        assert facts[f"context.deep.{TEMPLATE}[1].{TEMPLATE}"] == TEMPLATE


def test_formulas_in_events_are_no_formulas_in_the_csv(chromium: Chromium, hostile: Site) -> None:

    with enter(chromium, hostile, hostile.grant("demo/*")) as visit:
        page = at_home(visit, hostile)
        answer = page.request.get(f"{home(hostile)}export/file?format=csv")
        rows = list(csv.reader(io.StringIO(answer.text())))
    assert len(rows) == len(HOSTILE) + 1
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)


def test_the_browser_itself_would_stop_what_escaping_missed(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*"), errors=True) as visit:
        page = at_home(visit, view)
        page.evaluate("""() => {
            const script = document.createElement("script"); script.textContent = "window.pwned = 1"; document.body.append(script);
            const image = document.createElement("img"); image.src = "https://elsewhere.example.com/x"; document.body.append(image);
        }""")
        page.wait_for_function("document.querySelector('img').complete")
        assert page.evaluate("window.pwned") is None
        assert any("Content Security Policy" in error for error in visit.errors)
