from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from agent.reader.view.app import ROUTES
from agent.reader.view.desk import Bounds
from agent.reader.view.guard import COOKIE, HEADERS
from tests.support.two_services import SHOWN, TwoServices, write_two_services
from tests.support.view_site import NOW, Site, site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PRIVATE = [route for route in ROUTES if route.path not in {"/enter", "/healthz", "/static/{name}"}]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> TwoServices:
    return write_two_services(tmp_path_factory.mktemp("two"), with_hidden=False)


@pytest.fixture
async def running(two: TwoServices, tmp_path: Path) -> AsyncIterator[Site]:
    async with site(two.store, two.trust, tmp_path) as made:
        yield made


def filled(path: str, two: TwoServices) -> str:
    """Put an event that is there in the place of an address's pattern."""
    return path.replace("{namespace}/{service}/{epoch}/{instance}/{seq:[0-9]{1,18}}", f"{two.shown}/{two.grant_seq}").replace(
        "{name}", "style.css"
    )


async def entering(running: Site, token: str, **headers: str) -> tuple[int, str, str]:
    """Post a token; return the status, the body and the cookie's header."""
    async with running.client() as client, client.post("/enter", data={"token": token}, headers=headers, allow_redirects=False) as answer:
        return answer.status, await answer.text(), answer.headers.get("Set-Cookie", "")


async def test_a_token_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_can_use(running: Site) -> None:
    status, _, cookie = await entering(running, running.token(running.grant(SHOWN)))
    assert status == 303
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=604800"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie


async def test_the_cookie_is_bound_to_tls_where_there_is_tls(running: Site) -> None:
    running.desk.secure = True
    assert "Secure" in (await entering(running, running.token(running.grant(SHOWN))))[2]
    async with running.client() as client, client.get("/enter") as answer:
        assert "max-age=" in answer.headers["Strict-Transport-Security"]


async def test_a_whole_link_may_be_put_into_the_form(running: Site) -> None:
    link = f"https://evidence.example.com/enter#{running.token(running.grant(SHOWN))}"
    assert (await entering(running, f"  {link}\n"))[0] == 303


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example.com"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303),
        ({"Origin": "null"}, 303),
        ({}, 303),
    ],
)
async def test_another_sites_page_cannot_send_the_form(running: Site, headers: dict[str, str], status: int) -> None:
    assert (await entering(running, running.token(running.grant(SHOWN)), **headers))[0] == status


async def test_an_expired_token_is_told_so_and_nothing_else(running: Site) -> None:
    grant = running.grant(SHOWN, now=NOW - timedelta(days=9), expires=NOW - timedelta(days=2))
    async with running.client(grant) as client, client.get("/health") as answer:
        text = await answer.text()
        assert answer.status == 401
    assert "expired" in text
    assert "shown" not in text.replace("not shown", "")
    assert "Set-Cookie" not in answer.headers


async def test_a_revoked_token_is_turned_away_at_its_next_request(running: Site) -> None:
    grant = running.grant(SHOWN)
    async with running.client(grant) as client:
        async with client.get("/") as answer:
            assert answer.status == 200
        running.desk.book.revoke(grant.id, NOW)
        async with client.get("/") as answer:
            assert answer.status == 403
            assert "withdrawn" in await answer.text()
    assert [event["action"] for event in running.recorder.events] == ["grant.create", "view.search", "grant.revoke", "view.denied"]


@pytest.mark.parametrize("token", ["", "x", "ts1.e30.AAAA", "ts1..", "é", "a" * 3000])
async def test_what_is_no_token_is_turned_away(running: Site, token: str) -> None:
    status, text, cookie = await entering(running, token)
    assert (status, cookie) == (401, "")
    assert token not in text or len(token) < 2
    async with TestClient(running.server, headers={"Cookie": f"{COOKIE}={token}"}) as client, client.get("/") as answer:
        assert answer.status == 401


@pytest.mark.parametrize("path", ["/", "/nothing-here", "/event/a/b/c/d/1", "/../etc/passwd", "/%2e%2e/x", "/static", "/enter/x"])
async def test_without_a_grant_what_is_there_looks_like_what_is_not(running: Site, path: str) -> None:
    bodies = set()
    async with running.client() as client:
        for asked in (path, "/health", "/surely/not/there"):
            async with client.get(asked) as answer:
                assert answer.status == 401
                bodies.add(await answer.text())
    assert len(bodies) == 1


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_every_answer_carries_the_headers_that_protect_it(running: Site, two: TwoServices, route: Any) -> None:
    for grant in (running.grant(SHOWN), None):
        async with running.client(grant) as client, client.request(route.method, filled(route.path, two), allow_redirects=False) as answer:
            for name, value in HEADERS.items():
                if name != "Cache-Control":
                    assert answer.headers[name] == value, name
            assert answer.headers["Cache-Control"] == ("no-cache" if route.path == "/static/{name}" else "no-store")


