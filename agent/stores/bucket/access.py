"""How a bucket is reached: its address, the server, the region, whose credentials, which certificates.

Credentials are never in our configuration. They come by the cloud's usual chain:
    S3      a profile that was named; AWS_ACCESS_KEY_ID; a web identity's token; a container's endpoint; AWS's credentials file;
            instance metadata
    Google  GOOGLE_APPLICATION_CREDENTIALS, gcloud's application default credentials, instance metadata
    Azure   AZURE_* variables (key, SAS, client secret, workload identity), managed identity

Invariants: opening connects to nothing. No request is repeated by the library: whoever ships decides when to try again, and says so.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ... import __version__
from ...config import BucketAddress, is_plain_http, parse_endpoint
from ...errors import ConfigError
from .profile import find_profile, profile_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import AzureStore, GCSStore, S3Store

    from ...config import Store as StoreSettings

CONNECT_SECONDS: Final = 5.0
REQUEST_SECONDS: Final = 45.0
"""How long one request may take, its body and the answer included: 4 MiB at 93 kB/s. A try of the shipper may need two."""
_ENDPOINT_VARIABLES: Final = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": (),
}
_REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
OTHER_REGION: Final = "us-east-1"
"""What is signed for where nobody says a region; servers other than Amazon's accept it as a rule."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Say how a bucket is reached.

    Attributes:
        address: Where in which cloud.
        endpoint: The server's URL; the cloud's own if None.
        region: The bucket's region (S3); from the environment or the profile if None.
        profile: The section of AWS's credentials file (S3), or None for the usual chain.
        ca_file: The path of certificates to trust beside the system's, or None.
    """

    address: BucketAddress
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    ca_file: str | None = None

    @classmethod
    def of(cls, settings: StoreSettings) -> Access:
        """Return how a configured store is reached; it must be a bucket.

        Raises:
            ConfigError: The environment names no usable endpoint.
        """
        if settings.bucket is None:
            message = f"the store {settings.id} is not a bucket"
            raise ConfigError(message)
        found = cls(
            address=settings.bucket,
            endpoint=settings.endpoint,
            region=settings.region,
            profile=settings.profile,
            ca_file=settings.ca_file,
        ).complete(os.environ)
        if found.endpoint is not None and is_plain_http(found.endpoint) and not settings.allow_http:
            message = f"the environment sends the store {settings.id} to {found.endpoint}, without TLS"
            raise ConfigError(message, hint="Name an https:// endpoint, or set allow_http: true to accept that.")
        return found

    @property
    def name(self) -> str:
        """The bucket's URL, and the server where one is named: two servers may have buckets of one name."""
        return str(self.address) if self.endpoint is None else f"{self.address} at {self.endpoint}"

    def complete(self, environ: Mapping[str, str]) -> Access:
        """Return it with the endpoint and the region that the environment gives where nothing was said.

        Raises:
            ConfigError: A variable holds no URL.
        """
        endpoint = self.endpoint
        for name in _ENDPOINT_VARIABLES[self.address.provider] if endpoint is None else ():
            if environ.get(name):
                try:
                    endpoint = parse_endpoint(environ[name])
                except ValueError as error:
                    raise ConfigError(f"{name}: {error}", hint="Correct or unset the variable.") from error
                break
        region = self.region or next((environ[name] for name in _REGION_VARIABLES if environ.get(name)), None)
        return msgspec.structs.replace(self, endpoint=endpoint, region=region)


def open_bucket(access: Access, headers: Mapping[str, str] | None = None) -> S3Store | GCSStore | AzureStore:
    """Return obstore's store for a bucket; keys are relative to the prefix.

    Args:
        access: How it is reached.
        headers: Sent with every request, and signed (S3).

    Raises:
        ConfigError: The certificates, the profile or the credentials' settings cannot be used.
    """
    # obstore's runtime takes its number of threads from here, once; two of them carry more than an agent ships.
    os.environ.setdefault("TOKIO_WORKER_THREADS", "2")
    from obstore.exceptions import BaseError  # noqa: PLC0415  15 MiB that only agents with a bucket need
    from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  as above

    address, common = access.address, _common(access, headers or {})
    prefix = address.prefix or None
    try:
        if address.provider == "gs":
            return GCSStore(address.bucket, prefix=prefix, **common)
        if address.provider == "az":
            given: dict[str, Any] = {} if access.endpoint is None else {"endpoint": access.endpoint}
            return AzureStore(address.bucket, prefix=prefix, account_name=address.account, **given, **common)
        return S3Store(address.bucket, prefix=prefix, **_s3(access), **common)
    except (BaseError, ValueError, OSError) as error:
        message = f"cannot open {address}: {str(error).partition(chr(10))[0]}"
        raise ConfigError(message, hint="Look at the credentials' environment variables and files.") from error


def file_states(access: Access) -> tuple[object, ...]:
    """Return what changes when a file that a bucket is opened with is replaced: AWS's credentials and configuration, certificates."""
    paths = [access.ca_file] if access.ca_file is not None else []
    if access.address.provider == "s3":
        paths += map(str, profile_files(os.environ))
    states: list[object] = []
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116  one look at a small file
        except OSError:
            states.append(None)
        else:
            states.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(states)


def _common(access: Access, headers: Mapping[str, str]) -> dict[str, Any]:
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "user_agent": f"trailseal/{__version__}",
    }
    if headers:
        client["default_headers"] = dict(headers)
    if access.endpoint is not None and access.endpoint.startswith("http://"):
        client["allow_http"] = True
    if access.ca_file is not None:
        try:
            client["root_certificate"] = Path(access.ca_file).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read the certificates: {error.strerror}", file=access.ca_file) from error
    return {"client_options": client, "retry_config": {"max_retries": 0}}


def _s3(access: Access) -> dict[str, Any]:
    """Return the settings that only S3 has; SHA-256 makes the server check what arrived."""
    given: dict[str, Any] = {"checksum_algorithm": "sha256"}
    profile = find_profile(access.profile, os.environ)
    region = access.region
    if profile is not None:
        given |= profile.credentials
        region = region or profile.region
    if access.endpoint is not None:
        given["endpoint"] = access.endpoint
        region = region or OTHER_REGION
    if region is not None:
        given["region"] = region
    return given
