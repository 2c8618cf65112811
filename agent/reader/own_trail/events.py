"""The events of the reader's own actions: how one is made, and how it is judged before an agent sees it.

Invariants: an event that this module lets pass is accepted by an agent with the same catalog, so none of ours ends in quarantine; the
line is ASCII without a newline; no text that a stranger sends (an address, a search) can make an event that cannot be recorded. This
module must not start or open anything but the catalog that comes with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import uuid4

from ...errors import PermanentError
from ...events.classify import AllRule
from ...events.schema import MAX_EVENT_ID_CHARS, MAX_NAME_CHARS
from ...events.validate import Validator
from ...events.verdict import Rejection

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ...events.catalog import Catalog

OWN_CATALOG: Final = "shipped:trailseal"
MAX_LINE_BYTES: Final = 200 * 1024
"""Below an agent's default bound of a line (256 KiB): a longer one would be quarantined."""
MAX_TEXT_CHARACTERS: Final = 8192
"""A longer text in a context is cut, and ends in an ellipsis."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Say that an event is recorded, and where.

    Attributes:
        event_id: The event's id.
        origin: The trail; None where only durability was waited for.
        seq: Its place in the trail; None likewise.
        batch: The batch that sealed it; None likewise.
    """

    event_id: str
    origin: str | None = None
    seq: int | None = None
    batch: int | None = None


@cache
def own_catalog() -> Catalog:
    """Return the catalog of Trailseal's own actions."""
    from ...config import read_catalogs  # noqa: PLC0415 -- the settings of a trail do not need it

    return read_catalogs([OWN_CATALOG]).catalog()


def own_event(
    action: str,
    *,
    actor: Mapping[str, str],
    target: Mapping[str, str],
    now: datetime,
    outcome: Literal["success", "failure", "denied", "unknown"] = "success",
    context: Mapping[str, Any] | None = None,
    event_id: str | None = None,
) -> dict[str, Any]:
    """Make an event of one of our own actions.

    Texts are made fit for the schema: NULs and lone surrogates become backslash escapes, an empty name becomes ``-``, what is too long
    is cut and ends in an ellipsis.

    Args:
        action: One of the catalog's, such as ``view.access``.
        actor: ``type``, ``id``, and ``session`` where there is one.
        target: ``type`` and ``id``.
        now: When it happened, with a zone.
        outcome: How it ended.
        context: What the catalog requires, and more.
        event_id: The event's id; a new one by default. Keep it when the event is recorded once more after an error.
    """
    return {
        "event_id": _fitting(event_id or uuid4().hex, MAX_EVENT_ID_CHARS),
        "occurred_at": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "actor": {key: _fitting(value, MAX_NAME_CHARS) for key, value in actor.items()},
        "action": action,
        "target": {key: _fitting(value, MAX_NAME_CHARS) for key, value in target.items()},
        "outcome": outcome,
        "context": {key: _clean(value) for key, value in (context or {}).items()},
    }


def _fitting(text: str, most_characters: int) -> str:
    """Return a text that a field of the schema takes."""
    plain = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00") or "-"
    return plain if len(plain) <= most_characters else f"{plain[: most_characters - 1]}…"


def _clean(value: object) -> object:
    """Return a context's value with every text in it fit to be recorded; an empty text stays one."""
    if isinstance(value, str):
        return _fitting(value, MAX_TEXT_CHARACTERS) if value else value
    if isinstance(value, dict):
        return {_fitting(str(key), MAX_NAME_CHARS): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, (list, tuple)) else value


def event_line(event: Mapping[str, Any]) -> bytes:
    """Return the line that an agent reads, judged as the agent will judge it.

    Raises:
        PermanentError: The event is not valid, or the catalog misses something in its context.
    """
    try:
        line = json.dumps(event, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError) as error:
        raise PermanentError(f"the event cannot be written as JSON: {error}", hint="This is a defect of this program.") from error
    if len(line) > MAX_LINE_BYTES:
        raise PermanentError(f"the event has {len(line)} bytes, more than {MAX_LINE_BYTES}", hint="Shorten its texts.")
    verdict = Validator(AllRule(), own_catalog()).judge_line(line)
    if isinstance(verdict, Rejection):
        detail = f": {verdict.detail}" if verdict.detail else ""
        raise PermanentError(f"the event is not valid ({verdict.reason.value}{detail})", hint="Correct the field that is named.")
    return line
