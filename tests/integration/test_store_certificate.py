"""The certificate that a store shows is seen when the store is looked at, through a real TLS connection."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from obstore.store import S3Store

from agent.errors import TransientError
from agent.stores.bucket.look import look

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

UNTIL = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def make_certificate(folder: Path) -> Path:
    """Write a certificate for the loopback address, good until `UNTIL`, and its key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(UNTIL)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "store.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


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
