"""The client of S3's own API: what it is made of, and what is said when it cannot be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from agent.config import BucketAddress
from agent.errors import ConfigError
from agent.stores.bucket import Access
from agent.stores.bucket.s3api import read_client_error, s3_client

ADDRESS = BucketAddress("s3", "audit")
CERTIFICATES = "-----BEGIN CERTIFICATE-----\nnot one\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _keys(monkeypatch) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")


async def test_an_endpoint_is_spoken_to_as_a_server_that_is_not_amazons() -> None:
    async with s3_client(Access(address=ADDRESS, endpoint="http://127.0.0.1:9000")) as client:
        config = client.meta.config
        assert (client.meta.endpoint_url, client.meta.region_name) == ("http://127.0.0.1:9000", "us-east-1")
        assert config.s3["addressing_style"] == "path"
        assert (config.request_checksum_calculation, config.response_checksum_validation) == ("when_required", "when_required")
        assert config.retries["total_max_attempts"] == 3


async def test_amazon_is_spoken_to_with_its_own_defaults() -> None:
    async with s3_client(Access(address=ADDRESS, region="eu-central-1"), attempts=1) as client:
        assert client.meta.region_name == "eu-central-1"
        assert client.meta.config.request_checksum_calculation == "when_supported"
        assert client.meta.config.retries["total_max_attempts"] == 1


async def test_certificates_are_trusted_beside_the_systems(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(CERTIFICATES, encoding="ascii")
    async with s3_client(Access(address=ADDRESS, endpoint="https://s3.example.com", ca_file=str(file))) as client:
        bundle = client._endpoint.http_session._verify
        assert Path(bundle).read_text(encoding="utf-8").rstrip().endswith(CERTIFICATES.rstrip())


async def test_a_missing_extra_is_said_with_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore.session", None)
    with pytest.raises(ConfigError, match="aiobotocore") as caught:
        async with s3_client(Access(address=ADDRESS)):
            pass
    assert "trailseal[attest]" in caught.value.hint


@pytest.mark.parametrize(
    ("access", "message"),
    [
        (Access(address=BucketAddress("gs", "audit")), "not an S3 bucket"),
        (Access(address=ADDRESS, profile="nobody"), "nobody"),
        (Access(address=ADDRESS, ca_file="/nonexistent.pem"), "certificates"),
    ],
)
async def test_what_cannot_be_used_is_an_error_of_the_configuration(access: Access, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        async with s3_client(access):
            pass


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "No."}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject"),
            403,
            "403: AccessDenied: No.",
        ),
        (
            ClientError({"Error": {"Code": "404", "Message": "Not Found"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadObject"),
            404,
            "404: Not Found",
        ),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), None, 'Could not connect to the endpoint URL: "http://127.0.0.1:1"'),
        (TimeoutError(), None, "TimeoutError"),
    ],
)
def test_what_a_server_says_is_one_line(error: Exception, status: int | None, words: str) -> None:
    answer = read_client_error(error)
    assert (answer.status, answer.words) == (status, words)
