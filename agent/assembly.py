"""The agent's parts, made from its settings; the runtime runs them.

Each function turns settings into one part and nothing else: no state is opened here but the files that are named, and
nothing is started.
"""

from __future__ import annotations

import contextlib
import os
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import ConfigError, FormatError
from .events.validate import Validator
from .passthrough import PassThrough
from .sealer import Identity
from .separator import Separator
from .sources.file import FileSource, TailSettings
from .sources.stream import StreamSettings, StreamSource, inherited_streams
from .trail.note import SigningKey
from .vitals.clock import boot_id

if TYPE_CHECKING:
    from .config import Settings
    from .config import Source as SourceSettings
    from .events.classify import Rule
    from .intake import Intake
    from .observer import Observer
    from .shipper import ForkFoundError
    from .sources.base import Sink, Source
    from .sources.stream import InheritedStream
    from .vitals.clock import Clock


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
    )


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


def pass_through(settings: Settings, observer: Observer) -> PassThrough:
    """Open the observability lines' way out; call it while an event loop runs."""
    way = settings.observability
    if way.kind == "none":
        return PassThrough.to_nothing()
    if way.kind == "file" and way.path is not None:
        return PassThrough.to_file(Path(way.path), on_shed=observer.shed)
    return PassThrough.to_streams(on_shed=observer.shed)


def sources(settings: Settings, intake: Intake, passing: Sink, clock: Clock, observer: Observer) -> list[tuple[SourceSettings, Source]]:
    """Make every source; a command has two, one for each of its streams.

    Raises:
        ConfigError: The catalog cannot be read, or a stream has no parent to hand it over.
    """
    catalog = settings.load_catalog()
    keep = settings.observability.kind != "none"
    streams: dict[str, list[InheritedStream]] = {}
    for stream in inherited_streams(os.environ):
        streams.setdefault(stream.source, []).append(stream)
    made: list[tuple[SourceSettings, Source]] = []
    for source in settings.sources:
        rule = settings.rule_for(source)

        def make_separator(source_id: str = source.id, rule: Rule = rule, *, has_offsets: bool = True) -> Separator:
            return Separator(source_id, rule, Validator(rule, catalog), keep_observability=keep, has_offsets=has_offsets)

        if source.file is not None:
            file_source = FileSource(
                source.id,
                source.file,
                make_separator,
                intake,
                passing,
                clock,
                TailSettings(line_limit=settings.limits.line_bytes),
                rule=rule,
                problem=partial(observer.problem, source.id),
            )
            made.append((source, file_source))
            continue
        if source.id not in streams:
            message = f"the source {source.id} is a {source.kind}, and this process was not started by the relay"
            raise ConfigError(message, hint="Start it with `trailseal run`, `exec` or `pipe`.")
        options = StreamSettings(when_full=settings.spool.when_full, line_limit=settings.limits.line_bytes)
        for stream in streams[source.id]:
            separator = make_separator(has_offsets=False)
            reader = StreamSource(stream, separator, rule.is_audit, intake, passing, clock, options)
            made.append((source, reader))
    return made


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
