"""What a report looks like: whatever a store holds, it stays text."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from agent.events.catalog import Catalog, Category, Entry, Sensitivity
from agent.reader.ask.filters import ALL, Scope
from agent.reader.control.html import controls_fragment, coverage_fragment, page, reviews_fragment, timeline_fragment
from agent.reader.control.markdown import as_markdown, plain
from agent.reader.control.markup import POLICY, STYLE
from agent.reader.control.plain import as_json
from agent.reader.control.report import NO_CLAIM, make_report
from agent.reader.control.reviews import reviews
from tests.unit.reader.ask.made import at, event
from tests.unit.reader.control.conftest import NOW

if TYPE_CHECKING:
    from agent.reader.control.report import Report
    from tests.unit.reader.ask.made import Made
    from tests.unit.reader.control.conftest import Company

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></svg><style>*{display:none}",
    "| a | b |\n# heading\n[link](javascript:alert(1)) `code` <b>",
    "\x1b[2J\u202egnp.exe",
    "&lt;script&gt; $x$ ~~s~~ :tada: www.example.com http://example.com",
)
WORDS = re.compile(r"\S+")
TAGS = set(
    WORDS.findall(
        """html head meta title style body header main h1 h2 h3 p dl dt dd div table thead tbody tr th td code span ul li strong
        svg g rect line polygon text desc"""
    )
)
ATTRIBUTES = set(
    WORDS.findall(
        """lang charset http-equiv content name class scope viewbox role aria-labelledby aria-hidden id x y x1 y1 x2 y2 width height
        points text-anchor"""
    )
)


class Reading(HTMLParser):
    """Reads a page as a browser would, and keeps what it is made of."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.shown = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta" and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"nothing is open before </{tag}>"
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.shown += data


def read(html: str) -> Reading:
    reading = Reading()
    reading.feed(html)
    reading.close()
    assert reading.open == []
    return reading


def report_of(made: Made, catalog: Catalog | None = None) -> Report:
    return make_report(made.index, ALL, catalog, now=NOW, catalog_file=HOSTILE[1])


@pytest.fixture
def hostile(made: Made) -> Report:
    """A report of a store in which everything that a service or an intruder can name is hostile."""
    trail = made.trail()
    texts = [{**event(action=text, actor=text, target=text, note=text), "outcome": text} for text in HOSTILE]
    signed: dict[str, Any] = {
        "range": {"since": HOSTILE[0]},
        "query": HOSTILE[0],
        "finding": HOSTILE[3],
        "result": HOSTILE[1],
        "matched": HOSTILE[0],
    }
    trail.batch(at(2), *texts, event(action="review.sign", actor=HOSTILE[1], **signed), quarantined=len(HOSTILE), gaps=1, bytes_lost=5)
    for seq, text in enumerate(HOSTILE, 100):
        made.insert("quarantine", {"trail": 0, "seq": seq, "batch": 0, "observed_at": at(2), "reason": text, "raw": text})
    loss = {"cause": HOSTILE[0], "certainty": HOSTILE[1], "source": HOSTILE[2], "detail": HOSTILE[3], "observed_at": at(2)}
    made.insert("gaps", {"trail": 0, "seq": 99, "batch": 0, **loss})
    made.finding("data_altered", "tampered", trail.origin, 1, message=HOSTILE[0])
    made.execute("UPDATE meta SET value = ? WHERE name = 'store'", [HOSTILE[1]])
    entry = Entry("review.sign", Category.REVIEW, Sensitivity.HIGH, privileged=True, required_context=(), description=HOSTILE[0])
    return report_of(made, Catalog((entry,)))


