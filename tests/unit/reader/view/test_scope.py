from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import pytest
from yarl import URL

from agent.reader.ask.filters import Scope
from agent.reader.control.catalogs import load_catalog
from agent.reader.view.app import ROUTES
from tests.support.two_services import APPROVAL, HIDDEN, LATER, SECRET, SHOWN, TURN, TwoServices, write_two_services
from tests.support.view_site import Site, site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp.test_utils import TestClient

CATALOG = Path("config/catalog.yaml")
PUBLIC = {"/enter", "/healthz", "/static/{name}"}
FILTERS = (
    "",
    f"service={SECRET}",
    f"service=secret-{HIDDEN}",
    "service=*",
    "service=*/*",
    f"actor={HIDDEN}-actor",
    "actor=*",
    f"action=role.approve.{HIDDEN}",
    f"target=account-{HIDDEN}/{HIDDEN}-target",
    f"text={HIDDEN}",
    f"text={APPROVAL}",
    "outcome=denied",
    "category=uncatalogued",
    "since=2026-01-01&until=2027-01-01",
    "order=oldest",
)


def _events(origins: tuple[tuple[str, tuple[int, ...]], ...], tail: str) -> list[str]:
    return [f"/event/{origin}/{seq}{tail}" for origin, seqs in origins for seq in seqs]


