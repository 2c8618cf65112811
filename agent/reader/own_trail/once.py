"""Record one event of a command that ends: run an agent over a pipe, and look into the store for the sealed event.

Invariants: success means that the event's exact bytes were found in a data object whose hash is in a manifest, and that this manifest is
the newest leaf of a tree signed by the key the trail began with. This module must not take the child's word for it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ...errors import FormatError, IntegrityError, NotVerifiedError, ProofError, TransientError
from ...trail.batch import read_data
from ...trail.layout import Origin, parse_data_key, seal_key
from ...trail.note import VerifierKey
from ...trail.seal import open_seal, parse_seal
from ..chain import MAX_DATA_BYTES
from ..opening import open_store
from ..trustfile import MAX_SEAL_BYTES
from .events import Recorded, event_line
from .settings import agent_command, agent_environment, for_owner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..fetch import StoreReader
    from .settings import OwnTrail

LOCK_SECONDS: Final = 60.0
_BEYOND_GRACE_SECONDS: Final = 35.0
_STOP_SECONDS: Final = 10.0
_NEWEST_BATCHES: Final = 256
"""How far back the event is looked for: batches of an earlier run that waited for the store go out first."""


def record_once(event: Mapping[str, Any], settings: OwnTrail) -> Recorded:
    """Record an event, and return when the store shows it sealed.

    Args:
        event: Made by `own_event`.
        settings: Where, and under which name.

    Raises:
        PermanentError: The event is not valid.
        ConfigError: The folder cannot be written, or the agent refuses the settings.
        StateInUseError: Another process has used the folder for a minute.
        TransientError: The store does not show the event; it may wait on this machine's disk for the next run.
        IntegrityError: What the store shows is not what was sealed.
    """
    line = event_line(event)
    with settings.alone(LOCK_SECONDS):
        settings.prepare({"pipe": "stdin"})
        code, said = _run_agent(line, settings)
    lines = said.splitlines()
    for origin in _origins(lines):
        found = _find(origin, line, str(event["event_id"]), settings)
        if found is not None:
            return found
    raise TransientError(
        f"the event {event['event_id']} is not in {settings.store}: the agent ended with {code}{_last_words(lines)}",
        hint=f"If the store was away, the event waits in {settings.home} and goes out with the next one; else it was not recorded. "
        f"{settings.log_file} says more.",
    )


def _run_agent(line: bytes, settings: OwnTrail) -> tuple[int, str]:
    """Run an agent over one line; return its exit code and what it said."""
    seconds = settings.grace_seconds + _BEYOND_GRACE_SECONDS
    try:
        child = subprocess.Popen(
            agent_command("pipe", settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=agent_environment(),
            umask=settings.umask,
        )
    except OSError as error:
        raise TransientError(f"cannot start an agent: {error.strerror}", hint="Look at the system's limits.") from error
    with child:
        try:
            _, said = child.communicate(line + b"\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            # The parent of a pipe hands a signal on to nobody but its worker, which then ends in order.
            child.terminate()
            try:
                _, said = child.communicate(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                _, said = child.communicate()
        except BaseException:
            child.kill()
            raise
    text = said.decode("utf-8", "replace")
    with contextlib.suppress(OSError), open(settings.log_file, "w", encoding="utf-8", opener=for_owner) as log:
        log.write(text)
    return child.returncode, text


def _origins(lines: list[str]) -> list[Origin]:
    """Return the trails that an agent said it writes, the newest first."""
    found: dict[str, Origin] = {}
    for line in lines:
        with contextlib.suppress(ValueError, FormatError):
            said = json.loads(line)
            name = said.get("origin") if isinstance(said, dict) else None
            if isinstance(name, str):
                found[name] = Origin.parse(name)
    return list(found.values())[::-1]


def _last_words(lines: list[str]) -> str:
    """Return the agent's last complaint, for a message."""
    for line in reversed(lines):
        if line.startswith("trailseal: "):
            return f" ({line.removeprefix('trailseal: ')})"
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("level") in {"warning", "error"}:
                reason = said.get("error") or said.get("reason")
                return f" ({said.get('event')}{f': {reason}' if reason else ''})"
    return ""


def _find(origin: Origin, line: bytes, event_id: str, settings: OwnTrail) -> Recorded | None:
    """Look for an event's exact bytes in the newest batches of a trail."""
    try:
        store = open_store(settings.store, settings.reach)
    except NotVerifiedError:
        return None
    try:
        return _find_in(store, origin, line, event_id)
    finally:
        close = getattr(store, "close", None)
        if close is not None:
            close()


def _find_in(store: StoreReader, origin: Origin, line: bytes, event_id: str) -> Recorded | None:
    batches = list(store.seals(origin))
    if not batches:
        return None
    key = _key(store, origin)
    wanted = b'"event":' + line
    for batch in reversed(batches[-_NEWEST_BATCHES:]):
        raw = store.read(seal_key(origin, batch), MAX_SEAL_BYTES)
        if raw is None:
            continue
        seal = parse_seal(raw)
        manifest = seal.manifest
        if manifest.data is None:
            continue
        parse_data_key(manifest.data.key)
        data = store.read(manifest.data.key, MAX_DATA_BYTES)
        if data is None or sha256(data).hexdigest() != manifest.data.sha256:
            raise IntegrityError(f"{manifest.data.key} is not what batch {batch} of {origin} seals")
        for at, record in enumerate(read_data(data, manifest.data.raw_bytes)):
            if wanted in record:
                _, signed_by = open_seal(seal, str(origin), (key,))
                if key not in signed_by:
                    raise ProofError(f"batch {batch} of {origin} is not signed with the trail's key")
                return Recorded(event_id, str(origin), manifest.records.first_seq + at, batch)
    return None


def _key(store: StoreReader, origin: Origin) -> VerifierKey:
    """Return the key that a trail began with."""
    raw = store.read(seal_key(origin, 0), MAX_SEAL_BYTES)
    if raw is None:
        raise NotVerifiedError(f"the first seal of {origin} is missing")
    key = parse_seal(raw).manifest.key
    if not isinstance(key, str):
        raise FormatError(f"the first seal of {origin} names no key")
    return VerifierKey.parse(key)
