"""Read the configuration again while the agent runs, and decide whether what it says can take the running one's place.

Invariants:
    - A configuration that is not valid as a whole, or that changes what only a start can change, changes nothing at all.
    - A change of the files is acted upon once they have stayed the same for one look: a file that is being written is
      no configuration.
    - Files are compared by what their names lead to, through symbolic links: a Kubernetes ConfigMap is changed by moving a
      link (`..data`) beside the file, which touches neither its name nor its time.

It looks with stat(2) once a second, on a thread, instead of asking for notifications: that sees every kind of change on every
file system, and costs less than a watch that wakes up to hand its events over. It must not touch a running part.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import ConfigError, TrailsealError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .config import Settings
    from .config import Source as SourceSettings

_START_ONLY: Final = ("namespace", "service", "instance", "state", "ephemeral", "vitals")
_YOUNG_NS: Final = 10_000_000_000
_RESTART_HINT: Final = "Restart the agent to use it, or take the change back; what runs goes on as it was."


class RestartNeededError(ConfigError):
    """The configuration is valid, but changes what only a start can change."""

    default_hint = _RESTART_HINT


class Identity(NamedTuple):
    """Tell one content of a file from another."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class ChangeWatch:
    """Notice that one of the configuration's files has changed and is complete."""

    def __init__(self, files: Sequence[str]) -> None:
        """Take the files as they are now for what was read at the start, unless they are that young that it may not be so.

        Args:
            files: Their paths; they may be missing for a time.
        """
        self._files = tuple(files)
        self._seen = self._identities()
        horizon = time.time_ns() - _YOUNG_NS
        young = any(found is None or found.changed_ns > horizon for found in self._seen)
        self._known: tuple[Identity | None, ...] | None = None if young else self._seen

    def look(self) -> bool:
        """Look once (blocking); say whether the files have changed since the last yes and have stayed so for one look."""
        found = self._identities()
        settled = found == self._seen
        self._seen = found
        if not settled or found == self._known:
            return False
        self._known = found
        return True

    def accept(self, files: Sequence[str]) -> None:
        """Take the files as they are now for known; call it before they are read."""
        self._files = tuple(files)
        self._known = self._seen = self._identities()

    def _identities(self) -> tuple[Identity | None, ...]:
        return tuple(map(_identity, self._files))


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - one call and no object, once a second for ever
    except OSError:
        return None
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def files_of(settings: Settings) -> tuple[str, ...]:
    """Return the files whose content decides what a configuration says."""
    catalogs = () if settings.catalog_reading is None else settings.catalog_reading.files
    redactions = (settings.redaction, *(source.redaction for source in settings.sources))
    keys = {redaction.key_file: None for redaction in redactions if redaction is not None and redaction.key_file is not None}
    return (settings.file, *catalogs, *(reading.path for reading in settings.mapping_readings.values()), *keys)


def read_again(reread: Callable[[], Settings], running: Settings) -> Settings:
    """Read and check the configuration on disk (blocking).

    Args:
        reread: Loads it, as at the start.
        running: The one that runs.

    Raises:
        ConfigError: It is not valid; the message names file, line and key.
        RestartNeededError: It is valid, but this process cannot take it over.
    """
    try:
        wanted = reread()
        wanted.load_catalog()
        for source in wanted.sources:
            wanted.selection_for(source)
            wanted.redactor_for(source, os.environ)
    except TrailsealError:
        raise
    except Exception as error:
        raise ConfigError(f"cannot be read: {error}", file=running.file) from error
    if wanted.config_sha256 != running.config_sha256:
        _check_possible(running, wanted)
    return wanted


def source_key(settings: Settings, source: SourceSettings) -> tuple[object, ...]:
    """Return everything that decides what a source does: with an equal key it may run on."""
    return (
        source,
        None if source.mapping is not None else settings.rule_for(source),
        tuple(settings.mapping_sha256[name] for name in source.mapping or ()),
        settings.catalog,
        settings.catalog_sha256,
        source.redaction or settings.redaction,
        settings.pseudonym_keys.get(settings.redaction_key(source)),
        settings.limits,
        settings.spool.when_full,
        settings.observability.kind == "none",
    )


def _check_possible(running: Settings, wanted: Settings) -> None:
    """Refuse what a running process cannot change.

    Raises:
        RestartNeededError: It names the first such key.
    """
    for name in _START_ONLY:
        if getattr(running, name) != getattr(wanted, name):
            raise _restart_needed(wanted, name, "cannot change while the agent runs")
    before, after = _streams(running), _streams(wanted)
    if before != after:
        raise _restart_needed(wanted, "sources", "a pipe or a command can neither come, go nor change while the agent runs")
    if not after:
        return
    # The relay's parent was told these at its start, and it owns the pipes.
    if running.shutdown_grace_seconds != wanted.shutdown_grace_seconds:
        raise _restart_needed(wanted, "shutdown_grace", "cannot change while the agent runs a pipe or a command")
    if running.spool.when_full != wanted.spool.when_full:
        raise _restart_needed(wanted, "spool.when_full", "cannot change while the agent runs a pipe or a command")
    if (len(running.sources) > len(before)) != (len(wanted.sources) > len(after)):
        message = "beside a pipe or a command, the first other source cannot come and the last one cannot go while the agent runs"
        raise _restart_needed(wanted, "sources", message)


def _restart_needed(wanted: Settings, key: str, message: str) -> RestartNeededError:
    place = wanted.error(key, message)
    return RestartNeededError(f"{message}; a restart is needed", file=place.file, line=place.line, key=key)


def _streams(settings: Settings) -> list[tuple[str, object, object]]:
    return [(source.id, source.pipe, source.command) for source in settings.sources if source.is_stream]
