"""What clients may cost, what they are told, and that the OpenAPI document says the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from agent.sources.socket import SocketSettings
from agent.sources.socket.judge import Verdict
from agent.sources.socket.replies import PROBLEMS, Recorded
from agent.trail.records import QuarantineReason
from tests.support.memory_intake import MemoryIntake, audit_line
from tests.support.posting import LINES, ONE, Answer, Client
from tests.support.socket_site import served

ROOT = Path(__file__).parents[3]
DOCUMENT = json.loads((ROOT / "agent/sources/socket/openapi.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/socket.md").read_text(encoding="utf-8")
POST = "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def resolved(node: Any) -> Any:
    """Follow a reference of the document."""
    while isinstance(node, dict) and "$ref" in node:
        target = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def conforms(value: Any, schema: Any) -> bool:
    """Check a value against the words of JSON Schema that the document uses; any other word fails the test."""
    schema = resolved(schema)
    types: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "number": (int, float)}
    checks = {
        "type": lambda word: isinstance(value, types[word]) and (word != "integer" or not isinstance(value, bool)),
        "const": lambda word: value == word,
        "enum": lambda word: value in word,
        "pattern": lambda word: re.search(word, value) is not None,
        "minimum": lambda word: value >= word,
        "minItems": lambda word: len(value) >= word,
        "required": lambda word: set(word) <= set(value),
        "properties": lambda word: all(conforms(value[name], each) for name, each in word.items() if name in value),
        "additionalProperties": lambda word: word or set(value) <= set(schema["properties"]),
        "items": lambda word: all(conforms(each, word) for each in value),
        "description": lambda _word: True,
    }
    return all(checks[word](argument) for word, argument in schema.items())


def is_described(answer: Answer, path: str, method: str) -> None:
    """Check that the document has this answer: status, content type and body."""
    described = resolved(DOCUMENT["paths"][path][method]["responses"][str(answer.status)])
    [(content_type, content)] = described["content"].items()
    assert answer.headers["content-type"].split(";")[0] == content_type
    assert conforms(answer.body, content["schema"])
    assert {name.lower() for name in described.get("headers", {})} <= set(answer.headers)


def test_the_checker_of_schemas_refuses_what_is_wrong():
    schema = DOCUMENT["components"]["schemas"]["Recorded"]
    good = {"durable": True, "sealed": False, "events": 1, "quarantined": 0, "passed": 0, "results": [{"line": 1, "status": "event"}]}
    assert conforms(good, schema)
    changes: list[dict[str, Any]] = [
        {"durable": False},
        {"events": True},
        {"results": []},
        {"more": 1},
        {"results": [{"line": 0, "status": "event"}]},
    ]
    for change in changes:
        assert not conforms(good | change, schema)


REFUSED = [
    ("wrong type", 415, {"content_type": "text/plain"}),
    ("compressed", 415, {"Content_Encoding": "gzip"}),
    ("from a browser", 403, {"Origin": "https://example.com"}),
    ("unknown wait", 400, {"query": "?wait=shipped"}),
    ("unknown parameter", 400, {"query": "?sealed=1"}),
    ("parameter twice", 400, {"query": "?wait=sealed&wait=sealed"}),
    ("timeout alone", 400, {"query": "?timeout=1"}),
    ("timeout too long", 400, {"query": "?wait=sealed&timeout=61"}),
    ("timeout that is no number", 400, {"query": "?wait=sealed&timeout=soon"}),
    ("timeout of nan", 400, {"query": "?wait=sealed&timeout=nan"}),
]


@pytest.mark.parametrize(("status", "request_"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_what_is_refused_has_left_nothing_behind(status, request_):
    async with served() as site:
        answer = await site.post(audit_line(1), **{"content_type": ONE, **request_})
        assert answer.status == status
        is_described(answer, "/v1/events", "post")
        assert (await site.post(audit_line(2), ONE)).status == 201
    assert site.intake.event_ids() == ["e2"]


@pytest.mark.parametrize("body", [b"", b" \n\t"])
@pytest.mark.parametrize("content_type", [ONE, LINES])
async def test_nothing_is_no_request(body, content_type):
    async with served() as site:
        answer = await site.post(body, content_type)
    assert (answer.status, answer.body["type"]) == (400, "urn:trailseal:problem:bad_request")
    assert site.intake.durable == []


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("GET", "/v1/events", "POST"), ("POST", "/healthz", "GET"), ("PUT", "/openapi.json", "GET")]
)
async def test_other_methods_are_told_which(method, path, allow):
    async with served() as site:
        answer = await site.ask(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allow)
        assert (await site.ask(method, "/elsewhere")).status == 404


async def test_answers_are_as_the_document_says():
    async with served() as site:
        for body, status in ((audit_line(1), 201), (b"{}", 207)):
            answer = await site.post(body, ONE)
            assert answer.status == status
            is_described(answer, "/v1/events", "post")
        late = await site.post(audit_line(2), ONE, "?wait=sealed&timeout=0")
        assert (late.status, late.body["sealed"]) == (202, False)
        is_described(late, "/v1/events", "post")
        for path in ("/healthz", "/openapi.json"):
            is_described(await site.ask("GET", path), path, "get")
        assert site.intake.listeners == set()
        assert (await site.ask("GET", "/openapi.json")).body == DOCUMENT


async def test_a_body_over_the_limit_is_refused_before_it_is_read():
    async with served(body_bytes=1000, line_limit=900) as site:
        answer = await site.post(b"x" * 1001, ONE)
        is_described(answer, "/v1/events", "post")
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        chunked = f"{POST}Transfer-Encoding: chunked\r\n\r\n" + "400\r\n" + "x" * 1024 + "\r\n"
        assert (await site.raw(chunked.encode())).startswith(b"HTTP/1.1 413 ")
        expecting = await site.raw(f"{POST}Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n".encode())
        assert expecting.startswith(b"HTTP/1.1 413 ")
    assert site.intake.durable == []


async def test_lines_are_counted_before_they_are_judged():
    async with served(lines=3) as site:
        answer = await site.post(b"\n\n\n\n" + audit_line(1))
        is_described(answer, "/v1/events", "post")
        assert answer.status == 413
        assert (await site.post(b"\n".join([audit_line(1)] * 3))).status == 201


async def test_a_client_that_asks_first_is_told_to_go_on():
    async with served() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.where)
        body = audit_line(1)
        writer.write(f"{POST}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.close()
        await writer.wait_closed()


async def test_a_slow_body_ends_the_connection_and_nobody_else_waits():
    async with served(body_seconds=0.5) as site:
        slow = asyncio.create_task(site.raw(f"{POST}Content-Length: 100\r\n\r\nxx".encode()))
        assert (await site.post(audit_line(1), ONE)).status == 201
        assert (await slow).startswith(b"HTTP/1.1 408 ")
    assert site.intake.event_ids() == ["e1"]


async def test_a_body_that_breaks_off_is_not_recorded():
    async with served() as site:
        await site.raw(f"{POST}Content-Length: 100\r\n\r\n".encode() + audit_line(1)[:50], end=True)
        assert (await site.post(audit_line(2), ONE)).status == 201
    assert site.intake.event_ids() == ["e2"]


async def test_a_connection_without_a_request_is_closed():
    async with served(first_request_seconds=0.2) as site:
        assert await site.raw(b"") == b""
        assert await site.raw(b"POST /v1/ev") == b""


async def test_what_all_requests_hold_is_bounded_and_given_back():
    async with served(held_bytes=5000, body_bytes=4000, line_limit=3000, body_seconds=30.0) as site:
        [first, second] = [await asyncio.open_connection("127.0.0.1", site.where) for _ in range(2)]
        for _, writer in (first, second):
            writer.write(f"{POST}Content-Length: 3000\r\n\r\n".encode() + b" " * 2400)
            await writer.drain()
        await asyncio.sleep(0.3)
        busy = await site.post(b" " * 1000 + audit_line(1), ONE)
        is_described(busy, "/v1/events", "post")
        assert (busy.status, busy.body["type"]) == (503, "urn:trailseal:problem:busy")
        for _, writer in (first, second):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await asyncio.sleep(0.3)
        assert (await site.post(b" " * 1000 + audit_line(1), ONE)).status == 201


async def test_connections_are_bounded_and_those_there_are_go_on():
    async with served(connections=3) as site:
        clients = [Client(site.where) for _ in range(3)]
        for client in clients:
            assert (await asyncio.to_thread(client.ask, "GET", "/healthz")).status == 200
        assert (await site.raw(b"")).startswith(b"HTTP/1.1 503 ")
        assert (await asyncio.to_thread(clients[0].post, audit_line(1))).status == 201
        for client in clients:
            client.close()
        await asyncio.sleep(0.2)
        assert (await site.post(audit_line(2))).status == 201


async def test_a_client_that_does_not_read_its_answer_loses_the_connection():
    body = b"\n".join([b"{}"] * 60_000)
    head = f"{POST.replace(ONE, LINES)}Content-Length: {len(body)}\r\n\r\n".encode()
    async with served(reply_seconds=0.5, lines=60_000) as site:
        with contextlib.closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(20)
            client.connect(("127.0.0.1", site.where))
            await asyncio.to_thread(client.sendall, head + body)
            await site.until(lambda: site.intake.durable)
            await asyncio.sleep(1.5)
            assert await asyncio.to_thread(read_all, client) < 60_000 * len(
                '{"line":10000,"status":"quarantined","reason":"missing_field","detail":"event_id"}'
            )
        assert (await site.post(audit_line(1))).status == 201


def read_all(client: socket.socket) -> int:
    """Read until the other side is done or gone; return how many bytes came."""
    size = 0
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1 << 20):
            size += len(part)
    return size


def test_the_document_names_every_field_and_problem():
    schemas = DOCUMENT["components"]["schemas"]
    assert list(schemas["Recorded"]["properties"]) == list(Recorded.__struct_fields__)
    assert list(schemas["Result"]["properties"]) == list(Verdict.__struct_fields__)
    assert DOCUMENT["openapi"] == "3.1.0"
    responses = DOCUMENT["paths"]["/v1/events"]["post"]["responses"]
    assert {str(problem.status) for problem in PROBLEMS} - set(responses) == {"404", "405"}
    query = {each["name"]: each["schema"] for each in DOCUMENT["paths"]["/v1/events"]["post"]["parameters"]}
    defaults = SocketSettings()
    assert (query["timeout"]["default"], query["timeout"]["maximum"]) == (defaults.wait_seconds, defaults.longest_wait_seconds)
    stated = DOCUMENT["paths"]["/v1/events"]["post"]["requestBody"]["description"]
    assert stated == f"At most {defaults.body_bytes} bytes and {defaults.lines} lines."


def test_the_page_names_every_problem_and_status():
    rows = re.findall(r"(?m)^\| (\d{3}) \| `(\w+)` \|", PAGE)
    assert rows == [(str(problem.status), problem.name) for problem in PROBLEMS]
    assert "multi_line" in {reason.value for reason in QuarantineReason}


def test_references_of_the_document_lead_somewhere():
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(DOCUMENT)):
        assert resolved({"$ref": reference})


async def test_the_twin_without_listeners_is_left_as_it_was():
    intake = MemoryIntake()
    async with served(intake) as site:
        await site.post(audit_line(1), ONE, "?wait=sealed&timeout=0.1")
    assert intake.listeners == set()