@pytest.mark.parametrize("route", PRIVATE, ids=lambda route: f"{route.method} {route.path}")
async def test_what_cannot_be_recorded_is_not_shown(running: Site, two: TwoServices, route: Any) -> None:
    grant = running.grant(SHOWN)
    await running.desk.notes.catch_up()
    running.recorder.error = RuntimeError("the disk is full")
    async with running.client(grant) as client, client.request(route.method, filled(route.path, two), allow_redirects=False) as answer:
        text = await answer.text()
    assert answer.status == 503
    assert "cannot be recorded" in text
    assert "okapi" not in text
    assert "disk" not in text


async def test_nobody_gets_in_while_nothing_can_be_recorded(running: Site) -> None:
    grant = running.grant(SHOWN)
    await running.desk.notes.catch_up()
    running.recorder.error = RuntimeError("the disk is full")
    status, _, cookie = await entering(running, running.token(grant))
    assert (status, cookie) == (503, "")


@pytest.mark.parametrize("route", PRIVATE, ids=lambda route: f"{route.method} {route.path}")
async def test_every_access_is_recorded_with_who_what_and_how_it_ended(running: Site, two: TwoServices, route: Any) -> None:
    grant = running.grant(SHOWN, name="Jane Doe, auditor")
    async with running.client(grant) as client, client.request(route.method, filled(route.path, two), allow_redirects=False) as answer:
        assert answer.status in {200, 303}
    event = running.recorder.events[-1]
    assert event["actor"] == {"type": "auditor", "id": "Jane Doe, auditor", "session": grant.id}
    assert event["context"]["path"] == filled(route.path, two)
    assert event["context"]["scope"] == {"services": [SHOWN], "since": None, "until": None}
    assert (event["outcome"], event["context"]["status"]) == ("success", answer.status)
    assert len(running.recorder.events) == 2, "one for the grant, one for the access"


async def test_an_export_is_recorded_with_its_filters_and_its_hash(running: Site) -> None:
    import hashlib

    async with running.client(running.grant(SHOWN)) as client, client.get("/export/file?format=csv&actor=okapi-*") as answer:
        body = await answer.read()
    event = running.recorder.events[-1]
    assert event["action"] == "view.export"
    assert event["context"]["query"] == {"actor": ["okapi-*"]}
    assert (event["context"]["format"], event["context"]["events"], event["context"]["bytes"]) == ("csv", 2, len(body))
    assert event["context"]["sha256"] == hashlib.sha256(body).hexdigest()


async def test_an_event_that_may_not_be_seen_is_recorded_as_a_denial(running: Site) -> None:
    async with (
        running.client(running.grant("demo/another")) as client,
        client.get("/event/demo/shown/01kgb7zk009rddt36bz9t5wxm1/web-1/2") as answer,
    ):
        assert answer.status == 404
    event = running.recorder.events[-1]
    assert (event["action"], event["outcome"]) == ("view.event", "denied")
    assert event["target"]["id"] == "demo/shown/01kgb7zk009rddt36bz9t5wxm1/web-1#2"


async def test_wrong_tokens_are_recorded_until_there_are_too_many(two: TwoServices, tmp_path: Path) -> None:
    async with site(two.store, two.trust, tmp_path, bounds=Bounds(failed_tokens=3)) as running:
        statuses = [(await entering(running, f"wrong-{number}"))[0] for number in range(6)]
        assert statuses == [401, 401, 401, 429, 429, 429]
        assert [event["action"] for event in running.recorder.events] == ["view.denied"] * 3
        assert not any("wrong-" in str(event) for event in running.recorder.events)
        assert (await entering(running, running.token(running.grant(SHOWN))))[0] == 303, "a good token is never turned away by that"


async def test_a_request_without_a_token_fills_no_trail(running: Site) -> None:
    async with running.client() as client:
        for _ in range(30):
            async with client.get("/") as answer:
                assert answer.status == 401
    assert running.recorder.events == []


