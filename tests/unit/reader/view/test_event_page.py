from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.reader.view.app import ROUTES
from tests.unit.reader.view.two_services import SHOWN, TwoServices, write_two_services
from tests.unit.reader.view.view_site import Site, site

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


async def told(running: Site, path: str) -> tuple[int, str]:
    async with running.client(running.grant(SHOWN)) as client, client.get(path) as answer:
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
