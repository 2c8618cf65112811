"""The pages in real Chromium: keyboard, labels, contrast, paper, narrow windows, no scripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.browsing import at_home, enter, home

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.browser import Chromium
    from tests.support.view_site import Site

pytestmark = pytest.mark.slow


def test_everything_can_be_done_with_the_keyboard(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)

        def focused() -> str:
            return str(page.evaluate("document.activeElement.innerText || document.activeElement.name || document.activeElement.tagName"))

        page.keyboard.press("Tab")
        assert focused() == "Skip to the content"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert page.locator(".skip").bounding_box()["y"] >= 0  # type: ignore[index]
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert focused() == "text", "the skip link leads past the navigation"
        page.keyboard.type("role.grant")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?text=role.grant")
        page.keyboard.press("/")
        assert focused() == "text", "/ leads to the search"
        reached = []
        for _ in range(120):
            page.keyboard.press("Tab")
            reached.append(focused())
            if page.evaluate("!!document.activeElement.closest('table.events tbody')"):
                break
        assert page.evaluate("document.activeElement.closest('table.events tbody') !== null"), reached
        page.keyboard.press("Enter")
        page.wait_for_url("**/event/**")
        assert page.get_by_role("heading", name="Proof verified just now").is_visible()


def test_every_field_has_a_label_and_every_table_a_caption(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        event = str(page.locator("table.events tbody a").first.get_attribute("href"))
        for address in ("/", event, "/health", "/quarantine", "/coverage", "/control", "/export"):
            page.goto(f"{home(view).rstrip('/')}{address}")
            unlabelled = "[...document.querySelectorAll('input:not([type=hidden]), select')].filter(field => !field.labels.length).length"
            assert page.evaluate(unlabelled) == 0, address
            assert page.evaluate("[...document.querySelectorAll('table')].filter(table => !table.caption).length") == 0, address
            assert page.evaluate("[...document.querySelectorAll('th')].filter(cell => !cell.scope).length") == 0, address
            assert page.locator("h1").count() == 1, address
            assert page.locator("html[lang=en]").count() == 1
            ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
            assert len(ids) == len(set(ids)), address


def test_the_chart_says_in_words_what_it_shows(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*")) as visit:
        page = at_home(visit, view)
        assert page.locator("svg.chart").get_attribute("aria-labelledby") == "chart-title chart-text"
        text = str(page.locator("#chart-text").text_content())
        total = re.search(r"([\d,]+) events? match", page.get_by_role("status").inner_text())[1]  # type: ignore[index]
        assert text.startswith(f"{total} events from 2026-0")
        page.get_by_text("The same as a table").click()
        cells = page.locator("figure table td").all_inner_texts()
        assert sum(int(cell.replace(",", "")) for cell in cells) == int(total.replace(",", ""))


LUMINANCE = """() => {
  const channel = (value) => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const light = (colour) => {
    const [r, g, b] = colour.match(/\\d+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  const worst = {};
  for (const element of document.querySelectorAll("p, a, td, th, dt, dd, li, label, button, h1, h2, caption, summary, span, footer")) {
    if (!element.offsetParent || !element.innerText.trim()) continue;
    const [high, low] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) worst[element.tagName + "." + element.className] = ratio;
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_have_contrast(chromium: Chromium, view: Site, scheme: str) -> None:
    with enter(chromium, view, view.grant("acme/*"), color_scheme=scheme) as visit:
        page = at_home(visit, view)
        event = str(page.locator("table.events tbody a").first.get_attribute("href"))
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (int(re.findall(r"\d+", ground)[0]) < 64) == (scheme == "dark")
        for address in ("/?outcome=denied", event, "/health", "/coverage", "/control", "/export"):
            page.goto(f"{home(view).rstrip('/')}{address}")
            assert page.evaluate(LUMINANCE) == {}, address


def test_what_is_printed_is_the_evidence_and_not_the_controls(chromium: Chromium, view: Site, tmp_path: Path) -> None:
    with enter(chromium, view, view.grant("acme/*"), color_scheme="dark") as visit:
        page = at_home(visit, view)
        page.goto(f"{home(view)}?action=role.grant")
        page.emulate_media(media="print")
        assert not page.locator("nav").first.is_visible()
        assert not page.get_by_role("button", name="Search").is_visible()
        assert not page.locator(".facets").is_visible()
        assert page.locator("table.events").is_visible()
        assert page.locator("#statement").is_visible()
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        made = page.pdf(path=tmp_path / "page.pdf")
        assert made.startswith(b"%PDF-")


def test_everything_works_without_scripts(chromium: Chromium, view: Site) -> None:
    grant = view.grant("acme/*")
    with chromium.visit(f"{home(view)}enter", java_script_enabled=False) as visit:
        page = visit.page
        page.get_by_label("Token").fill(view.token(grant))
        page.get_by_role("button", name="Enter").click()
        page.wait_for_url(home(view))
        page.get_by_label("Action").fill("role.grant")
        page.get_by_role("button", name="Search").click()
        page.wait_for_url("**action=role.grant**")
        page.locator("table.events tbody a").first.click()
        page.wait_for_url("**/event/**")
        page.get_by_role("button", name="Leave").click()
        page.wait_for_url("**/enter")
        assert page.context.cookies() == []


def test_a_narrow_window_needs_no_sideways_scrolling_but_for_tables(chromium: Chromium, view: Site) -> None:
    with enter(chromium, view, view.grant("acme/*"), viewport={"width": 390, "height": 800}) as visit:
        page = at_home(visit, view)
        event = str(page.locator("table.events tbody a").first.get_attribute("href"))
        for address in ("/", event, "/health", "/quarantine", "/export"):
            page.goto(f"{home(view).rstrip('/')}{address}")
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), address
