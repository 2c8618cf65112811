"""Grants: who may see what until when, as a signed token and a line in a book.

A token is ``ts1.<payload>.<mac>``, both parts base64url without padding. The payload is the grant as JSON; the mac is HMAC-SHA-256
(RFC 2104) over ``ts1.<payload>`` with the key in the view's state directory. The book says which grants were given and revoked; a
token that is not in it is worth nothing, so a lost book lets nobody in rather than everybody.

Invariants: a mac is compared in constant time, before anything of the payload is read; the book never holds a token; scope and expiry
come from the signed payload alone. This module must not know HTTP.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from ...errors import ConfigError
from ..ask.filters import Scope

VERSION: Final = "ts1"
MAX_TOKEN_CHARACTERS: Final = 4096
MAX_NAME_CHARACTERS: Final = 100
MAX_SERVICES: Final = 50
EVERYTHING: Final = "*/*"
_TOKEN: Final = re.compile(rf"{VERSION}\.[A-Za-z0-9_.=-]*")
_ID: Final = re.compile(r"[0-9a-f]{16}")
_GLOB: Final = re.compile(r"[a-z0-9._?*-]{1,70}/[a-z0-9._?*-]{1,70}")


class Refusal(StrEnum):
    """Why a token lets nobody in; nothing in these says what exists."""

    MISSING = "missing"
    INVALID = "invalid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class RefusedTokenError(Exception):
    """A token lets nobody in.

    Attributes:
        refusal: Why.
        grant: The grant, if the token's mac is right; None if nothing in it can be believed.
    """

    def __init__(self, refusal: Refusal, grant: Grant | None = None) -> None:
        """Keep both."""
        super().__init__(refusal.value)
        self.refusal, self.grant = refusal, grant


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one link allows.

    Attributes:
        id: 16 hex digits; names the grant in the book, in the audit events and when it is revoked.
        name: Whom it was given to, as the person who gave it wrote it.
        services: Patterns ``namespace/service``; ``*/*`` is everything.
        since: What occurred before is out of scope, if given.
        until: What occurred at this time or later is out of scope, if given.
        expires: From this time on it lets nobody in.
        issued: When it was given.
    """

    id: str
    name: str
    services: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    expires: datetime
    issued: datetime

    @property
    def everything(self) -> bool:
        """Whether every service is in scope, those that nobody knows of yet included."""
        return EVERYTHING in self.services

    @property
    def scope(self) -> Scope:
        """What it allows, as the questions take it."""
        return Scope(self.services, self.since, self.until)


@dataclass(frozen=True, slots=True)
class Key:
    """The secret that signs tokens; never shown.

    Attributes:
        secret: 32 random bytes.
    """

    secret: bytes

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return "Key(…)"

    def mac(self, text: bytes) -> bytes:
        """Return the HMAC-SHA-256 of a text."""
        return hmac.new(self.secret, text, hashlib.sha256).digest()


def service_globs(texts: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Read the services of a command line: ``namespace/service`` patterns, or a service's alone, which means it in every namespace.

    Raises:
        ConfigError: There are none or too many, or one is not such a pattern.
    """
    globs = [part.strip() for text in texts for part in text.split(",")]
    if not globs or len(globs) > MAX_SERVICES:
        raise ConfigError(
            f"name 1 to {MAX_SERVICES} services", hint="For example --services payments, --services 'demo/*', or '*' for all."
        )
    whole = tuple(dict.fromkeys(glob if "/" in glob else f"*/{glob}" for glob in globs))
    for glob in whole:
        if not _GLOB.fullmatch(glob):
            raise ConfigError(
                f"{glob!r} is no pattern of services",
                hint="Write namespace/service in small letters, with * and ? where anything may stand.",
            )
    return (EVERYTHING,) if EVERYTHING in whole else whole


def make_grant(
    *,
    identifier: str,
    name: str,
    services: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    expires: datetime,
    now: datetime,
) -> Grant:
    """Make a grant that can be given.

    Args:
        identifier: 16 hex digits, drawn at random by the caller.
        name: Whom it is for.
        services: What `service_globs` returned.
        since: Aware, UTC; or None.
        until: Aware, UTC; or None.
        expires: Aware, UTC.
        now: Aware, UTC.

    Raises:
        ConfigError: The name is too long or not printable, the range is empty, or it would have expired already.
    """
    name = name.strip()
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise ConfigError(f"the name must be printable, and at most {MAX_NAME_CHARACTERS} characters long", hint="Write who it is for.")
    if since is not None and until is not None and since >= until:
        raise ConfigError("--since is not before --until: nothing would be in scope", hint="Exchange them, or leave one out.")
    if expires <= now:
        raise ConfigError("the grant would have expired already", hint="Give --expires a time to come, or a duration such as 7d.")
    return Grant(id=identifier, name=name, services=services, since=since, until=until, expires=expires, issued=now)


def issue(grant: Grant, key: Key) -> str:
    """Return the token of a grant."""
    body = f"{VERSION}.{_text(msgspec.json.encode(grant))}"
    return f"{body}.{_text(key.mac(body.encode()))}"


def read_token(token: str, key: Key) -> Grant:
    """Return the grant of a token that this key signed, whether it has expired or not.

    Raises:
        RefusedTokenError: It is not such a token (`Refusal.INVALID`).
    """
    if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
        raise RefusedTokenError(Refusal.INVALID)
    body, _, mac = token.rpartition(".")
    if not hmac.compare_digest(_text(key.mac(body.encode())), mac):
        raise RefusedTokenError(Refusal.INVALID)
    version, _, payload = body.partition(".")
    if version != VERSION:
        raise RefusedTokenError(Refusal.INVALID)
    try:
        grant = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=Grant)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise RefusedTokenError(Refusal.INVALID) from error
    times = (grant.since, grant.until, grant.expires, grant.issued)
    if not _ID.fullmatch(grant.id) or not grant.services or any(time is not None and time.tzinfo is None for time in times):
        raise RefusedTokenError(Refusal.INVALID)
    return grant


def check(token: str | None, key: Key, *, known: frozenset[str], revoked: frozenset[str], now: datetime) -> Grant:
    """Return the grant of a token that lets its bearer in now.

    Args:
        token: What the client showed, if anything.
        key: The view's key.
        known: The ids of the grants in the book.
        revoked: The ids of those revoked.
        now: Aware, UTC.

    Raises:
        RefusedTokenError: It does not.
    """
    if not token:
        raise RefusedTokenError(Refusal.MISSING)
    grant = read_token(token, key)
    if grant.id in revoked:
        raise RefusedTokenError(Refusal.REVOKED, grant)
    if grant.id not in known:
        raise RefusedTokenError(Refusal.INVALID)
    if now >= grant.expires:
        raise RefusedTokenError(Refusal.EXPIRED, grant)
    return grant


def without_tokens(text: str) -> str:
    """Return a text in which nothing is left that could be a token: for logs and events."""
    return _TOKEN.sub("(a token)", text)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
