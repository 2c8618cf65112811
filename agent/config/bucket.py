"""Name a bucket: which cloud, which bucket, which prefix, and the settings of a store in one.

Invariants: an address is complete and in one spelling (`str` gives it back); a prefix has no empty, hidden or relative part, so no
two texts name the same keys. This module must not connect to anything.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from .values import FilePath, Flag, Integer, Name, Text, Word

if TYPE_CHECKING:
    from .document import Node

Provider: TypeAlias = Literal["s3", "gs", "az"]

PROVIDERS: Final[dict[str, Provider]] = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az"}
"""The cloud that each scheme of a bucket's URL means."""

DAY_SECONDS: Final = 86_400
_FORMS: Final = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX; the prefix may be left out"
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_PREFIX_PART: Final = re.compile(r"[A-Za-z0-9_=][A-Za-z0-9._=-]*")


class BucketAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say where in which cloud a store's keys begin.

    Attributes:
        provider: ``s3`` (Amazon's, or any other that speaks its API), ``gs`` (Google) or ``az`` (Azure Blob).
        bucket: The bucket, or Azure's container.
        prefix: What stands before every key, without slashes at its ends; empty for the bucket's root.
        account: Azure's storage account; empty elsewhere.
    """

    provider: Provider
    bucket: str
    prefix: str = ""
    account: str = ""

    def __str__(self) -> str:
        """Return the URL."""
        return "/".join(part for part in (f"{self.provider}:/", self.account, self.bucket, self.prefix) if part)

    @classmethod
    def parse(cls, text: str) -> BucketAddress:
        """Read a URL.

        Args:
            text: ``s3://BUCKET[/PREFIX]``, ``gs://BUCKET[/PREFIX]`` or ``az://ACCOUNT/CONTAINER[/PREFIX]``.

        Raises:
            ValueError: It has another form; the message says which are known.
        """
        scheme, separator, rest = text.partition("://")
        provider = PROVIDERS.get(scheme.lower()) if separator else None
        if provider is None:
            raise ValueError(f"{text!r} is no bucket: write {_FORMS}")
        account, parts = "", rest.removesuffix("/").split("/")
        if provider == "az":
            account, *parts = parts
            if not _ACCOUNT.fullmatch(account) or not parts:
                raise ValueError(f"{text!r} needs a storage account and a container: az://ACCOUNT/CONTAINER")
        bucket, *prefix = parts
        if not _BUCKET.fullmatch(bucket):
            raise ValueError(f"{bucket!r} is not the name of a bucket")
        for part in prefix:
            if not _PREFIX_PART.fullmatch(part):
                raise ValueError(f"{part!r} cannot be a part of the prefix: letters, digits, '.', '_', '=' and '-', no dot or hyphen first")
        return cls(provider, bucket, "/".join(prefix), account)


class BucketUrl:
    """Read a bucket's URL."""

    def read(self, node: Node) -> BucketAddress:
        """Return the address."""
        try:
            return BucketAddress.parse(Text().read(node))
        except ValueError as error:
            raise node.error(str(error)) from error


class EndpointUrl:
    """Read the URL of a server: scheme, host and port."""

    def read(self, node: Node) -> str:
        """Return the URL without a slash at its end."""
        text = Text().read(node)
        try:
            return parse_endpoint(text)
        except ValueError as error:
            raise node.error(str(error), "For example https://s3.example.com or http://127.0.0.1:9000.") from error


def parse_endpoint(text: str) -> str:
    """Return an endpoint's URL in one spelling.

    Raises:
        ValueError: It is not ``http[s]://host[:port][/path]``.
    """
    url = urlsplit(text)
    try:
        well_formed = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or "@" in url.netloc or url.query or url.fragment:
        # The text is not repeated: it may hold a password.
        raise ValueError("an endpoint is the URL of a server: http[s]://HOST[:PORT], without a user, query or fragment")
    host = f"[{url.hostname}]" if ":" in str(url.hostname) else url.hostname
    port = "" if url.port in (None, {"http": 80, "https": 443}[url.scheme]) else f":{url.port}"
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def is_plain_http(endpoint: str) -> bool:
    """Tell whether an endpoint is reached without TLS over more than this machine's loopback interface."""
    url = urlsplit(endpoint)
    host = url.hostname or ""
    if url.scheme != "http":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") != "localhost"


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State how long nobody may delete or replace what is stored.

    Attributes:
        mode: ``compliance`` (nobody can lift it) or ``governance`` (somebody with the right to can).
        days: For how long, from the moment an object is stored.
        by: ``bucket``: the bucket's default has to give it; ``object``: each object asks for it in signed headers (S3 only).
    """

    mode: Annotated[Literal["compliance", "governance"], Word(("compliance", "governance"))] = "compliance"
    days: Annotated[int, Integer(1, 36_500)]
    by: Annotated[Literal["bucket", "object"], Word(("bucket", "object"))] = "bucket"


class Store(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where batches go: a directory or a bucket.

    Attributes:
        id: The store's name in receipts and metrics.
        directory: The absolute path of a directory store, or None.
        bucket: Where in which bucket, or None.
        required: Whether a batch leaves the spool only with this store's receipt.
        endpoint: The server of an S3-compatible store; the cloud's own if None.
        region: The bucket's region (S3); from the environment if None.
        profile: The section of AWS's credentials file to use (S3); the usual chain if None.
        ca_file: The absolute path of certificates to trust beside the system's, or None.
        allow_http: Whether the endpoint may be reached without TLS from this machine outwards.
        retention: What the bucket's lock has to give; any lock will do if None.
        allow_unlocked: Whether to ship to a bucket without a lock, with a standing warning.
    """

    id: Annotated[str, Name()]
    directory: Annotated[str | None, FilePath()] = None
    bucket: Annotated[BucketAddress | None, BucketUrl()] = None
    required: Annotated[bool, Flag()] = True
    endpoint: Annotated[str | None, EndpointUrl()] = None
    region: Annotated[str | None, Text()] = None
    profile: Annotated[str | None, Text()] = None
    ca_file: Annotated[str | None, FilePath(must_exist=True)] = None
    allow_http: Annotated[bool, Flag()] = False
    retention: Retention | None = None
    allow_unlocked: Annotated[bool, Flag()] = False

    def __post_init__(self) -> None:
        """Refuse a store that is neither or both, and settings that say nothing about its kind."""
        if (self.directory is None) == (self.bucket is None):
            raise ValueError(f"a store has exactly one of directory and bucket, and this one has {'both' if self.bucket else 'neither'}")
        fields = {field.name: field for field in msgspec.structs.fields(Store)}
        for name in _OF_BUCKETS if self.bucket is None else _FOREIGN[self.bucket.provider]:
            if getattr(self, name) != fields[name].default:
                where = "a bucket" if self.bucket is None else "an s3:// bucket" if name in _OF_S3 else "an s3:// or az:// bucket"
                raise ValueError(f"{name} belongs to {where}")
        if self.bucket is not None and self.bucket.provider != "s3" and self.retention is None and not self.allow_unlocked:
            raise ValueError(
                f"the lock of {self.bucket} belongs to the bucket as a whole, and cannot be seen with an agent's rights: "
                "state it with retention, or do without with allow_unlocked"
            )
        if self.retention is not None and self.retention.by == "object" and self.bucket is not None and self.bucket.provider != "s3":
            raise ValueError("retention by object needs an s3:// bucket; let the bucket's own policy give it (by: bucket)")
        if self.retention is not None and self.allow_unlocked:
            raise ValueError("retention asks for a lock, and allow_unlocked does without one; choose one of them")
        if self.endpoint is not None and is_plain_http(self.endpoint) and not self.allow_http:
            raise ValueError(
                f"{self.endpoint} is reached without TLS, so anybody on the way reads and changes it; set allow_http: true to accept that"
            )

    @property
    def place(self) -> str:
        """Where it is, for a person: the folder, or the bucket's URL."""
        return self.directory or str(self.bucket)


_OF_S3: Final = ("region", "profile")
_NOT_OF_GOOGLE: Final = ("endpoint", *_OF_S3)
_FOREIGN: Final[dict[Provider, tuple[str, ...]]] = {"s3": (), "gs": _NOT_OF_GOOGLE, "az": _OF_S3}
_OF_BUCKETS: Final = ("endpoint", *_OF_S3, "ca_file", "allow_http", "retention", "allow_unlocked")
