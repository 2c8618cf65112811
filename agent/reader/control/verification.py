"""What `trailseal verify --json` said of a store: the only source of what a report says about retention locks.

Invariants: a document of another format, or of another store, is refused; a field that is not as it should be is an error, never a
better answer. This module must not verify anything itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Final

from ...errors import ConfigError
from ..retention import LEVELS

FORMAT: Final = 1
MAX_BYTES: Final = 256 << 20
_HINT: Final = "Make it with `trailseal verify STORE --trust FILE --json > FILE`."


@dataclass(frozen=True, slots=True)
class Verification:
    """One verification.

    Attributes:
        store: The store's name as `verify` had it.
        checked_at: When, aware, UTC.
        verdict: Its word: ``intact`` and others.
        exit_code: How it ended.
        assurance: ``unanchored``, ``locked`` or ``witnessed``.
        reason: Why it is not locked; None if it is.
        versions: Versions of objects in the bucket.
        looked_at: Versions of which the retention was looked at.
        shortest_seconds: The shortest retention that was found; None if none was.
    """

    store: str
    checked_at: datetime
    verdict: str
    exit_code: int
    assurance: str
    reason: str | None
    versions: int
    looked_at: int
    shortest_seconds: float | None


def load_verification(path: Path, store: str) -> Verification:
    """Read what `trailseal verify --json` printed.

    Args:
        path: The file.
        store: The name of the store that the report is of.

    Raises:
        ConfigError: It cannot be read, is something else, or is of another store.
    """
    file = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"more than {MAX_BYTES} bytes", file=file, hint=_HINT)
        found = _read(json.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", file=file, hint="Check the path.") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError("not what `trailseal verify --json` prints", file=file, hint=_HINT) from error
    if _resolved(found.store) != _resolved(store):
        raise ConfigError(f"a verification of {found.store}, not of {store}", file=file, hint=_HINT)
    return found


def _read(document: dict[str, Any]) -> Verification:
    attestation = document["attestation"]
    shortest = attestation["shortest_retention_seconds"]
    found = Verification(
        store=_typed(document["store"], str),
        checked_at=datetime.fromisoformat(_typed(document["checked_at"], str)).astimezone(UTC),
        verdict=_typed(document["verdict"], str),
        exit_code=_typed(document["exit_code"], int),
        assurance=_typed(document["assurance"], str),
        reason=None if attestation["reason"] is None else _typed(attestation["reason"], str),
        versions=_typed(attestation["versions"], int),
        looked_at=_typed(attestation["looked_at"], int),
        shortest_seconds=None if shortest is None else float(_typed(shortest, (int, float))),
    )
    known = document["format"] == FORMAT and found.assurance in LEVELS
    if not known or not isfinite(found.shortest_seconds or 0.0):
        raise ValueError(found.assurance)
    return found


def _typed(value: Any, kind: type | tuple[type, ...]) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(value)
    return value


def _resolved(store: str) -> str:
    return store if "://" in store else str(Path(store).resolve())
