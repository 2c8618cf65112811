"""Reviews and reports from the command line: signed by a real agent, seen in a report, and looked at in a real browser."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import CATALOG
from tests.support.agent_process import TRAILSEAL, believe, verify
from tests.support.evidence_store import write_store
from tests.support.object_servers.rgw import Rgw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.browser import Chromium
    from tests.support.evidence_facts import Written

pytestmark = pytest.mark.slow
WORDS = ("--query", "role grants", "--finding", "None.", "--outcome", "no_findings")


class Desk:
    """A reviewer's machine: a store that is to be reviewed, and a home of its own."""

    def __init__(self, folder: Path) -> None:
        """Write a store."""
        self.folder = folder
        self.written: Written = write_store(folder, events=300)
        self.store = self.written.store
        self.trust = self.written.trust
        home = folder / "home"
        self.environment = {**os.environ, "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache"), "HOME": str(home)}

    def run(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **more}
        return subprocess.run(
            [TRAILSEAL, *map(str, words)], env=environment, capture_output=True, text=True, timeout=50, check=False, cwd=self.folder
        )

    def sign(self, *words: str | Path, reviewer: str = "ada@example.com") -> subprocess.CompletedProcess[str]:
        return self.run("review", "sign", self.store, "--trust", self.trust, "--reviewer", reviewer, *WORDS, *words)

    def listed(self, store: Path | None = None) -> list[dict[str, Any]]:
        done = self.run("review", "list", store or self.store, "--trust", self.trust, "--json")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["reviews"]
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


class TestSigning:
    def test_a_review_is_sealed_listed_and_reported_and_the_store_verifies_with_it(self, desk: Desk) -> None:
        done = desk.sign("--range", "2026-03", "--action", "role.*")
        assert done.returncode == 0, done.stderr
        origin = re.search(r"sealed {2}(trailseal/reviews/\S+) {2}seq 1 ", done.stdout)
        assert origin is not None, done.stdout

        [review] = desk.listed()
        assert (review["origin"], review["seq"], review["reviewer"]) == (origin[1], 1, "ada@example.com")
        assert (review["since"], review["until"]) == ("2026-03-01T00:00:00.000000Z", "2026-04-01T00:00:00.000000Z")
        march = [grant for grant in desk.written.grants if grant.occurred_at.month == 3]
        assert review["matched"] >= len(march) > 0
        assert [head["origin"] for head in review["heads"]] == sorted(desk.written.origins)
        assert (review["standing"], review["trusted"]) == ("holds", False)

        # Whoever wants to rely on it vouches for its key, as for any other.
        desk.trust = believe(desk.store, desk.folder / "trust-of-all")
        assert [each["trusted"] for each in desk.listed()] == [True]
        assert verify(desk.store, desk.trust).code == 0
        report = desk.run("report", desk.store, "--trust", desk.trust, "--catalog", CATALOG)
        assert report.returncode == 0, report.stderr
        assert "1 review was signed, the newest by ada\\@example\\.com" in report.stdout
        assert "no findings" in report.stdout

    def test_two_people_who_sign_at_once_are_both_recorded_in_one_trail(self, desk: Desk) -> None:
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda name: desk.sign(reviewer=name), ("ada@example.com", "grace@example.com")))
        assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
        reviews = desk.listed()
        assert sorted(review["reviewer"] for review in reviews) == ["ada@example.com", "grace@example.com"]
        assert len({review["origin"] for review in reviews}) == 1
        assert verify(desk.store, believe(desk.store, desk.folder / "trust-of-all")).code == 0

    def test_what_was_altered_after_its_review_no_longer_holds(self, desk: Desk) -> None:
        assert desk.sign().returncode == 0
        head = desk.listed()[0]["heads"][0]
        seals = sorted((desk.store / "trails" / head["origin"]).glob("*.seal"))
        seals[-1].unlink()
        assert [review["standing"] for review in desk.listed()] == ["changed"]

    def test_the_readable_list_shows_no_control_character(self, desk: Desk) -> None:
        assert desk.sign(reviewer="\x1b[31mada\u202e").returncode == 0
        done = desk.run("review", "list", desk.store, "--trust", desk.trust)
        assert done.returncode == 0
        assert "\\x1b[31mada\\u202e: no findings" in done.stdout
        assert "holds, 5 trails" in done.stdout
        assert "nobody vouches for this trail" in done.stdout

    def test_reviews_can_be_kept_in_a_store_of_their_own(self, desk: Desk) -> None:
        before = sorted(desk.store.rglob("*"))
        into = desk.folder / "reviews"
        assert desk.sign("--into", into, "--state", desk.folder / "state").returncode == 0
        assert sorted(desk.store.rglob("*")) == before
        assert [review["store"] for review in desk.listed(into)] == [str(desk.store)]
        assert desk.listed() == []

    def test_a_store_that_takes_nothing_leaves_no_signed_review(self, desk: Desk) -> None:
        (desk.folder / "file").write_text("in the way")
        done = desk.sign("--into", desk.folder / "file" / "store")
        assert done.returncode == 1
        assert "signed" not in done.stdout
        assert "is not in" in done.stderr
        assert desk.listed() == []

    def test_nothing_that_verifies_is_nothing_to_review(self, desk: Desk) -> None:
        done = desk.sign("--service", "nothing")
        assert done.returncode == 12
        assert not (desk.folder / "home/state").exists()

    def test_an_enrolment_key_vouches_for_all_reviews(self, desk: Desk) -> None:
        key = desk.folder / "reviews.key"
        made = desk.run("keygen", "trailseal/reviews", "--out", key)
        assert made.returncode == 0, made.stderr
        with desk.trust.open("a") as trust:
            trust.write(made.stdout)
        assert desk.sign("--enrolment-key", key).returncode == 0
        assert [review["trusted"] for review in desk.listed()] == [True]