def addresses(two: TwoServices, filters: tuple[str, ...] = FILTERS) -> dict[str, list[str]]:
    """Return, for each address of the application, requests that try to see what is out of scope."""
    event = "/event/{namespace}/{service}/{epoch}/{instance}/{seq:[0-9]{1,18}}"
    everything = ((two.shown, tuple(range(12))), *((origin, tuple(range(14))) for origin in two.hidden))
    after = [f"2026-01-01T00:00:00Z~{origin}~0" for origin in (two.shown, *two.hidden)]
    filtered = [f"?{text}" for text in filters]
    return {
        "GET /enter": ["/enter", f"/enter?token={HIDDEN}"],
        "POST /enter": [],
        "GET /healthz": ["/healthz"],
        "GET /static/{name}": ["/static/style.css", "/static/..%2fapp.py", "/static/grant.key"],
        "POST /leave": [],
        "GET /": [f"/{text}" for text in filtered] + [f"/?order=oldest&after={quote(place)}" for place in after],
        "GET /statement.json": [f"/statement.json{text}" for text in filtered],
        f"GET {event}": _events(everything, ""),
        f"GET {event}/proof": _events(everything, "/proof"),
        f"GET {event}/leaf": _events(everything, "/leaf"),
        "GET /health": ["/health", f"/health?service={SECRET}"],
        "GET /quarantine": ["/quarantine", *(f"/quarantine?after={quote(f'{origin}~0')}" for origin in (two.shown, *two.hidden))],
        "GET /coverage": ["/coverage", f"/coverage?service={SECRET}", "/coverage?since=2020-01-01"],
        "GET /control": ["/control", f"/control?service={SECRET}", "/control?since=2020-01-01"],
        "GET /export": [f"/export{text}" for text in filtered],
        "GET /export/file": [
            f"/export/file?format={kind}{'&' if text else ''}{text}" for kind in ("csv", "ndjson", "pack") for text in filters
        ]
        + ["/export/file?format=pack&correlate=context.approval_id"],
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> TwoServices:
    return write_two_services(tmp_path_factory.mktemp("two"))


@pytest.fixture
async def running(two: TwoServices, tmp_path: Path) -> AsyncIterator[Site]:
    async with site(two.store, two.trust, tmp_path, catalog=load_catalog(CATALOG)) as made:
        _plant_findings(made, two)
        yield made


def _plant_findings(made: Site, two: TwoServices) -> None:
    """Write findings as verification might: about the store, and about one trail in words that name another."""
    rows: list[tuple[Any, ...]] = [
        (None, None, f"trails/{HIDDEN}", "foreign_object", "incomplete", f"a foreign object of {HIDDEN}", None, None, None, True),
        (
            two.shown,
            1,
            f"trails/{two.hidden[0]}/000000000001.seal",
            "seal_misplaced",
            "tampered",
            f"it is that of {two.hidden[0]}",
            1,
            2,
            None,
            True,
        ),
        (f"demo/gone-{HIDDEN}/01/x", 1, None, "gap", "incomplete", f"of {HIDDEN}", 1, 2, None, True),
        (f"{HIDDEN}", 1, None, "gap", "incomplete", f"of {HIDDEN}", 1, 2, None, True),
        (two.shown, None, None, "gap", "incomplete", f"demo/gone-{HIDDEN}/01/x was named here", None, None, None, True),
    ]
    made.desk.index.connection.executemany("INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def unpacked(body: bytes) -> Iterator[bytes]:
    """Yield an answer, and what is in it if it is an archive."""
    yield body
    if body.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)


async def seen(client: TestClient[Any, Any], path: str) -> tuple[int, bytes]:
    """Return an answer's status, and its headers and body as one text; the address that was asked for is nobody's secret."""
    async with client.get(URL(path, encoded=True), allow_redirects=False) as answer:
        body = await answer.read()
        headers = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
        return answer.status, headers.encode() + b"\n".join(unpacked(body))


def echoes(path: str, text: bytes) -> bytes:
    """Return an answer without the words that the asker wrote into the address, which a form shows to them again."""
    for _, value in parse_qsl(urlsplit(path).query):
        for spelling in {value, quote(value), quote_plus(value), quote(value, safe="")}:
            text = text.replace(spelling.encode(), b"")
    return text


def test_every_address_is_tried(two: TwoServices) -> None:
    assert {f"{route.method} {route.path}" for route in ROUTES} == set(addresses(two)), "a new address needs its attempts in this test"


def test_the_application_has_no_addresses_beside_the_table(running: Site) -> None:
    app = running.server.app
    known = {route.path for route in ROUTES}
    assert {resource.canonical for resource in app.router.resources()} <= {
        path.split(":")[0] + "}" if ":" in path else path for path in known
    } | {path.replace("{seq:[0-9]{1,18}}", "{seq}") for path in known}


async def test_a_grant_for_everything_sees_the_other_service(running: Site, two: TwoServices) -> None:
    """So that the test below looks for a word that would be there."""
    async with running.client(running.grant("*")) as client:
        for path in ("/", "/statement.json", "/health", "/quarantine", "/coverage", "/export/file?format=pack", "/export/file?format=csv"):
            status, text = await seen(client, path)
            assert status == 200
            assert HIDDEN.encode() in text, path
        assert HIDDEN.encode() in (await seen(client, f"/event/{two.hidden[0]}/1"))[1]
        assert HIDDEN.encode() in (await seen(client, f"/event/{two.shown}/{two.grant_seq}"))[1]


@pytest.mark.slow
async def test_a_grant_for_one_service_sees_nothing_of_another(running: Site, two: TwoServices) -> None:
    answered = 0
    async with running.client(running.grant(SHOWN)) as client:
        for paths in addresses(two).values():
            for path in paths:
                status, text = await seen(client, path)
                assert HIDDEN.encode() not in echoes(path, text), path
                assert status in {200, 400, 404}, (path, status)
                answered += status == 200
    assert answered > 60


@pytest.mark.slow
async def test_the_sight_alone_is_enough(running: Site, two: TwoServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were every question to forget the scope, the index that it is put to would still hold nothing else."""
    from agent.reader.ask.filters import ALL
    from agent.reader.view import desk
    from agent.reader.view.grants import Grant
    from agent.reader.view.sight import Sight

    monkeypatch.setattr(desk, "Sight", lambda index, _scope, *, everything: Sight(index, Scope((SHOWN,)), everything=everything))
    grant = running.grant(SHOWN)
    monkeypatch.setattr(Grant, "scope", ALL)
    async with running.client(grant) as client:
        for paths in addresses(two, FILTERS[::4]).values():
            for path in paths:
                _, text = await seen(client, path)
                assert HIDDEN.encode() not in echoes(path, text), path


async def test_events_of_another_service_are_answered_like_events_that_are_not_there(running: Site, two: TwoServices) -> None:
    nowhere = "/event/demo/nobody/01kgb7zk009rddt36bz9t5wxm1/x/0"
    async with running.client(running.grant(SHOWN)) as client:
        for tail in ("", "/proof", "/leaf"):
            expected = await seen(client, nowhere + tail)
            for origin in two.hidden:
                for seq in (0, 1, 2, 9):
                    found = await seen(client, f"/event/{origin}/{seq}{tail}")
                    assert found[0] == expected[0] == 404
                    assert _undated(found[1]) == _undated(expected[1])


def _undated(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if not line.startswith(b"Date:")]


async def test_an_approval_out_of_scope_is_not_told_from_one_that_is_not_there(running: Site, two: TwoServices) -> None:
    async with running.client(running.grant(SHOWN)) as client:
        _, text = await seen(client, f"/event/{two.shown}/{two.grant_seq}")
    assert APPROVAL.encode() in text
    assert b"not in your scope or not there" in text


async def test_texts_of_findings_that_name_another_service_are_withheld(running: Site) -> None:
    async with running.client(running.grant(SHOWN)) as client:
        _, text = await seen(client, "/health")
    assert b"seal_misplaced" in text
    assert HIDDEN.encode() not in text


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["until", "since"])
async def test_a_grant_for_a_time_sees_nothing_of_another_time(running: Site, two: TwoServices, asked: str) -> None:
    word = LATER if asked == "until" else "okapi"
    grant = running.grant(SHOWN, since=TURN if asked == "since" else None, until=TURN if asked == "until" else None)
    async with running.client(grant) as client:
        for paths in addresses(two, FILTERS[:1] + FILTERS[-6:-3]).values():
            for path in paths:
                status, text = await seen(client, path)
                assert word.encode() not in echoes(path, text), path
                assert HIDDEN.encode() not in echoes(path, text), path
                assert status in {200, 400, 404}, (path, status)
        other = b"okapi" if asked == "until" else LATER.encode()
        assert other in (await seen(client, "/"))[1]
        assert other in (await seen(client, "/quarantine"))[1]
        assert other in (await seen(client, "/health"))[1]


@pytest.mark.slow
async def test_what_another_service_does_changes_no_answer(two: TwoServices, tmp_path: Path) -> None:
    """The answers over a store with both services are those over a store with the one in scope, byte for byte, packs included."""
    catalog = load_catalog(CATALOG)
    alone = write_two_services(tmp_path / "alone", with_hidden=False)
    place = tmp_path / "store"
    answers: list[dict[str, list[bytes]]] = []
    for written, name in ((two, "both"), (alone, "one")):
        # A pack names the store, so both stand at the same place.
        place.unlink(missing_ok=True)
        place.symlink_to(written.store)
        async with site(place, two.trust, tmp_path / name, catalog=catalog) as made, made.client(made.grant(SHOWN)) as client:
            answers.append({})
            for paths in addresses(two, FILTERS[::4]).values():
                for path in paths:
                    status, text = await seen(client, path)
                    lines = [line for line in text.splitlines() if not line.startswith((b"Date:", b"Content-Length:"))]
                    answers[-1][path] = [str(status).encode(), *lines]
    both, one = answers
    for path, told in both.items():
        # Verification found that somebody else claims to continue our trail, too: that is about the trail in scope, and names nobody.
        assert [line for line in told if b"two_successors" not in line] == one[path], path


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_without_a_grant_nothing_is_answered_but_the_way_in(running: Site, two: TwoServices, route: Any) -> None:
    async with running.client() as client:
        for path in addresses(two)[f"{route.method} {route.path}"] or [route.path]:
            async with client.request(route.method, path, allow_redirects=False) as answer:
                text = await answer.text()
                if route.path not in PUBLIC:
                    assert answer.status == 401
                assert HIDDEN not in text
                assert "okapi" not in text
