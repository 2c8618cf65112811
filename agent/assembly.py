"""The agent's parts, made from its settings; the runtime runs them.

Each function turns settings into one part and nothing else: no state is opened here but the files that are named, and
nothing is started.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from . import __version__
from .errors import ConfigError, FormatError
from .events.validate import Validator
from .passthrough import PassThrough
from .sealer import Identity
from .separator import Separator
from .trail.manifest import Where
from .trail.note import SigningKey
from .trail.ulid import new_ulid
from .vitals.clock import boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .config import Settings, SourceKind
    from .config import Source as SourceSettings
    from .events.mappings.joining import Joining
    from .intake import Append, Cursor, Intake
    from .mapped import RedactingSeparator
    from .observer import Observer
    from .shipper import ForkFoundError
    from .sources.base import Sink, Source
    from .stores import Store
    from .vitals.clock import Clock


class MakeSeparator(Protocol):
    """Make a separator for one source; each serves one thread."""

    def __call__(self, *, has_offsets: bool = True) -> Separator | RedactingSeparator:
        """Return it; `has_offsets` as `Separator` has it."""
        ...


def identity(settings: Settings) -> Identity:
    """Return who seals: the names of the configuration, and this host and boot."""
    return Identity(
        namespace=settings.namespace,
        service=settings.service,
        instance=settings.instance,
        version=__version__,
        host=socket.gethostname(),
        boot_id=boot_id(),
        config_sha256=settings.config_sha256,
        where=_where(settings),
        pseudonym_key=",".join(sorted(set(settings.pseudonym_keys.values()))) or UNSET,
    )


def _where(settings: Settings) -> Where | UnsetType:
    """Return where in a cluster the agent runs, as far as the configuration says."""
    said = {name: value for name, value in msgspec.structs.asdict(settings.where).items() if value}
    return Where(**said) if said else UNSET


def enrolment_key(settings: Settings) -> SigningKey | None:
    """Read the service's enrolment key, where one is configured.

    Raises:
        ConfigError: The file cannot be used.
    """
    path = settings.enrolment_key
    if path is None:
        return None
    try:
        return SigningKey.parse(Path(path).read_text(encoding="ascii").strip())
    except (OSError, ValueError, FormatError) as error:
        why = error.message if isinstance(error, FormatError) else str(error)
        raise settings.error("enrolment_key", f"cannot be used: {why}", "Make one with `trailseal keygen`.") from error


def stores(settings: Settings, clock: Clock) -> list[tuple[Store, bool]]:
    """Make every store, and say of each whether it is required; nothing is connected to.

    Args:
        settings: The configuration.
        clock: Tells the time.

    Raises:
        ConfigError: What the environment says of a store's cloud cannot be used.
    """
    from .stores import BucketStore, DirectoryStore

    who = (settings.namespace, settings.service, settings.instance)
    return [
        (BucketStore(each, who, clock) if each.directory is None else DirectoryStore(each.id, each.directory), each.required)
        for each in settings.stores
    ]


def pass_through(settings: Settings, observer: Observer) -> PassThrough:
    """Open the observability lines' way out; call it while an event loop runs."""
    way = settings.observability
    if way.kind == "none":
        return PassThrough.to_nothing()
    if way.kind == "file" and way.path is not None:
        return PassThrough.to_file(Path(way.path), on_shed=observer.shed)
    return PassThrough.to_streams(on_shed=observer.shed)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What every source is given.

    Attributes:
        settings: The configuration.
        intake: Takes appends.
        passing: Takes the lines that are not audit.
        clock: Tells the time.
        observer: Is told of problems.
    """

    settings: Settings
    intake: Intake
    passing: Sink
    clock: Clock
    observer: Observer


def sources(settings: Settings, intake: Intake, passing: Sink, clock: Clock, observer: Observer) -> list[tuple[SourceSettings, Source]]:
    """Make every source; a command has two, one for each of its streams.

    Each kind is imported only where it is configured, because most agents have one and memory is counted.

    Raises:
        ConfigError: The catalog cannot be read, or a stream has no parent to hand it over.
    """
    around = _Surroundings(settings, intake, passing, clock, observer)
    makers: dict[SourceKind, Callable[[SourceSettings, _Surroundings, MakeSeparator], list[Source]]] = {
        "file": _files,
        "container": _containers,
        "pipe": _streams,
        "command": _streams,
        "journal": _journal,
        "socket": _socket,
    }
    made: list[tuple[SourceSettings, Source]] = []
    for source in settings.sources:
        made += [(source, each) for each in makers[source.kind](source, around, partial(_separator, settings, source))]
    return made


def _separator(settings: Settings, source: SourceSettings, *, has_offsets: bool = True) -> Separator | RedactingSeparator:
    """Make the separator of one source, for one thread."""
    # What a stream gives up is stated without the bytes of its other lines, so these are always told apart.
    keep = settings.observability.kind != "none" or not has_offsets
    selection, redactor = settings.selection_for(source), settings.redactor_for(source, os.environ)
    rule = selection or settings.rule_for(source)
    validator = Validator(rule, settings.load_catalog())
    if selection is None and redactor is None:
        return Separator(source.id, rule, validator, keep_observability=keep, has_offsets=has_offsets)
    from .mapped import AsItIs, MappedSeparator, RedactingSeparator

    make = RedactingSeparator if selection is None else MappedSeparator
    interpreter = selection or AsItIs(rule, validator)
    return make(source.id, interpreter, validator, keep_observability=keep, has_offsets=has_offsets, redactor=redactor)


def _joining(settings: Settings, source: SourceSettings) -> Joining | None:
    selection = settings.selection_for(source)
    return None if selection is None else selection.joining


def _files(source: SourceSettings, around: _Surroundings, make_separator: MakeSeparator) -> list[Source]:
    from .sources.file import FileSource, TailSettings

    settings = around.settings
    made = FileSource(
        source.id,
        source.patterns,
        make_separator,
        around.intake,
        around.passing,
        around.clock,
        TailSettings(line_limit=settings.limits.line_bytes),
        rule=settings.rule_for(source),
        joining=_joining(settings, source),
        problem=partial(around.observer.problem, source.id),
    )
    return [made]


def _containers(source: SourceSettings, around: _Surroundings, make_separator: MakeSeparator) -> list[Source]:
    from .sources.container import container_source
    from .sources.file import TailSettings

    settings = around.settings
    made = container_source(
        source.id,
        source.patterns,
        make_separator,
        around.intake,
        around.passing,
        around.clock,
        TailSettings(line_limit=settings.limits.line_bytes),
        rule=settings.rule_for(source),
        joining=_joining(settings, source),
        problem=partial(around.observer.problem, source.id),
    )
    return [made]


def _streams(source: SourceSettings, around: _Surroundings, make_separator: MakeSeparator) -> list[Source]:
    from .sources.stream import RESUME_BYTES, StreamSettings, StreamSource, inherited_streams

    settings = around.settings
    streams = [stream for stream in inherited_streams(os.environ) if stream.source == source.id]
    if not streams:
        message = f"the source {source.id} is a {source.kind}, and this process was not started by the relay"
        raise ConfigError(message, hint="Start it with `trailseal run`, `exec` or `pipe`.")
    options = StreamSettings(
        when_full=settings.spool.when_full,
        line_limit=settings.limits.line_bytes,
        resume_bytes=min(RESUME_BYTES, settings.spool.max_bytes // 8),
    )
    is_audit, joining = settings.rule_for(source).is_audit, _joining(settings, source)
    return [
        StreamSource(
            stream, make_separator(has_offsets=False), is_audit, around.intake, around.passing, around.clock, options, joining=joining
        )
        for stream in streams
    ]


def left_behind(cursors: Sequence[Cursor], clock: Clock) -> list[Append]:
    """Return the appends that state what may be lost of streams that nobody reads on: their source is gone, or is of another kind now.

    Args:
        cursors: Those of all sources.
        clock: Tells when the losses were found.
    """
    from .relay.link import inherited_streams
    from .sources import stream_appends

    return stream_appends.left_behind(cursors, inherited_streams(os.environ), clock)


def _journal(source: SourceSettings, around: _Surroundings, make_separator: MakeSeparator) -> list[Source]:
    from .sources.journal import JournalSettings, JournalSource

    if source.journal is None:
        return []
    made = JournalSource(
        source.id,
        source.journal,
        make_separator(has_offsets=False),
        around.settings.rule_for(source).is_audit,
        around.intake,
        around.passing,
        around.clock,
        file_id=_new_name(around.clock),
        settings=JournalSettings(line_limit=around.settings.limits.line_bytes),
        problem=partial(around.observer.problem, source.id),
    )
    return [made]


def _socket(source: SourceSettings, around: _Surroundings, make_separator: MakeSeparator) -> list[Source]:
    from .sources.socket import SocketSettings, SocketSource

    if source.socket is None:
        return []
    made = SocketSource(
        source.id,
        source.socket,
        partial(make_separator, has_offsets=False),
        around.settings.rule_for(source).is_audit,
        around.intake,
        around.passing,
        around.clock,
        file_id=_new_name(around.clock),
        listeners=around.intake.listeners,
        joining=_joining(around.settings, source),
        settings=SocketSettings(line_limit=around.settings.limits.line_bytes),
        problem=partial(around.observer.problem, source.id),
    )
    return [made]


def _new_name(clock: Clock) -> str:
    """Return the name of a byte sequence that no state knows yet."""
    return new_ulid(int(clock.now().timestamp() * 1000), os.urandom(10))


def keep_evidence(folder: Path, name: str, fork: ForkFoundError) -> None:
    """Write both versions of the object, durably; a fork that cannot be documented is still a fork."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        for side, data in (("ours", fork.ours), ("theirs", fork.theirs)):
            fd = os.open(folder / f"{name}.{side}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
