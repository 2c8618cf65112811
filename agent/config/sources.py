"""Define the settings of a source: where lines come from, which are audit lines, and what is made of them.

Invariants: a source is of exactly one kind; what cannot work together is refused when it is read. This module must not read files.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from ..errors import ConfigError
from ..events.classify import DEFAULT_FIELD, DEFAULT_VALUE, AllRule, FieldRule, PrefixRule, Rule
from .redaction import Redaction
from .values import (
    Address,
    Command,
    FilePath,
    Flag,
    Globs,
    Listen,
    MappingNames,
    Mode,
    Name,
    Text,
    Texts,
    Word,
    Zone,
    listed,
)

SourceKind: TypeAlias = Literal["file", "container", "pipe", "command", "journal", "socket"]
SOURCE_KINDS: Final[tuple[SourceKind, ...]] = ("file", "container", "pipe", "command", "journal", "socket")
MAX_SOCKET_PATH_BYTES: Final = 107
"""What fits into ``sockaddr_un`` with the NUL behind it (unix(7))."""


class Audit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which lines are audit lines: by a field (the default), by a prefix, or all of them.

    Attributes:
        field: Top-level field of the JSON object.
        value: The value that marks an audit event.
        prefix: The text before the JSON object.
        all: Every line that is not blank is an audit line.
    """

    field: Annotated[str | None, Text()] = None
    value: Annotated[str | None, Text()] = None
    prefix: Annotated[str | None, Text()] = None
    all: Annotated[bool, Flag()] = False

    def __post_init__(self) -> None:
        """Refuse combinations of the three ways, and what the rule itself refuses."""
        by_field = self.field is not None or self.value is not None
        if by_field + (self.prefix is not None) + self.all > 1:
            raise ValueError("choose one of: field and value, prefix, all")
        try:
            self.rule()
        except ConfigError as error:
            raise ValueError(error.message.removeprefix("audit.")) from error

    def rule(self) -> Rule:
        """Return the classification rule."""
        if self.all:
            return AllRule()
        if self.prefix is not None:
            return PrefixRule(self.prefix)
        return FieldRule(self.field or DEFAULT_FIELD, self.value or DEFAULT_VALUE)


class Journal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which entries of the systemd journal are read: those of any of the units, and those with any of the identifiers.

    Attributes:
        units: systemd units, ``.service`` understood where a name has no suffix.
        identifiers: Syslog identifiers, as in ``SYSLOG_IDENTIFIER=``.
        all: Every entry.
        directory: The absolute path of a folder of journal files; the machine's own journal if None.
    """

    units: Annotated[tuple[str, ...], Texts()] = ()
    identifiers: Annotated[tuple[str, ...], Texts()] = ()
    all: Annotated[bool, Flag()] = False
    directory: Annotated[str | None, FilePath()] = None

    def __post_init__(self) -> None:
        """Refuse a journal source that selects nothing, or both everything and something."""
        if self.all == bool(self.units or self.identifiers):
            raise ValueError("say which entries: units, identifiers or both; or all: true alone")


class Socket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where events can be posted to.

    Attributes:
        listen: The TCP address, or None.
        path: The absolute path of the socket in the file system, or None.
        mode: That socket's permission bits.
        allow_remote: Whether `listen` may be an address that other machines can reach.
    """

    listen: Annotated[Address | None, Listen()] = None
    path: Annotated[str | None, FilePath()] = None
    mode: Annotated[int, Mode()] = 0o660
    allow_remote: Annotated[bool, Flag()] = False

    def __post_init__(self) -> None:
        """Refuse a socket nobody can reach, and one that anybody can unless that is wanted."""
        if self.listen is None and self.path is None:
            raise ValueError("a socket needs listen, path or both")
        if self.path is not None and len(os.fsencode(self.path)) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes, and {self.path} is longer")
        if self.listen is not None and not self.allow_remote and not _is_loopback(self.listen.host):
            raise ValueError(
                f"{self.listen} can be reached from other machines, and whoever reaches it can write audit events; "
                "listen on 127.0.0.1 or [::1], or set allow_remote: true"
            )


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where lines come from; exactly one of the kinds is set.

    Attributes:
        id: The source's name in records and metrics.
        file: Absolute file patterns (glob, `**` for any depth).
        container: Absolute patterns of container log files, likewise.
        pipe: Always ``stdin``.
        command: The program to start, whose stdout and stderr are read.
        journal: Entries of the systemd journal.
        socket: Where events are posted to over HTTP.
        audit: The rule for this source; the common one if None, and every line of a socket.
        zone: The time zone of times in its lines that state none; for mappings only.
        redaction: What is redacted in its records; the common redaction if None.
        mapping: The mappings that make events of its lines, instead of a rule: names of shipped ones, or absolute paths.
    """

    id: Annotated[str, Name()]
    file: Annotated[tuple[str, ...] | None, Globs()] = None
    container: Annotated[tuple[str, ...] | None, Globs()] = None
    pipe: Annotated[Literal["stdin"] | None, Word(("stdin",))] = None
    command: Annotated[tuple[str, ...] | None, Command()] = None
    journal: Journal | None = None
    socket: Socket | None = None
    audit: Audit | None = None
    mapping: Annotated[tuple[str, ...] | None, MappingNames()] = None
    zone: Annotated[str, Zone()] = "UTC"
    redaction: Redaction | None = None

    def __post_init__(self) -> None:
        """Refuse a source that is none or several of the kinds."""
        kinds = [kind for kind in SOURCE_KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            known = listed(SOURCE_KINDS)
            what = f"none of {known}" if not kinds else " and ".join(kinds)
            raise ValueError(f"a source has exactly one of {known}, and this one has {what}")
        if self.audit is not None and self.mapping is not None:
            raise ValueError("choose one of: audit, mapping; a mapping says itself which lines are audit lines")

    @property
    def kind(self) -> SourceKind:
        """Which of the kinds it is."""
        return next(kind for kind in SOURCE_KINDS if getattr(self, kind) is not None)

    @property
    def is_stream(self) -> bool:
        """Whether it is read through the relay: it has an end of its own, and what is read cannot be read again."""
        return self.kind in {"pipe", "command"}

    @property
    def patterns(self) -> tuple[str, ...]:
        """The file patterns of a file or container source; none of another."""
        return self.file or self.container or ()


def _is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's alone; of names only ``localhost`` is known to be (RFC 6761 section 6.3)."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
