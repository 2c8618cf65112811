"""Look at one object from outside: under which lock it lies, which version it is, what time the store has.

The library that ships shows none of this, but it signs URLs. So one HEAD request goes to a signed URL, and the store's own headers are
read. On Amazon S3 the lock is shown to whoever may ``s3:GetObjectRetention`` on the object.
"""

from __future__ import annotations

import os
import re
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ...errors import TransientError
from .proxies import proxy_for
from .words import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore.store import AzureStore, GCSStore, S3Store

    from ...config.bucket import Provider

SIGNED_SECONDS: Final = 3600
"""How long a signed URL is good, by the store's clock, which may be off from ours by a quarter of an hour."""
LOOK_SECONDS: Final = 15.0
_MODE: Final = ("x-amz-object-lock-mode", "x-ms-immutability-policy-mode", "x-goog-object-lock-mode")
_UNTIL: Final = ("x-amz-object-lock-retain-until-date", "x-ms-immutability-policy-until-date", "x-goog-object-lock-retain-until-date")
_VERSION: Final = ("x-amz-version-id", "x-ms-version-id", "x-goog-generation")
# Azure calls a policy that nobody can lift ``locked``, and one that its owner can ``unlocked``.
_MODES: Final[dict[str, Literal["compliance", "governance"]]] = {
    "compliance": "compliance",
    "locked": "compliance",
    "governance": "governance",
    "unlocked": "governance",
}
_FRACTION: Final = re.compile(r"\.\d+")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Be what a store says of an object.

    Attributes:
        status: The HTTP status.
        date: The store's clock when it answered, or None.
        modified: When the object was stored, by the store's clock, or None.
        version: Its version, or None where there are none.
        lock_mode: The mode of its retention, or None.
        locked_until: When its retention ends, or None.
        certificate_until: When the certificate expires that the store has shown; None without TLS.
    """

    status: int
    date: datetime | None = None
    modified: datetime | None = None
    version: str | None = None
    lock_mode: Literal["compliance", "governance"] | None = None
    locked_until: datetime | None = None
    certificate_until: datetime | None = None

    @property
    def lock_seconds(self) -> float | None:
        """For how long it was locked from the moment it was stored; None without a lock."""
        since = self.modified or self.date
        if self.lock_mode is None or self.locked_until is None or since is None:
            return None
        return (self.locked_until - since).total_seconds()


def read_facts(status: int, headers: Mapping[str, str]) -> Facts:
    """Return what an answer's headers say.

    Args:
        status: The HTTP status.
        headers: Its headers; their names in small letters.
    """
    mode = next((headers[name] for name in _MODE if name in headers), "")
    return Facts(
        status=status,
        date=read_time(headers.get("date")),
        modified=read_time(headers.get("last-modified")),
        version=next((headers[name] for name in _VERSION if headers.get(name, "null") != "null"), None),
        lock_mode=_MODES.get(mode.lower()),
        locked_until=read_time(next((headers[name] for name in _UNTIL if name in headers), None)),
    )


def read_time(text: str | None) -> datetime | None:
    """Return a time written as HTTP (RFC 9110 section 5.6.7) or RFC 3339 has it; None for anything else."""
    if not text:
        return None
    try:
        # Ceph writes nanoseconds, which Python does not read.
        moment = datetime.fromisoformat(_FRACTION.sub("", text)) if text[0].isdigit() else parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


async def look(store: S3Store | GCSStore | AzureStore, provider: Provider, key: str, ca_file: str | None) -> Facts:
    """Ask for an object's headers.

    Args:
        store: The bucket, without headers of its own.
        provider: Its cloud.
        key: The object's key, relative to the store.
        ca_file: Certificates to trust beside the system's, or None.

    Returns:
        What it said, whatever the status; nothing but a status where the credentials at hand cannot sign a URL (Google's and
        Azure's often cannot).

    Raises:
        TransientError: There was no answer.
    """
    import aiohttp  # noqa: PLC0415  the agent's own server loads half of it; the other half is needed here alone
    from obstore import sign_async  # noqa: PLC0415  as in access.py
    from obstore.exceptions import BaseError  # noqa: PLC0415  as in access.py
    from yarl import URL  # noqa: PLC0415  part of aiohttp

    # Azure's signature has no method in it, but a permission, and obstore gives none for HEAD.
    method: Literal["GET", "HEAD"] = "GET" if provider == "az" else "HEAD"
    try:
        url = await sign_async(store, method, key, timedelta(seconds=SIGNED_SECONDS))
    except (BaseError, ValueError, OSError) as error:
        if provider != "s3":
            return Facts(status=200)
        raise translate("look at", key, error) from error
    try:
        # The system's certificates take megabytes, which who speaks plain HTTP on its own machine can spare.
        context: ssl.SSLContext | bool = True
        shown: list[str] = []
        if url.startswith("https:"):
            context = ssl.create_default_context()
            if ca_file is not None:
                context.load_verify_locations(cafile=ca_file)
            context.sslobject_class = _showing(shown.append)
        timeout = aiohttp.ClientTimeout(total=LOOK_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.head(URL(url, encoded=True), proxy=proxy_for(url, os.environ)) as answer,
        ):
            facts = read_facts(answer.status, {name.lower(): value for name, value in answer.headers.items()})
            until = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown[-1]), UTC) if shown else None
            return msgspec.structs.replace(facts, certificate_until=until)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error).partition("\n")[0] or type(error).__name__
        raise TransientError(f"cannot look at {key}: {why}") from error


def _showing(note: Callable[[str], object]) -> type[ssl.SSLObject]:
    """Return a class of TLS connections that tell until when the other side's certificate is good, once it was checked."""

    class Showing(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert()
            if certificate and isinstance(until := certificate.get("notAfter"), str):
                note(until)

    return Showing
