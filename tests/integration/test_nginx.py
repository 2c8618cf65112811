"""A real nginx under load with its own rotation: every admin request is in the trail once, and nothing else is.

nginx writes audit lines by itself (`log_format … escape=json`), for `/admin` only, into the same file as ordinary access
lines. What was asked for is known from the client; the trail must say the same, however hostile paths and names were.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import random
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.agent_process import Site, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS: Final = 5.0
CLIENTS: Final = 8
ROTATIONS: Final = 5

CONFIGURATION: Final = """
{user}
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;

    map $status $outcome {{ default failure; ~^2 success; ~^40[13]$ denied; }}
    map $remote_user $actor_type {{ "" system; default user; }}
    map $remote_user $actor_id {{ "" anonymous; default $remote_user; }}
    map $request_method $verb {{ default other; GET get; POST post; DELETE delete; }}

    log_format audit escape=json '{{"stream":"audit","event_id":"$request_id","occurred_at":"$time_iso8601",'
        '"actor":{{"type":"$actor_type","id":"$actor_id"}},"action":"admin.$verb",'
        '"target":{{"type":"path","id":"$request_uri"}},"outcome":"$outcome",'
        '"context":{{"client":"$http_x_request","address":"$remote_addr","status":$status,"agent":"$http_user_agent"}}}}';
    log_format access escape=json '{{"time":"$time_iso8601","request":"$request","status":$status,"agent":"$http_user_agent"}}';

    server {{
        listen 127.0.0.1:{port};
        location /admin {{
            access_log {log} audit;
            location /admin/denied {{ return 403; }}
            location /admin/missing {{ return 404; }}
            location /admin/broken {{ return 500; }}
            return 200 "ok";
        }}
        location / {{
            access_log {log} access;
            return 200 "ok";
        }}
    }}
}}
"""

ADMIN_PATHS: Final = (
    "/admin", "/admin/users", "/admin/denied", "/admin/missing", "/admin/broken", "/admin?role=owner&note=%22%5C%0a%01",
    '/admin/"quoted"', "/admin/back\\slash\\\\", "/admin/%22,%22stream%22:%22audit%22", '/admin/","outcome":"success","x":"',
    "/admin/z%C3%BCrich", "/admin/zürich", "/admin/%ff%fe", "/admin/a%0ab",
)  # fmt: skip
OTHER_PATHS: Final = (
    "/", "/items/7", '/items/"stream":"audit"', "/items/admin?stream=audit", '/x?{"stream":"audit","event_id":"forged"}',
    "/public/admin", "/%0a%7B%22stream%22:%22audit%22%7D", r"/\u0022stream\u0022:\u0022audit\u0022",
)  # fmt: skip
USERS: Final = (
    None, "ada", "zoë", 'eve","type","system', "back\\slash", "tab\there", "bell\x07\x1b[31m", "line\u2028separator", "x" * 512,
)  # fmt: skip
AGENTS: Final = ("curl/8.5", '"stream":"audit"', '{"stream":"audit","event_id":"forged"}', "\\", "Mozilla/5.0 (é)", "")
# Bytes that are no UTF-8 and stand in the log as they were sent; such a line must be kept, but cannot be an event.
RAW_PATHS: Final = (b"/admin/\xff\xfe", b"/admin/\xed\xa0\x80", b"/admin/\xc0\xaf")
RAW_OTHER_PATHS: Final = (b"/items/\xff", b'/"stream":"audit"\xff')


@dataclass
class Asked:
    """What the clients asked for, by the number they gave each request, and the status they were answered with."""

    admin: dict[str, tuple[bytes, str | None, int]] = field(default_factory=dict)
    raw_admin: dict[str, tuple[bytes, str | None, int]] = field(default_factory=dict)
    others: int = 0


async def client(port: int, number: int, asked: Asked, end: float) -> None:
    """Ask for one thing after the other over one connection after the other, until the time is over."""
    dice = random.Random(number)
    count = itertools.count()
    while time.monotonic() < end:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for _ in range(50):
                if not await request(reader, writer, f"{number}-{next(count)}", dice, asked):
                    break
        finally:
            writer.close()
            await writer.wait_closed()


async def request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, dice: random.Random, asked: Asked) -> bool:
    """Ask for one thing and note what it was; say whether the connection may be used again."""
    is_admin, is_raw = dice.random() < 0.3, dice.random() < 0.1
    if is_raw:
        path = dice.choice(RAW_PATHS if is_admin else RAW_OTHER_PATHS)
    else:
        path = dice.choice(ADMIN_PATHS if is_admin else OTHER_PATHS).encode()
    user = dice.choice(USERS)
    head = [b"GET %b HTTP/1.1" % path, b"Host: localhost", b"X-Request: %b" % name.encode()]
    head.append(b"User-Agent: %b" % dice.choice(AGENTS).encode())
    if user is not None:
        head.append(b"Authorization: Basic %b" % base64.b64encode(f"{user}:secret".encode()))
    writer.write(b"\r\n".join(head) + b"\r\n\r\n")
    answer = await reader.readuntil(b"\r\n\r\n")
    status = int(answer.split(b" ", 2)[1])
    length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    if not is_admin:
        asked.others += 1
    elif is_raw:
        asked.raw_admin[name] = (path, user, status)
    else:
        asked.admin[name] = (path, user, status)
    return b"\r\nconnection: close\r\n" not in answer.lower()


async def rotate(folder: Path, log: Path, times: int) -> None:
    """Rename the log and have nginx open a new one, as logrotate would."""
    for turn in range(1, times + 1):
        await asyncio.sleep(SECONDS / (times + 1))
        log.rename(log.with_name(f"{log.name}.{turn}"))
        await asyncio.to_thread(nginx, folder, "-s", "reopen")


def nginx(folder: Path, *arguments: str) -> None:
    """Run the nginx program to its end."""
    subprocess.run(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), *arguments], check=True, capture_output=True, timeout=20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """Run an nginx of our own and yield its port."""
    found = shutil.which("nginx")
    assert found is not None, "nginx is missing: scripts/packages.sh nginx installs it"
    folder, port = tmp_path / "nginx", free_port()
    folder.mkdir()
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "access.log"
    # Workers open the log anew by themselves; started by root they would be somebody else, who may not look into our folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(CONFIGURATION.format(user=user, folder=folder, port=port, log=log), encoding="utf-8")
    nginx(folder, "-t")
    process = subprocess.Popen([found, "-p", str(folder), "-c", str(folder / "nginx.conf")], env={**os.environ, "TZ": "UTC"})
    try:
        until(lambda: (folder / "nginx.pid").exists() and (folder / "nginx.pid").read_text().strip(), "nginx at work")
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_admin_request_to_a_real_nginx_is_in_the_trail_once_and_nothing_else(tmp_path: Path, server: int) -> None:
    log = tmp_path / "logs" / "access.log"
    passed = tmp_path / "passed.log"
    site = Site(tmp_path, sources=[{"id": "nginx", "file": str(log)}], observability={"file": str(passed)})
    asked = Asked()

    async def load() -> None:
        end = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as group:
            group.create_task(rotate(tmp_path / "nginx", log, ROTATIONS))
            for number in range(CLIENTS):
                group.create_task(client(server, number, asked, end))

    with site.run() as agent:
        agent.ready()
        asyncio.run(load())
        files = sorted(log.parent.iterdir())
        assert len(files) == ROTATIONS + 1
        assert all(file.stat().st_size > 0 for file in files)
        site.wait_drained(sum(file.stat().st_size for file in files))
        assert agent.stop() == 0, agent.log

    assert len(asked.admin) > 500
    events = site.trails.events()
    assert len(events) == len({event["event_id"] for event in events})
    found = {event["context"]["client"]: event for event in events}
    assert len(found) == len(events)
    assert found.keys() == asked.admin.keys()
    for name, (path, user, status) in asked.admin.items():
        event = found[name]
        assert event["target"]["id"].encode() == path
        assert event["actor"] == {"type": "user" if user else "system", "id": user or "anonymous"}
        assert event["outcome"] == {200: "success", 403: "denied"}.get(status, "failure")
        assert event["context"]["status"] == status

    quarantined = site.trails.kind("quarantine")
    assert {record["reason"] for record in quarantined} == {"invalid_utf8"}
    kept = [base64.b64decode(record["raw_base64"]) for record in quarantined]
    names = [line.split(b'"client":"')[1].split(b'"')[0].decode() for line in kept]
    assert sorted(names) == sorted(asked.raw_admin)
    assert all(asked.raw_admin[name][0] in line for name, line in zip(names, kept, strict=True))
    assert site.trails.kind("gap") == []

    lines = passed.read_bytes().splitlines()
    assert len(lines) == asked.others
    assert all(b'"request":' in line for line in lines)
    assert any(json.dumps('"stream":"audit"')[1:-1].encode() in line for line in lines)
    assert "access.log" not in (tmp_path / "nginx" / "error.log").read_text(encoding="utf-8"), "nginx could not open its log anew"
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()
