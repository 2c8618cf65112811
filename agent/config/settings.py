"""Define every setting: its key, type, bounds and default, and what follows from the settings together.

A field's name in the file is the key people write (`max_age`); its name in the code carries the unit (`max_age_seconds`).
Invariants: a `Settings` is complete and consistent; all its paths are absolute; nothing about it changes.
This module must not read files other than the catalog, and must not look at the environment.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import msgspec

from ..errors import ConfigError
from ..events.catalog import Catalog
from ..events.classify import DEFAULT_FIELD, DEFAULT_VALUE, AllRule, FieldRule, PrefixRule, Rule
from .bucket import Store
from .document import Node, read_document
from .values import (
    Address,
    Command,
    Duration,
    FilePath,
    Flag,
    FoldedName,
    Globs,
    Listen,
    Mode,
    Name,
    Sections,
    Size,
    Text,
    Texts,
    Word,
    listed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

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
    """

    id: Annotated[str, Name()]
    file: Annotated[tuple[str, ...] | None, Globs()] = None
    container: Annotated[tuple[str, ...] | None, Globs()] = None
    pipe: Annotated[Literal["stdin"] | None, Word(("stdin",))] = None
    command: Annotated[tuple[str, ...] | None, Command()] = None
    journal: Journal | None = None
    socket: Socket | None = None
    audit: Audit | None = None

    def __post_init__(self) -> None:
        """Refuse a source that is none or several of the kinds."""
        kinds = [kind for kind in SOURCE_KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            known = listed(SOURCE_KINDS)
            what = f"none of {known}" if not kinds else " and ".join(kinds)
            raise ValueError(f"a source has exactly one of {known}, and this one has {what}")

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


class Observability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say where the lines go that are not audit lines.

    Attributes:
        kind: ``stdout`` (a command's stderr goes to stderr), ``none`` or ``file``.
        path: The absolute path of the file, for ``file`` only.
    """

    kind: Literal["stdout", "none", "file"] = "stdout"
    path: str | None = None


class ObservabilityReader:
    """Read ``stdout``, ``none`` or ``{file: PATH}``."""

    def read(self, node: Node) -> Observability:
        """Return the way out."""
        if node.kind != "mapping":
            return Observability("none" if Word(("stdout", "none")).read(node) == "none" else "stdout")
        children = dict(node.pairs())
        if set(children) != {"file"}:
            raise node.error("must be stdout, none or {file: PATH}")
        return Observability("file", FilePath().read(children["file"]))


class Seal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say when a batch is sealed.

    Attributes:
        max_age_seconds: A record waits at most this long.
        max_bytes: Raw bytes after which a batch is sealed at once.
        heartbeat_seconds: Without records, an empty batch is sealed this often.
    """

    max_age_seconds: Annotated[float, Duration(0.1, 600)] = msgspec.field(default=5.0, name="max_age")
    max_bytes: Annotated[int, Size(64 * KIB, 4 * MIB)] = 4 * MIB
    heartbeat_seconds: Annotated[float, Duration(1, 3600)] = msgspec.field(default=60.0, name="heartbeat")


class Spool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bound the durable buffer.

    Attributes:
        max_bytes: Its size on disk.
        when_full: ``block`` (stop reading) or ``gap`` (go on, and record what was lost).
    """

    max_bytes: Annotated[int, Size(16 * MIB, 1024 * GIB)] = 1 * GIB
    when_full: Annotated[Literal["block", "gap"], Word(("block", "gap"))] = "block"


class Vitals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where health and metrics are served; the socket in the state directory is always there.

    Attributes:
        listen: The address, or None.
    """

    listen: Annotated[Address | None, Listen()] = Address("127.0.0.1", 9600)


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bound what is read.

    Attributes:
        line_bytes: A longer line is not taken as an event; an audit line is quarantined with its length and SHA-256.
    """

    line_bytes: Annotated[int, Size(1 * KIB, 1 * MIB - 4 * KIB)] = 256 * KIB


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Set the agent's own log.

    Attributes:
        level: The least severe level that is written.
    """

    level: Annotated[Literal["debug", "info", "warning", "error"], Word(("debug", "info", "warning", "error"))] = "info"


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what a configuration file says, one attribute a key.

    Attributes:
        namespace: First part of the origin, folded.
        service: Second part of the origin, folded.
        instance: Last part of the origin, folded; `load` puts the host's name where the file has none.
        state: The absolute path of the state directory.
        sources: Where lines come from.
        audit: Which lines are audit lines, where a source does not say.
        catalog: The absolute path of the event catalog, or None.
        observability: Where the other lines go.
        seal: When batches are sealed.
        spool: The bounds of the durable buffer.
        stores: Where batches go; at least one is required.
        vitals: Where health and metrics are served.
        limits: Bounds on what is read.
        enrolment_key: The absolute path of the service's enrolment key, or None.
        ephemeral: Whether the state does not outlive the process, so that an orderly end closes the trail.
        shutdown_grace_seconds: How long an orderly end may take.
        log: The agent's own log.
        reload: Whether a changed configuration takes effect by itself or only on SIGHUP.
    """

    namespace: Annotated[str, FoldedName()]
    service: Annotated[str, FoldedName()]
    instance: Annotated[str, FoldedName()] = ""
    state: Annotated[str, FilePath()]
    sources: Annotated[tuple[Source, ...], Sections(Source)] = ()
    audit: Audit = Audit()
    catalog: Annotated[str | None, FilePath(must_exist=True)] = None
    observability: Annotated[Observability, ObservabilityReader()] = Observability()
    seal: Seal = Seal()
    spool: Spool = Spool()
    stores: Annotated[tuple[Store, ...], Sections(Store)]
    vitals: Vitals = Vitals()
    limits: Limits = Limits()
    enrolment_key: Annotated[str | None, FilePath(must_exist=True)] = None
    ephemeral: Annotated[bool, Flag()] = False
    shutdown_grace_seconds: Annotated[float, Duration(1, 3600)] = msgspec.field(default=25.0, name="shutdown_grace")
    log: Log = Log()
    reload: Annotated[Literal["on_change", "on_signal"], Word(("on_change", "on_signal"))] = "on_change"


class Settings(Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold a checked configuration and where it came from.

    Attributes:
        file: The configuration file's path as the user wrote it.
        lines: The line of every key that stands in the file, by dotted path.
        catalog_sha256: Hex SHA-256 of the catalog's bytes when they were read, or None.
    """

    file: str
    lines: dict[str, int]
    catalog_sha256: str | None = None

    @property
    def config_sha256(self) -> str:
        """Hex SHA-256 of the effective settings: keys sorted, compact JSON, with the catalog's hash, without file and lines."""
        effective = msgspec.to_builtins(self)
        del effective["file"], effective["lines"]
        return sha256(json.dumps(effective, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()

    def source(self, source_id: str) -> Source:
        """Return the source with this id (KeyError if there is none)."""
        return {source.id: source for source in self.sources}[source_id]

    def rule_for(self, source: Source | str) -> Rule:
        """Return the rule that tells the source's audit lines: its own, or the common one; of a socket without its own, all."""
        chosen = self.source(source) if isinstance(source, str) else source
        common = Audit(all=True) if chosen.kind == "socket" else self.audit
        return (chosen.audit or common).rule()

    def error(self, key: str, message: str, hint: str | None = None) -> ConfigError:
        """Return (not raise) the error for a key, with the file and the line of the key or of the nearest key above it."""
        return ConfigError(message, file=self.file, line=_nearest_line(self.lines, key), key=key, hint=hint)

    def load_catalog(self) -> Catalog:
        """Read the event catalog; an empty one, under which every action is uncatalogued, if none is configured.

        Raises:
            ConfigError: The file cannot be read, or an entry is wrong; it names the catalog's file, line and key.
        """
        if self.catalog is None:
            return Catalog()
        lines: dict[str, int] = {}
        data = read_document(self.catalog, environ=None).plain(lines)
        try:
            return Catalog.from_mapping(data, self.catalog)
        except ConfigError as error:
            message = error.message.removeprefix(f"{self.catalog}: ").removeprefix(f"{error.key}: ")
            line = _nearest_line(lines, error.key or "")
            raise ConfigError(message, file=self.catalog, line=line, key=error.key, hint=error.hint) from error


def _is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's alone; of names only ``localhost`` is known to be (RFC 6761 section 6.3)."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _nearest_line(lines: Mapping[str, int], key: str) -> int:
    """Return the line of a key, or of the nearest key above it that stands in the file."""
    while key and key not in lines:
        key = max(key.rpartition(".")[0], key.rpartition("[")[0], key=len)
    return lines.get(key, 1)
