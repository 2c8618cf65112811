"""Define every setting: its key, type, bounds and default, and what follows from the settings together.

A field's name in the file is the key people write (`max_age`); its name in the code carries the unit (`max_age_seconds`).
Invariants: a `Settings` is complete and consistent; all its paths are absolute; nothing about it changes.
This module must not read files, and must not look at the environment.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from ..errors import ConfigError
from ..events.catalog import Catalog
from .bucket import Store
from .catalogs import CatalogPaths, CatalogReading
from .document import Node, nearest_line
from .redaction import Redaction, load_redactor
from .sections import Sections
from .sources import Audit, Source
from .values import (
    Address,
    Duration,
    FilePath,
    Flag,
    FoldedName,
    Listen,
    PlaceName,
    Size,
    Word,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..events.classify import Rule
    from ..events.mappings.selection import Selection
    from ..events.redaction import Redactor
    from .mappings import MappingReading  # noqa: TC004 -- msgspec does not resolve the types of a struct that it never decodes

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30


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


class Where(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where in a cluster the agent runs, as the downward API tells it; empty is not known.

    Attributes:
        namespace: The Kubernetes namespace.
        pod: The pod's name.
        container: The name of the container that is watched.
        node: The node's name.
    """

    namespace: Annotated[str, PlaceName()] = ""
    pod: Annotated[str, PlaceName()] = ""
    container: Annotated[str, PlaceName()] = ""
    node: Annotated[str, PlaceName()] = ""


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
        where: Where in a cluster the agent runs.
        state: The absolute path of the state directory.
        sources: Where lines come from.
        audit: Which lines are audit lines, where a source does not say.
        redaction: What is redacted before anything is stored, where a source does not say.
        catalog: The event catalogs, as absolute paths or ``shipped:NAME``; a later one wins over an earlier one.
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
    where: Where = Where()
    state: Annotated[str, FilePath()]
    sources: Annotated[tuple[Source, ...], Sections(Source)] = ()
    audit: Audit = Audit()
    redaction: Redaction | None = None
    catalog: Annotated[tuple[str, ...], CatalogPaths()] = ()
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
        catalog_sha256: What tells one content of all catalog files from another (`CatalogReading.sha256`), or None.
        catalog_reading: What was found in them when the configuration was read, or None.
        mapping_sha256: Hex SHA-256 of the files of the mappings that sources name, by those names.
        pseudonym_keys: The ids of the keys that pseudonyms are made with, by the dotted keys of what names them.
        mapping_readings: What was found in the files of the mappings that sources name, by those names.
    """

    file: str
    lines: dict[str, int]
    catalog_sha256: str | None = None
    catalog_reading: CatalogReading | None = None
    mapping_sha256: dict[str, str] = {}
    mapping_readings: dict[str, MappingReading] = {}
    pseudonym_keys: dict[str, str] = {}

    @property
    def config_sha256(self) -> str:
        """Hex SHA-256 of the effective settings: keys sorted, compact JSON, with catalogs' and mappings' hashes, without file and lines."""
        effective = msgspec.to_builtins(msgspec.structs.replace(self, catalog_reading=None, mapping_readings={}))
        del effective["file"], effective["lines"], effective["catalog_reading"], effective["mapping_readings"]
        return sha256(json.dumps(effective, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()

    def source(self, source_id: str) -> Source:
        """Return the source with this id (KeyError if there is none)."""
        return {source.id: source for source in self.sources}[source_id]

    def selection_for(self, source: Source) -> Selection | None:
        """Return the mappings that make events of a source's lines; None if it has none.

        Raises:
            ConfigError: A mapping is wrong, or two of them do not go together; with file, line and key.
        """
        if source.mapping is None:
            return None
        from ..events.mappings.selection import Selection

        chosen = tuple(self.mapping_readings[name].in_zone(source.zone) for name in source.mapping)
        try:
            return Selection(chosen)
        except ConfigError as error:
            index = self.sources.index(source)
            raise self.error(f"sources[{index}].mapping", error.message, error.hint) from error

    def redactor_for(self, source: Source, environ: Mapping[str, str]) -> Redactor | None:
        """Make the redactor of a source; None if nothing of it is redacted.

        Args:
            source: The source.
            environ: The environment variables, of which one may hold a key.

        Raises:
            ConfigError: The key cannot be read, others may read it too, or it is none.
        """
        redaction = source.redaction or self.redaction
        return None if redaction is None else load_redactor(redaction, self.error, self.redaction_key(source), environ)

    def redaction_key(self, source: Source) -> str:
        """Return the dotted key of what says how a source is redacted."""
        return "redaction" if source.redaction is None else f"sources[{self.sources.index(source)}].redaction"

    def rule_for(self, source: Source | str) -> Rule:
        """Return the rule that tells the source's audit lines: its own, or the common one; of a socket without its own, all."""
        chosen = self.source(source) if isinstance(source, str) else source
        common = Audit(all=True) if chosen.kind == "socket" else self.audit
        return self.selection_for(chosen) or (chosen.audit or common).rule()

    def error(self, key: str, message: str, hint: str | None = None) -> ConfigError:
        """Return (not raise) the error for a key, with the file and the line of the key or of the nearest key above it."""
        return ConfigError(message, file=self.file, line=nearest_line(self.lines, key), key=key, hint=hint)

    def load_catalog(self) -> Catalog:
        """Return the event catalog as it was read; an empty one, under which every action is uncatalogued, if none is configured.

        Raises:
            ConfigError: A catalog's file cannot be read, or an entry is wrong; it names that file, the line and the key.
        """
        return Catalog() if self.catalog_reading is None else self.catalog_reading.catalog()