async def test_no_token_and_no_query_reaches_the_log_or_the_trail(running: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    grant = running.grant(SHOWN)
    token = running.token(grant)
    async with running.client(grant) as client:
        for path in (f"/enter?token={token}", f"/{token}", f"/?text={token}&actor=confidential", f"/event/a/b/c/{token}/1", "/enter"):
            async with client.get(path) as answer:
                await answer.read()
    await entering(running, token)
    await entering(running, token[:-3] + "AAA")
    mac = token.rpartition(".")[2]
    assert mac not in caplog.text
    assert "confidential" not in caplog.text
    assert grant.id in caplog.text
    assert "confidential" in str(running.recorder.events)
    assert not any(mac in str(event) for event in running.recorder.events)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(running: Site, method: str) -> None:
    async with running.client(running.grant(SHOWN)) as client:
        for path in ("/", "/health", "/export/file"):
            async with client.request(method, path) as answer:
                assert answer.status == 405
                assert "Nothing can be changed here" in await answer.text()


async def test_what_is_too_long_is_refused(running: Site) -> None:
    async with running.client(running.grant(SHOWN)) as client:
        async with client.get("/?text=" + "x" * 8000) as answer:
            assert answer.status == 414
        async with client.post("/enter", data={"token": "x" * 20_000}) as answer:
            assert answer.status == 413
        async with client.get("/?" + "&".join(f"actor={number}" for number in range(30))) as answer:
            assert answer.status == 400


UNREADABLE = (
    "since=yesterday", "since=2026-13-01", "since=2026-01-01&until=2025-01-01", "outcome=maybe", "category=x",
    "since=2026-01-01&since=2026-01-02", "service=a/b/c", "since=9999-99-99", "until=0000-01-01", "actor=" + "x" * 1100,
)  # fmt: skip


@pytest.mark.parametrize("query", UNREADABLE)
async def test_what_cannot_be_read_is_said_without_a_traceback(running: Site, query: str) -> None:
    async with running.client(running.grant(SHOWN)) as client:
        for path in ("/", "/statement.json", "/export", "/export/file"):
            async with client.get(f"{path}?{query}") as answer:
                assert answer.status == 400, path
                assert "Traceback" not in await answer.text()


async def test_a_pack_correlated_by_what_is_no_path_is_not_made(running: Site) -> None:
    async with running.client(running.grant(SHOWN)) as client:
        for path in ("approval_id", "context.", "context..a", "context." + "x" * 900):
            async with client.get("/export/file", params={"correlate": path}) as answer:
                assert answer.status == 400, path


@pytest.mark.parametrize("query", ["after=x", "order=up", "after=2026-01-01T00:00:00Z~x~1", "after=" + "9" * 400])
async def test_a_place_or_an_order_that_there_is_not_is_said_so(running: Site, query: str) -> None:
    async with running.client(running.grant(SHOWN)) as client:
        for path in ("/", "/quarantine")[: 1 + query.startswith("after")]:
            async with client.get(f"{path}?{query}") as answer:
                assert answer.status == 400


async def test_bytes_that_are_no_text_are_looked_for_without_harm(running: Site) -> None:
    async with running.client(running.grant(SHOWN)) as client, client.get(URL("/?text=%FF%FE&actor=%ED%A0%80", encoded=True)) as answer:
        assert answer.status in {200, 400}
        assert "Traceback" not in await answer.text()


async def test_a_defect_shows_nothing_of_the_inside(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.reader.view.pages import health

    def broken(*_: object) -> None:
        raise RuntimeError("/srv/secret/path")

    monkeypatch.setattr(health, "_look", broken)
    async with running.client(running.grant(SHOWN)) as client, client.get("/health") as answer:
        text = await answer.text()
    assert answer.status == 500
    assert "/srv/secret/path" not in text
    assert "RuntimeError" not in text
    assert running.recorder.events[-1]["outcome"] == "failure"


async def test_a_question_that_takes_too_long_is_stopped(two: TwoServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.reader.view.pages import health

    def endless(_: object, sight: Any) -> Any:
        return sight.rows("SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = 7")

    monkeypatch.setattr(health, "_look", endless)
    async with site(two.store, two.trust, tmp_path, bounds=Bounds(query_seconds=0.2)) as running:
        async with running.client(running.grant(SHOWN)) as client, client.get("/health") as answer:
            assert answer.status == 503
            assert "took too long" in await answer.text()
        monkeypatch.undo()
        async with running.client(running.grant(SHOWN)) as client, client.get("/healthz") as answer:
            assert answer.status == 200


async def test_more_questions_at_once_than_threads_are_all_answered(running: Site) -> None:
    import asyncio

    async with running.client(running.grant(SHOWN)) as client:

        async def ask() -> int:
            async with client.get("/health") as answer:
                return answer.status

        assert await asyncio.gather(*(ask() for _ in range(12))) == [200] * 12


async def test_a_damaged_book_lets_nobody_in(running: Site) -> None:
    grant = running.grant(SHOWN)
    with (running.desk.book.folder / "grants.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"revoked":\n')
    async with running.client(grant) as client, client.get("/") as answer:
        assert answer.status == 503
        assert "grants" not in await answer.text()


async def test_behind_a_proxy_the_address_that_the_proxy_added_is_recorded(running: Site) -> None:
    running.desk.behind_proxy = True
    headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    async with running.client(running.grant(SHOWN)) as client, client.get("/health", headers=headers) as answer:
        assert answer.status == 200
    assert running.recorder.events[-1]["context"]["remote"] == "198.51.100.7"
    running.desk.behind_proxy = False
    async with running.client(running.grant(SHOWN)) as client, client.get("/health", headers=headers) as answer:
        assert answer.status == 200
    assert running.recorder.events[-1]["context"]["remote"] == "127.0.0.1"


async def test_leaving_takes_the_cookie_back(running: Site) -> None:
    async with running.client(running.grant(SHOWN)) as client, client.post("/leave", allow_redirects=False) as answer:
        assert answer.status == 303
        assert f'{COOKIE}=""' in answer.headers["Set-Cookie"]


async def test_healthz_says_nothing_but_that_the_server_answers(running: Site) -> None:
    async with running.client() as client, client.get("/healthz") as answer:
        assert (answer.status, await answer.text()) == (200, "ok\n")
