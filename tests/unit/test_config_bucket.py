"""Bucket addresses and the settings of a store in one: what is read, and what is refused with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.config import BucketAddress, load
from agent.errors import ConfigError
from agent.stores.bucket import Access

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "namespace: demo\nservice: payments\nstate: /var/lib/trailseal\nstores:\n"


def loaded(tmp_path: Path, *stores: str):
    (tmp_path / "t.yaml").write_text(HEAD + "".join(f"  - {{{store}}}\n" for store in stores), encoding="utf-8")
    return load(str(tmp_path / "t.yaml"), {}).stores


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://audit", BucketAddress("s3", "audit")),
        ("s3://audit/", BucketAddress("s3", "audit")),
        ("S3://audit/prod/eu-1", BucketAddress("s3", "audit", "prod/eu-1")),
        ("gs://audit_1/x", BucketAddress("gs", "audit_1", "x")),
        ("az://account1/container/x/", BucketAddress("az", "container", "x", "account1")),
    ],
)
def test_an_address_is_read_and_written_in_one_spelling(text: str, address: BucketAddress) -> None:
    assert BucketAddress.parse(text) == address
    assert BucketAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "audit",
        "ftp://audit",
        "s3://",
        "s3:///x",
        "s3://a",
        "s3://audit//x",
        "s3://audit/../x",
        "s3://audit/.x",
        "s3://au dit",
        "az://acc",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no bucket|is not the name|cannot be a part|needs a storage account"):
        BucketAddress.parse(text)


BUCKET = 'id: main, bucket: "s3://audit"'


@pytest.mark.parametrize(
    ("store", "line"),
    [
        ("id: main", "stores[0]: a store has exactly one of directory and bucket, and this one has neither"),
        (f"{BUCKET}, directory: /srv", "stores[0]: a store has exactly one of directory and bucket, and this one has both"),
        ("id: main, directory: /srv, region: x", "stores[0]: region belongs to a bucket"),
        ("id: main, directory: /srv, allow_unlocked: true", "stores[0]: allow_unlocked belongs to a bucket"),
        ('id: main, bucket: "gs://audit"', "stores[0]: the lock of gs://audit belongs to the bucket as a whole"),
        ('id: main, bucket: "az://acc/audit", required: false', "stores[0]: the lock of az://acc/audit belongs to the bucket"),
        ('id: main, bucket: "gs://audit", endpoint: "https://x.example"', "stores[0]: endpoint belongs to an s3:// or az:// bucket"),
        (f'{BUCKET}, endpoint: "https://:secret@host"', "stores[0].endpoint: an endpoint is the URL of a server"),
        (f'{BUCKET}, endpoint: "https://host:99999"', "stores[0].endpoint: an endpoint is the URL of a server"),
        ('id: main, bucket: "gs://audit", profile: x', "stores[0]: profile belongs to an s3:// bucket"),
        ('id: main, bucket: "gs://audit", retention: {days: 1, by: object}', "stores[0]: retention by object needs an s3:// bucket"),
        (
            f"{BUCKET}, retention: {{days: 1}}, allow_unlocked: true",
            "stores[0]: retention asks for a lock, and allow_unlocked does without",
        ),
        (f"{BUCKET}, retention: {{mode: compliance}}", "stores[0].retention.days: this key is missing"),
        (f"{BUCKET}, retention: {{days: 0}}", "stores[0].retention.days: must be between 1 and 36500"),
        (f"{BUCKET}, retention: {{days: 1.5}}", "stores[0].retention.days: must be a whole number"),
        (f"{BUCKET}, retention: {{days: 1, mode: soft}}", "stores[0].retention.mode: must be compliance or governance"),
        (f'{BUCKET}, endpoint: "s3.example.com"', "stores[0].endpoint: an endpoint is the URL of a server"),
        (f'{BUCKET}, endpoint: "http://s3.example.com"', "stores[0]: http://s3.example.com is reached without TLS"),
        (f'{BUCKET}, endpoint: "https://user:secret@s3.example.com"', "stores[0].endpoint: an endpoint is the URL of a server: http"),
        ('id: main, bucket: "audit"', "stores[0].bucket: 'audit' is no bucket"),
        (f"{BUCKET}, ca_file: none.pem", "stores[0].ca_file: there is no file"),
    ],
)
def test_a_wrong_store_is_one_line_with_file_line_and_key(tmp_path: Path, store: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, store)
    assert f"t.yaml:5: {line}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_stores_may_not_lie_within_each_other(tmp_path: Path) -> None:
    one, two, three = ('id: one, bucket: "s3://audit/x"', 'id: two, bucket: "s3://audit/y"', 'id: three, bucket: "s3://audit/y/z"')
    assert len(loaded(tmp_path, one, two)) == 2
    with pytest.raises(ConfigError, match=r"t.yaml:7: stores\[2\].bucket: s3://audit/y/z lies in one tree with the store two"):
        loaded(tmp_path, one, two, three)
    assert len(loaded(tmp_path, two, f'{three}, endpoint: "https://s3.example.com"')) == 2
    with pytest.raises(ConfigError, match="lies in one tree"):
        loaded(
            tmp_path,
            f'{one}, endpoint: "https://S3.example.com:443/"',
            f'{one.replace("one", "two", 1)}, endpoint: "https://s3.example.com"',
        )


def test_plain_http_needs_this_machine_or_a_word(tmp_path: Path) -> None:
    for endpoint in ("http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost:9000"):
        assert loaded(tmp_path, f'{BUCKET}, endpoint: "{endpoint}"')[0].endpoint == endpoint
    assert loaded(tmp_path, f'{BUCKET}, endpoint: "http://10.0.0.1/", allow_http: true')[0].endpoint == "http://10.0.0.1"


def test_the_environment_completes_what_the_configuration_leaves_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store,) = loaded(tmp_path, BUCKET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.com/")
    monkeypatch.setenv("AWS_REGION", "eu-1")
    found = Access.of(store)
    assert (found.endpoint, found.region) == ("https://s3.example.com", "eu-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://10.0.0.1:9000")
    with pytest.raises(ConfigError, match="without TLS"):
        Access.of(store)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_S3: an endpoint is the URL of a server"):
        Access.of(store)
