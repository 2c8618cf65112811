"""The certificate that a store shows is seen when the store is looked at, through a real TLS connection."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from obstore.store import S3Store

from agent.errors import TransientError
from agent.stores.bucket.look import look
from tests.support.certificates import UNTIL, make_certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[int, str]]:
    """A server that speaks TLS and answers everything with 200: its port, and the file to trust it by."""
    pem = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    assert site._server is not None
    yield site._server.sockets[0].getsockname()[1], str(pem)  # type: ignore[attr-defined]
    await runner.cleanup()


def bucket(port: int) -> S3Store:
    return S3Store(
        "trail",
        endpoint=f"https://127.0.0.1:{port}",
        region="here",
        access_key_id="a",
        secret_access_key="b",
        virtual_hosted_style_request=False,
    )


async def test_a_stores_certificate_is_seen_with_its_end(server: tuple[int, str]) -> None:
    port, trusted = server
    facts = await look(bucket(port), "s3", "probes/one", trusted)
    assert (facts.status, facts.certificate_until) == (200, UNTIL)


async def test_a_certificate_that_nobody_trusts_is_no_answer(server: tuple[int, str]) -> None:
    port, _ = server
    with pytest.raises(TransientError, match="certificate verify failed"):
        await look(bucket(port), "s3", "probes/one", None)