class TestReportInABrowser:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_shows_without_a_network_and_breaks_no_policy(self, desk: Desk, chromium: Chromium, scheme: str) -> None:
        output = desk.folder / "report.html"
        done = desk.run("report", desk.store, "--trust", desk.trust, "--catalog", CATALOG, "--output", output)
        assert done.returncode == 0, done.stderr
        narrow = {"width": 380, "height": 800}
        with chromium.visit(output.as_uri(), offline=True, color_scheme=scheme, viewport=narrow) as visit:
            page = visit.page
            assert visit.requests == [output.as_uri()]
            assert page.locator("h3", has_text="CC6.1").count() == 1
            bars = page.locator("svg[role=img] rect.success")
            assert bars.count() > 20
            # The style is ours: a page without it would be wider than the screen, and its bars black.
            assert page.evaluate("document.documentElement.scrollWidth") <= 380
            assert (
                bars.first.evaluate("bar => getComputedStyle(bar).fill")
                == {"light": "rgb(59, 115, 185)", "dark": "rgb(108, 166, 234)"}[scheme]
            )
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]

    def test_what_a_reviewer_wrote_is_text_and_nothing_else(self, desk: Desk, chromium: Chromium) -> None:
        attack = "\"'><img src=x onerror=document.title='gone'><script>document.title='gone'</script>"
        assert desk.sign(reviewer=attack).returncode == 0
        output = desk.folder / "report.html"
        assert desk.run("report", desk.store, "--trust", desk.trust, "--output", output).returncode == 0
        with chromium.visit(output.as_uri(), offline=True) as visit:
            assert visit.page.locator("td", has_text=attack).count() == 1
            assert visit.page.locator("img, script").count() == 0
            assert visit.page.title() == "Control report, everything"


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        yield server


class TestReviewsInABucket:
    def test_a_locked_bucket_takes_them_and_lists_them(self, desk: Desk, rgw: Rgw) -> None:
        bucket = rgw.bucket("reviews", lock="compliance", days=1)
        reached = {"AWS_ACCESS_KEY_ID": rgw.access_key, "AWS_SECRET_ACCESS_KEY": rgw.secret_key, "AWS_ENDPOINT_URL": rgw.endpoint}
        desk.environment |= reached
        done = desk.sign("--into", f"s3://{bucket}/own")
        assert done.returncode == 0, done.stderr
        listed = desk.run("review", "list", f"s3://{bucket}/own", "--json")
        assert listed.returncode == 0, listed.stderr
        [review] = json.loads(listed.stdout)["reviews"]
        assert (review["reviewer"], review["store"]) == ("ada@example.com", str(desk.store))

    def test_a_bucket_without_a_lock_takes_none_unless_told_so(self, desk: Desk, rgw: Rgw) -> None:
        bucket = rgw.bucket("unlocked")
        reached = {"AWS_ACCESS_KEY_ID": rgw.access_key, "AWS_SECRET_ACCESS_KEY": rgw.secret_key, "AWS_ENDPOINT_URL": rgw.endpoint}
        desk.environment |= reached
        done = desk.sign("--into", f"s3://{bucket}")
        assert done.returncode == 1
        assert "signed" not in done.stdout
        assert desk.sign("--into", f"s3://{bucket}", "--allow-unlocked").returncode == 0


class TestReport:
    def test_the_commands_in_it_find_what_it_counted(self, desk: Desk) -> None:
        done = desk.run("report", desk.store, "--trust", desk.trust, "--catalog", CATALOG, "--range", "2026-03", "--format", "json")
        assert done.returncode == 0, done.stderr
        controls = json.loads(done.stdout)["table"]["controls"]
        evidence = [each for control in controls for each in control["evidence"] if control["id"] in {"CC6.3", "CC6.7"}]
        for each in evidence[:1] + evidence[5:]:
            words = shlex.split(each["command"])[1:]
            answered = desk.run(*words, "--trust", desk.trust, "--format", "ndjson")
            assert answered.returncode == 0, answered.stderr
            lines = [json.loads(line) for line in answered.stdout.splitlines()]
            assert len(lines) == each["seen"]["count"], each["command"]
