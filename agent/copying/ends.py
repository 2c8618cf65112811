"""The two ends of a copy, as a command line names them.

Invariants: a store is never copied into itself or into a part of itself; opening writes nothing. This module must not copy anything.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from ..config import BucketAddress, Retention, Store, parse_endpoint
from ..errors import ConfigError, NotVerifiedError
from ..reader.fetch import DirectoryReader
from ..reader.opening import Reach, open_store
from ..stores import BucketStore, DirectoryStore
from ..stores.bucket import Access
from ..trail.layout import fold_name
from .target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..reader.fetch import StoreReader
    from ..trail.layout import Origin
    from ..vitals.clock import Clock

_KINDS: Final = "TO is a folder's path, a file:// URL of this machine, or a bucket: s3://, gs:// or az://."
_ID: Final = "to"


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms the target is written to; as in the configuration of a store.

    Attributes:
        reach: How a bucket is reached.
        allow_http: Whether a bucket may be reached without TLS from this machine outwards.
        allow_unlocked: Whether a bucket without a lock will do.
        retention: What the bucket's lock has to give; any lock will do if None.
    """

    reach: Reach = field(default_factory=Reach)
    allow_http: bool = False
    allow_unlocked: bool = False
    retention: Retention | None = None


@contextmanager
def reading(where: str, reach: Reach) -> Iterator[StoreReader]:
    """Open a store for reading; a bucket answers late, so it is read ahead.

    Raises:
        ConfigError: The address or the settings do not fit.
        NotVerifiedError: It cannot be read.
    """
    store = open_store(where, reach)
    if isinstance(store, DirectoryReader):
        yield store
        return
    # Imported here because a folder needs none of it.
    from ..reader.ahead import ReadAhead  # noqa: PLC0415
    from ..reader.bucket import BucketReader  # noqa: PLC0415

    try:
        with ReadAhead(store) as ahead:
            yield ahead
    finally:
        if isinstance(store, BucketReader):
            store.close()


def open_target(where: str, terms: Terms, clock: Clock, *, dry_run: bool, tell: Callable[[str], None]) -> Target:
    """Return the target; nothing is written or connected to.

    Args:
        where: Its address.
        terms: How it is reached and what it has to guarantee.
        clock: Tells the time.
        dry_run: Whether nothing is to be written.
        tell: Told why something is tried again.

    Raises:
        ConfigError: The address or the settings do not fit.
    """
    folder = folder_of(where)
    if folder is None:
        settings = _bucket_settings(where, terms)
        # The probe lies under a name of its own: it is no agent that asks. One that asked for its lock is another than one that did not, so
        # that whoever is refused and asks for it then is not shown the probe from before.
        service = "copy-by-object" if terms.retention is not None and terms.retention.by == "object" else "copy"
        store = BucketStore(settings, ("trailseal", service, fold_name(socket.gethostname() or "host")), clock)
        return Target(settings.place, store, newest=_Newest(where, terms.reach), dry_run=dry_run, tell=tell)
    if terms != Terms():
        hint = "The options that begin with --to- and --allow-unlocked say how a bucket is written to."
        raise ConfigError(f"{where!r} is no bucket", hint=hint)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder", hint=_KINDS)
    return Target(str(folder), DirectoryStore(_ID, folder), dry_run=dry_run, tell=tell)


class _Newest:
    """Lists what a bucket has of a trail, as a hint."""

    def __init__(self, where: str, reach: Reach) -> None:
        self._where, self._reach = where, reach
        self._reader: StoreReader | None = None

    def __call__(self, origin: Origin) -> int:
        try:
            self._reader = self._reader or open_store(self._where, self._reach)
            return max(self._reader.seals(origin), default=-1)
        except NotVerifiedError:
            # Whoever may create need not be allowed to list.
            return -1


def _bucket_settings(where: str, terms: Terms) -> Store:
    reach = terms.reach
    try:
        return Store(
            id=_ID,
            bucket=BucketAddress.parse(where),
            endpoint=None if reach.endpoint is None else parse_endpoint(reach.endpoint),
            region=reach.region,
            profile=reach.profile,
            ca_file=reach.ca_file,
            allow_http=terms.allow_http,
            retention=terms.retention,
            allow_unlocked=terms.allow_unlocked,
        )
    except ValueError as error:
        # The sentences name the keys of the configuration, which the options are called after.
        hint = f"{_KINDS} The options --to-allow-http, --to-retention and --allow-unlocked are the keys of a store in the configuration."
        raise ConfigError(str(error), hint=hint) from error


def folder_of(where: str) -> Path | None:
    """Return the absolute folder that an address names; None if it is a bucket's.

    Raises:
        ConfigError: It is a ``file://`` URL of another machine.
    """
    scheme, separator, _ = where.partition("://")
    if not separator:
        return Path(where).absolute()
    if scheme.lower() != "file":
        return None
    url = urlsplit(where)
    if url.netloc not in ("", "localhost"):
        raise ConfigError(f"cannot write to {where!r}: a file:// URL names a folder of this machine", hint=_KINDS)
    return Path(unquote(url.path)).absolute()


def refuse_itself(source: str, source_reach: Reach, target: str, target_reach: Reach) -> None:
    """Refuse to copy a store into itself, or one of two that lie within each other: the copy would be none.

    Raises:
        ConfigError: They are, or do.
    """
    one, other = _place(source, source_reach), _place(target, target_reach)
    if one == other[: len(one)] or other == one[: len(other)]:
        raise ConfigError(f"{source} and {target} are the same store, or one lies within the other", hint="Copy it to a place of its own.")


def _place(where: str, reach: Reach) -> tuple[str, ...]:
    """Return a store's place, the outermost part first."""
    folder = folder_of(where)
    if folder is not None:
        return ("file", *Path(os.path.realpath(folder)).parts)
    try:
        address = BucketAddress.parse(where)
    except ValueError:
        # Opening it says so.
        return (where,)
    endpoint = Access(address=address, endpoint=reach.endpoint).complete(os.environ).endpoint or ""
    return (address.provider, endpoint.rstrip("/"), address.account, address.bucket, *filter(None, address.prefix.split("/")))
