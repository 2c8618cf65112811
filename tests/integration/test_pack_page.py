"""The page of a pack, in a real Chromium from a file, without a network: what it proves, and what it refuses to."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from tests.support import pack_pages as forging
from tests.support.pack_pages import (
    ENROLMENT,
    INJECTIONS,
    NO_ED25519,
    changed,
    opened,
    rows_of,
    verdict,
    with_data,
    with_injections,
    write_page,
)
from tests.support.trail_factory import TrailFactory, sample_trail

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def make_page(tmp_path_factory):
    """Return a function that packs trails and returns the path of the page."""
    return lambda *trails, trust=None: write_page(tmp_path_factory.mktemp("pack"), *trails, trust=trust)


@pytest.fixture(scope="module")
def honest(make_page):
    return make_page(sample_trail(), sample_trail(seed=b"other", service="console"))


def test_every_record_of_an_honest_pack_is_proven_without_a_network(chromium, honest):
    with chromium.visit(honest.as_uri(), offline=True) as visit:
        opened(visit)
        assert visit.page.evaluate("[isSecureContext, typeof crypto.subtle.verify]") == [True, "function"]
        assert verdict(visit) == "24 of 24 records are proven, under the keys below."
        marks = visit.page.locator("#events tbody td:first-child").all_inner_texts()
        assert marks == ["✓ proven"] * 24
        assert "keys that came with the records" in visit.page.locator("#meaning").inner_text()
        assert visit.requests == [honest.as_uri()]


def test_fingerprints_are_those_of_the_trust_command(chromium, honest):
    from agent.reader.trustfile import fingerprint

    with chromium.visit(honest.as_uri(), offline=True) as visit:
        shown = opened(visit).page.locator("#trails tbody").inner_text()
    assert fingerprint(sample_trail().signer.verifier) in shown


def test_own_trust_lines_decide_whom_to_believe(chromium, honest):
    first, second = sample_trail(), sample_trail(seed=b"other", service="console")
    with chromium.visit(honest.as_uri(), offline=True) as visit:
        opened(visit)

        def check(lines):
            visit.page.get_by_label("Your own trust lines").fill(lines)
            visit.page.evaluate("document.body.dataset.state = ''")
            visit.page.get_by_role("button", name="Check with these keys").click()

        check(first.trust_line + second.trust_line)
        opened(visit)
        assert verdict(visit).startswith("24 of 24 records are proven")
        assert visit.page.locator("#meaning").inner_text() == "Checked with the keys of your own trust lines."
        check(first.trust_line)
        opened(visit)
        assert verdict(visit).startswith("12 of 24 records are NOT proven; 12 are.")
        assert visit.page.locator("#events tbody tr", has_text="none of your keys signed this trail").count() == 12
        check(f"demo/pay*/*/web-[0-9] {first.vkey}\n# a comment\n\ndemo/cons?le/*/* {second.vkey}")
        opened(visit)
        assert verdict(visit).startswith("24 of 24 records are proven")
        check(f"demo/[z-a]ayments/*/* {first.vkey}\ndemo/console/*/* {second.vkey}")
        opened(visit)
        assert verdict(visit).startswith("12 of 24 records are NOT proven; 12 are.")
        check(f"demo/payments/*/* {first.vkey[:-2]}AA")
        visit.page.locator("#lines-error:not(:empty)").wait_for()


def test_an_enrolment_key_vouches_in_the_browser_too(chromium, make_page):
    page = make_page(sample_trail(enrolment=ENROLMENT), trust=f"demo/payments/*/* {ENROLMENT.verifier}\n")
    with chromium.visit(page.as_uri(), offline=True) as visit:
        opened(visit)
        visit.page.get_by_label("Your own trust lines").fill(f"demo/payments/*/* {ENROLMENT.verifier}")
        visit.page.evaluate("document.body.dataset.state = ''")
        visit.page.get_by_role("button", name="Check with these keys").click()
        opened(visit)
        assert verdict(visit).startswith("12 of 12 records are proven")
        assert "acme-enrolment" in visit.page.locator("#trails").inner_text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (forging.another_byte_of_an_event, "do not lead to the signed root"),
        (forging.another_hash_of_a_proof, "do not lead to the signed root"),
        (forging.a_hash_too_few, "a hash too few"),
        (forging.a_hash_too_many, "a hash too many"),
        (forging.another_number, "calls itself seq"),
    ],
)
def test_one_record_that_was_changed_is_not_proven_and_the_others_are(chromium, honest, change, reason):
    with chromium.visit(changed(honest, change).as_uri(), offline=True) as visit:
        opened(visit)
        assert verdict(visit) == "1 of 24 records are NOT proven; 23 are."
        broken = visit.page.locator("#events tbody td:first-child", has_text="✗").inner_text()
        assert broken.startswith("✗ not proven")
        assert reason in broken
        assert visit.page.locator("#events tbody td:first-child", has_text="✓").count() == 23


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (forging.another_signature, "does not verify"),
        (forging.another_root, "does not verify"),
        (forging.another_size, "does not verify"),
        (forging.the_key_of_a_thief, "is not the one of its opening seal"),
        (forging.the_seals_of_another_trail, "the checkpoint is one of"),
        (forging.an_opening_with_another_key, "manifest is not in its tree"),
    ],
)
def test_a_trail_whose_seals_were_changed_proves_none_of_its_records(chromium, honest, change, reason):
    with chromium.visit(changed(honest, change).as_uri(), offline=True) as visit:
        opened(visit)
        assert verdict(visit) == "12 of 24 records are NOT proven; 12 are."
        assert visit.page.locator("#events tbody tr", has_text=reason).count() == 12
        assert reason in visit.page.locator("#trails tbody tr").first.inner_text()


def test_what_is_shown_is_what_was_checked_and_not_what_the_page_says(chromium, honest):
    """Somebody edits the visible table, and leaves the data that is checked as it is."""
    text = honest.read_text("utf-8")
    assert "<td>denied</td>" in text
    forged = honest.with_name("edited.html")
    forged.write_text(text.replace("<td>denied</td>", "<td>success</td>"), "utf-8")
    with chromium.visit(forged.as_uri(), offline=True) as visit:
        assert "denied" in opened(visit).page.locator("#events tbody").inner_text()


def test_strings_of_events_are_text_and_never_run(chromium, make_page):
    page = make_page(with_injections())
    with chromium.visit(page.as_uri(), offline=True) as visit:
        opened(visit)
        assert verdict(visit).startswith(f"{len(INJECTIONS)} of {len(INJECTIONS)} records are proven")
        for button in visit.page.locator("#events button").all():
            button.click()
        shown = visit.page.locator("#events tbody").inner_text()
        assert INJECTIONS[0] in shown
        assert "\u202e" not in shown
        assert "\\u{202e}" in shown
        assert visit.page.evaluate("globalThis.ran") is None
        assert visit.page.locator("img").count() == 0
        assert visit.page.locator("script").count() == 2


def test_the_policy_refuses_a_script_that_somebody_adds(chromium, honest):
    forged = honest.with_name("added.html")
    forged.write_text(honest.read_text("utf-8").replace("<main>", "<main><script>globalThis.ran = 1</script>"), "utf-8")
    with chromium.visit(forged.as_uri(), offline=True, errors=True) as visit:
        opened(visit)
        assert visit.page.evaluate("globalThis.ran") is None
        assert any("Content Security Policy" in error for error in visit.errors)


def test_a_browser_without_ed25519_proves_nothing_and_says_so(chromium, honest):
    with chromium.visit(honest.as_uri(), offline=True, before=NO_ED25519) as visit:
        opened(visit)
        assert verdict(visit) == "0 of 24 records are proven: the signatures were not checked."
        assert "signature not checked" in visit.page.locator("#meaning").inner_text()
        assert "✓" not in visit.page.locator("main").inner_text()
        assert visit.page.locator("#trust").is_hidden()


def test_a_browser_without_ed25519_still_finds_a_changed_record(chromium, honest):
    with chromium.visit(changed(honest, forging.another_byte_of_an_event).as_uri(), offline=True, before=NO_ED25519) as visit:
        opened(visit)
        assert verdict(visit) == "1 of 24 records are NOT proven; 0 are."


def test_a_browser_that_takes_any_signature_for_good_is_not_believed(chromium, honest):
    before = "crypto.subtle.verify = () => Promise.resolve(true);"
    with chromium.visit(honest.as_uri(), offline=True, before=before) as visit:
        assert verdict(opened(visit)) == "0 of 24 records are proven: the signatures were not checked."


def test_a_browser_without_any_cryptography_says_so(chromium, honest):
    before = "Object.defineProperty(crypto, 'subtle', { value: undefined });"
    with chromium.visit(honest.as_uri(), offline=True, before=before) as visit:
        assert verdict(opened(visit)).startswith("Nothing was checked")
        assert "✓" not in visit.page.locator("main").inner_text()


def test_without_scripts_the_records_can_be_read_and_none_is_called_proven(chromium, honest):
    with chromium.visit(honest.as_uri(), offline=True, java_script_enabled=False) as visit:
        assert rows_of(visit).count() == 24
        assert "denied" in visit.page.locator("#events").inner_text()
        assert "✓" not in visit.page.locator("body").inner_text()
        assert "Nothing is checked yet" in verdict(visit)


@pytest.mark.parametrize("data", ["", "{}", "[]", '{"format":1,"trails":[],"records":[{}]}', '{"trails":[{}],"records":[{"trail":0}]}'])
def test_data_that_cannot_be_read_proves_nothing(chromium, honest, data):
    forged = with_data(honest, f"broken-{len(data)}.html", data)
    with chromium.visit(forged.as_uri(), offline=True) as visit:
        assert re.search("Nothing is proven|NOT proven", verdict(opened(visit)))
        assert "✓" not in visit.page.locator("main").inner_text()


def test_details_and_filter_work_with_the_keyboard_alone(chromium, honest):
    with chromium.visit(honest.as_uri(), offline=True) as visit:
        opened(visit)
        button = visit.page.get_by_role("button", name="Details of record 1", exact=True)
        button.focus()
        visit.page.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        detail = visit.page.locator("tr.detail")
        assert '"event_id":"evt-00000000"' in detail.inner_text()
        visit.page.keyboard.press("Enter")
        assert detail.count() == 0
        visit.page.get_by_label("Show only rows that hold").fill("EVT-00000003")
        assert visit.page.locator("#events tbody tr:visible").count() == 2
        visit.page.get_by_label("only what is not proven").check()
        assert visit.page.locator("#events tbody tr:visible").count() == 0


def test_records_of_all_trails_stand_in_the_order_of_time(chromium, honest):
    with chromium.visit(honest.as_uri(), offline=True) as visit:
        times = opened(visit).page.locator("#events tbody td:nth-child(2)").all_inner_texts()
        services = visit.page.locator("#events tbody td:nth-child(7)").all_inner_texts()
    assert times == sorted(times)
    assert services[:2] == ["demo/console", "demo/payments"]


def test_it_is_dark_where_the_reader_is_and_light_on_paper(chromium, honest):
    paper = "getComputedStyle(document.body).backgroundColor"
    with chromium.visit(honest.as_uri(), offline=True, color_scheme="dark") as visit:
        assert opened(visit).page.evaluate(paper) == "rgb(13, 17, 23)"
        visit.page.emulate_media(media="print", color_scheme="dark")
        assert visit.page.evaluate(paper) == "rgb(255, 255, 255)"
        assert visit.page.locator("#trust").is_hidden()
    with chromium.visit(honest.as_uri(), offline=True, color_scheme="light") as visit:
        assert opened(visit).page.evaluate(paper) == "rgb(255, 255, 255)"


def test_a_large_tree_is_no_trouble_for_the_page(chromium, make_page):
    trail = TrailFactory(start=datetime(2026, 1, 1, tzinfo=UTC))
    for _ in range(40):
        trail.add(30)
        trail.heartbeat()
    trail.stop()
    page = make_page(trail)
    with chromium.visit(page.as_uri(), offline=True) as visit:
        assert verdict(opened(visit)) == "1200 of 1200 records are proven, under the keys below."
