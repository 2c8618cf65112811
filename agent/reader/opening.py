"""Open the store that a command line names: a folder, or a bucket.

Nothing is read here but what tells at once that an address is wrong. This module must not know what is asked of a store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError
from .fetch import DirectoryReader

if TYPE_CHECKING:
    from ..stores.bucket import Access
    from .fetch import OpenStore

_KINDS: Final = "STORE is a folder's path, a file:// URL of this machine, or a bucket: s3://, gs:// or az://."


@dataclass(frozen=True, slots=True)
class Reach:
    """How a bucket is reached, as far as a command line says; the environment says the rest.

    Attributes:
        endpoint: The server's URL.
        region: The bucket's region.
        profile: The section of AWS's credentials file.
        ca_file: The path of certificates to trust beside the system's.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    ca_file: str | None = None


def open_store(where: str, reach: Reach | None = None) -> OpenStore:
    """Open the store that a command line names.

    Args:
        where: A folder's path, a ``file://`` URL, or a bucket's: ``s3://``, ``gs://`` or ``az://``.
        reach: How a bucket is reached.

    Raises:
        ConfigError: The URL is of a kind that this version cannot read, or the settings do not fit.
        NotVerifiedError: There is no such folder, or the bucket cannot be read.
    """
    scheme, separator, _ = where.partition("://")
    if separator and scheme.lower() != "file":
        return _open_bucket(where, reach or Reach())
    if reach not in (None, Reach()):
        raise ConfigError(f"{where!r} is no bucket", hint="--endpoint, --region, --profile and --ca-file say how a bucket is reached.")
    if not separator:
        return DirectoryReader(Path(where))
    url = urlsplit(where)
    if url.netloc not in ("", "localhost"):
        raise ConfigError(f"cannot read {where!r}: a file:// URL names a folder of this machine", hint=_KINDS)
    return DirectoryReader(Path(unquote(url.path)))


def store_name(where: str, reach: Reach | None = None) -> str:
    """Return the name that `open_store` gives the store, without looking whether it is there.

    Raises:
        ConfigError: As `open_store`.
    """
    scheme, separator, _ = where.partition("://")
    if separator and scheme.lower() != "file":
        return _access(where, reach or Reach()).name
    return str(Path(unquote(urlsplit(where).path) if separator else where))


def _access(where: str, reach: Reach) -> Access:
    # Imported here because a folder needs none of it.
    from ..config import BucketAddress, parse_endpoint  # noqa: PLC0415
    from ..stores.bucket import Access  # noqa: PLC0415

    try:
        address = BucketAddress.parse(where)
        endpoint = None if reach.endpoint is None else parse_endpoint(reach.endpoint)
    except ValueError as error:
        raise ConfigError(str(error), hint=_KINDS) from error
    given = Access(address=address, endpoint=endpoint, region=reach.region, profile=reach.profile, ca_file=reach.ca_file)
    return given.complete(os.environ)


def _open_bucket(where: str, reach: Reach) -> OpenStore:
    from .bucket import BucketReader  # noqa: PLC0415  as above

    reader = BucketReader(_access(where, reach))
    reader.greet()
    return reader