class TestHtml:
    def test_hostile_text_adds_no_element_and_no_attribute(self, hostile: Report) -> None:
        reading = read(page(hostile))
        assert reading.tags <= TAGS
        assert reading.attributes <= ATTRIBUTES

    def test_hostile_text_is_shown_as_it_is(self, hostile: Report) -> None:
        shown = read(page(hostile)).shown
        assert "<script>alert(1)</script>" in shown
        assert "\"'><img src=x onerror=alert(1)>" in shown

    def test_what_cannot_be_seen_is_shown_escaped(self, hostile: Report) -> None:
        text = page(hostile)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\\x1b[2J\\u202egnp.exe" in read(text).shown

    def test_fragments_are_no_less_careful(self, hostile: Report) -> None:
        link = "/events?action=\"'><script>"
        parts = (
            coverage_fragment(hostile.coverage, lambda _: link),
            controls_fragment(hostile.table, lambda _: link),
            timeline_fragment(hostile.timeline),
            reviews_fragment(hostile.table.reviews),
        )
        for part in parts:
            reading = read(part)
            assert reading.tags <= TAGS | {"a"}
            assert reading.attributes <= ATTRIBUTES | {"href"}

    def test_the_policy_lets_its_own_style_through_and_nothing_else(self, company: Company) -> None:
        text = page(make_report(company.index, now=NOW))
        style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
        assert style is not None
        assert style[1] == STYLE
        assert f"'sha256-{b64encode(sha256(style[1].encode()).digest()).decode()}'" in POLICY
        assert POLICY.startswith("default-src 'none';")
        assert "unsafe" not in POLICY
        assert "style=" not in text
        assert "<script" not in text
        assert not re.search(r"\b(?:src|href)\s*=|url\(|@import", text)

    def test_it_says_what_it_is_not(self, company: Company, catalog: Catalog) -> None:
        shown = read(page(make_report(company.index, ALL, catalog, now=NOW))).shown
        assert NO_CLAIM in shown
        assert not re.search(r"complian(?:t|ce)(?! mode)|is met\b(?!: that)|passed the|effective", shown, re.IGNORECASE)

    def test_a_scoped_page_shows_nothing_of_another_service(self, company: Company, catalog: Catalog) -> None:
        report = make_report(company.index, Scope(("acme/directory",)), catalog, now=NOW)
        for text in (page(report), as_markdown(report), json.dumps(as_json(report))):
            assert "acme/directory" in text
            assert "acme/payments" not in text
            assert "acme/console" not in text
            assert not any(origin in text for origin in company.written.origins if "/directory/" not in origin)


class TestMarkdown:
    def test_hostile_text_makes_no_markup(self, hostile: Report) -> None:
        text = as_markdown(hostile)
        assert set(re.findall(r"<(/?\w*)", text)) <= {"code", "/code"}
        assert not re.search(r"(?<!\\)\]\(", text)
        assert "\x1b" not in text
        assert "\u202e" not in text

    def test_every_row_of_a_table_has_as_many_cells_as_its_head(self, hostile: Report) -> None:
        cells = 0
        for line in as_markdown(hostile).splitlines():
            if not line.startswith("|"):
                cells = 0
                continue
            here = len(re.findall(r"(?<!\\)\|", line)) - 1
            assert cells in {0, here}, line
            cells = here

    @pytest.mark.parametrize("text", HOSTILE)
    def test_what_has_a_meaning_in_markdown_is_disarmed(self, text: str) -> None:
        assert "\n" not in plain(text)
        assert not re.search(r"(?<!\\)[*_`\[\]|#$~]", plain(text).replace("&#", ""))

    def test_it_has_the_same_figures_as_the_page(self, company: Company, catalog: Catalog) -> None:
        report = make_report(company.index, ALL, catalog, now=NOW)
        text, shown = as_markdown(report), read(page(report)).shown
        for control in report.table.controls:
            for each in control.evidence:
                assert each.title in text
                assert f"{each.seen.count:,}" in text
                assert each.title in shown
                assert f"{each.seen.count:,}" in shown
            assert f"### {control.id} {control.title}" in text


class TestJson:
    def test_it_is_ascii_and_has_everything(self, hostile: Report) -> None:
        text = json.dumps(as_json(hostile))
        assert text.isascii()
        read_back = json.loads(text)
        assert list(read_back)[:3] == ["format", "claim", "store"]
        assert {"coverage", "table", "timeline", "statement"} <= set(read_back)
        assert [each["action"] for each in read_back["coverage"]["uncatalogued"]] == sorted(HOSTILE)

    def test_what_is_no_unicode_can_be_written_all_the_same(self, company: Company) -> None:
        report = replace(make_report(company.index, now=NOW), store="/srv/\udcff")
        assert json.loads(json.dumps(as_json(report)))["store"] == "/srv/\\udcff"
        assert "/srv/\\udcff" in page(report)


class TestTimeline:
    def test_an_event_that_claims_the_year_9999_does_not_stretch_the_axis(self, made: Made) -> None:
        far = {**event(), "occurred_at": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)}
        old = {**event(), "occurred_at": datetime(1, 1, 1, tzinfo=UTC)}
        trail = made.trail()
        trail.batch(at(1))
        trail.batch(at(30), event(hours=2), event(hours=28), far, old)
        found = report_of(made).timeline
        assert found.bucket == "day"
        assert [bar.total for bar in found.bars] == [1, 1]
        assert found.outside == 2
        assert "2 events claim a time" in timeline_fragment(found)

    def test_the_bars_add_up_to_all_events(self, company: Company) -> None:
        found = make_report(company.index, now=NOW).timeline
        assert sum(bar.total for bar in found.bars) + found.outside == company.written.events
        assert {bar.start.date(): bar.total for bar in found.bars} == {
            day: sum(count for (_, other), count in company.written.by_day.items() if other == day) for _, day in company.written.by_day
        }

    def test_silences_and_losses_are_drawn(self, company: Company) -> None:
        drawn = timeline_fragment(make_report(company.index, now=NOW).timeline)
        assert drawn.count('class="silence" x="') == 1
        assert drawn.count('class="loss" points') == 1

    def test_a_long_history_is_drawn_in_weeks_or_months(self, made: Made) -> None:
        trail = made.trail()
        trail.batch(at(0))
        trail.batch(at(24 * 500), event(hours=24 * 400))
        assert report_of(made).timeline.bucket == "week"

    def test_nothing_sealed_is_said_in_words(self, made: Made) -> None:
        assert "No batch was sealed" in timeline_fragment(report_of(made).timeline)

    def test_reviews_of_an_empty_store_are_none(self, made: Made) -> None:
        assert reviews(made.index) == ()
