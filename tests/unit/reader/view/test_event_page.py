from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.reader.view.app import ROUTES
from agent.trail.manifest import AgentState, ManifestReason, Window
from agent.trail.records import Reworked, reworked_block
from tests.support.trail_factory import TrailFactory, stamp, write_store
from tests.support.two_services import BEGIN, HIDDEN, SHOWN, TwoServices, event, write_two_services
from tests.support.view_site import Site, site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def two(tmp_path: Path) -> TwoServices:
    return write_two_services(tmp_path / "made", with_hidden=False)


@pytest.fixture
async def running(two: TwoServices, tmp_path: Path) -> AsyncIterator[Site]:
    async with site(two.store, two.trust, tmp_path) as made:
        yield made


async def told(running: Site, path: str, service: str = SHOWN) -> tuple[int, str]:
    async with running.client(running.grant(service)) as client, client.get(path) as answer:
        return answer.status, await answer.text()


def alter(two: TwoServices) -> None:
    """Change a byte in every data object, as somebody with the store's disk could."""
    for path in (two.store / "records").rglob("*.zst"):
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(bytes(raw))


async def test_a_proof_is_made_of_what_the_store_holds_now(running: Site, two: TwoServices) -> None:
    address = f"/event/{two.shown}/{two.grant_seq}"
    assert "Proof verified just now" in (await told(running, address))[1]
    alter(two)
    status, text = await told(running, address)
    assert status == 200
    assert "The proof could not be verified" in text
    assert "verified just now" not in text
    assert "The exact record" not in text, "what was not verified is not shown as the record"
    assert str(two.store) not in text
    for tail in ("/proof", "/leaf"):
        assert (await told(running, address + tail))[0] == 503


async def test_a_store_that_went_away_proves_nothing_and_says_so(running: Site, two: TwoServices) -> None:
    two.store.rename(two.store.with_name("elsewhere"))
    status, text = await told(running, f"/event/{two.shown}/{two.grant_seq}")
    assert status == 200
    assert "The proof could not be verified" in text


async def test_a_key_that_nobody_vouches_for_is_said_to_be_one(two: TwoServices, tmp_path: Path) -> None:
    nobody = tmp_path / "nobody.txt"
    nobody.write_text("", encoding="utf-8")
    async with site(two.store, nobody, tmp_path / "other") as running:
        text = (await told(running, f"/event/{two.shown}/{two.grant_seq}"))[1]
        assert "Nobody vouches for that key" in text
        assert "not vouched for" in (await told(running, "/"))[1]
        assert "unverified" in (await told(running, "/"))[1]


@pytest.mark.parametrize("seq", ["0", "3", "4", "99", "999999999999999999"])
async def test_what_is_no_event_has_no_page(running: Site, two: TwoServices, seq: str) -> None:
    """A manifest, a quarantined line and a gap are leaves, too; and there is no leaf beyond the end."""
    for tail in ("", "/proof", "/leaf"):
        assert (await told(running, f"/event/{two.shown}/{seq}{tail}"))[0] == 404


@pytest.mark.parametrize("origin", ["a/b/c/d", "Demo/shown/x/y", "demo/shown/01kgb7zk009rddt36bz9t5wxm1/%2e%2e", "demo/shown/x%00/y"])
async def test_what_is_no_trail_has_no_page(running: Site, origin: str) -> None:
    assert (await told(running, f"/event/{origin}/1"))[0] == 404


def test_only_the_way_in_and_out_takes_a_post() -> None:
    assert {route.path for route in ROUTES if route.method != "GET"} == {"/enter", "/leave"}


async def test_what_a_mapping_and_a_redaction_say_stays_text(tmp_path: Path) -> None:
    """Whoever writes to the store chooses these members, too; none of the names is a path or a rule of ours."""
    bad = "<script>window.pwned=1</script>\u202e"
    trail = TrailFactory(start=BEGIN, service="shown", heartbeat_seconds=864_000)
    line = event(1, BEGIN, "okapi", context={"deep": {"agent": "x"}, "list": ["y"]})
    names = ("context.deep", "context.list", "target.id", bad)
    member = b'"container":%b,' % msgspec.json.encode(bad)
    block = reworked_block("app", stamp(BEGIN), [Reworked(line, bad, names, line, ("raw", bad), None, member)])
    window = Window(stamp(BEGIN), stamp(BEGIN), stamp(BEGIN), stamp(BEGIN))
    host = AgentState("0.1.0", bad, trail.boot_id, "0" * 64, 864_000)
    trail.seal(ManifestReason.AGE, after_seconds=1.0, bodies=block.splitlines(), counts={"events": 1}, window=window, agent=host)
    seq = trail.frontier.size - 2
    trail.close()
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust.txt").write_text(trail.trust_line, encoding="utf-8")
    async with site(tmp_path / "store", tmp_path / "trust.txt", tmp_path / "view") as running:
        status, text = await told(running, f"/event/{trail.origin}/{seq}")
    assert status == 200
    shown = "&lt;script&gt;window.pwned=1&lt;/script&gt;\\u202e"
    for fact in ("Host", "Container", "Made by the mapping", "Redacted"):
        [value] = re.findall(rf"<dt>{fact}</dt><dd[^>]*>(.*?)</dd>", text)
        assert shown in value
    assert "<script>window" not in text
    assert "\u202e" not in text
    said = re.findall(r"<dt>([^<]*)</dt><dd[^>]*>(?:(?!</dd>).)*\(as the client said it\)", text)
    assert said == ["Target", "context.deep.agent", "context.list[0]"]


async def test_a_host_a_container_and_a_mapping_that_are_not_in_scope_are_nowhere(tmp_path: Path) -> None:
    both = write_two_services(tmp_path / "both")
    async with site(both.store, both.trust, tmp_path / "view") as running:
        assert HIDDEN in (await told(running, "/", "*"))[1], "there is something to be hidden"
        for kind in ("csv", "ndjson"):
            assert f"{HIDDEN}-pod" in (await told(running, f"/export/file?format={kind}", "*"))[1]
            text = (await told(running, f"/export/file?format={kind}"))[1]
            assert "okapi-pod" in text
            assert HIDDEN not in text
