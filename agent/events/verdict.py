"""Say what became of one audit line: accepted, or quarantined with a reason from a closed list.

Invariants: a reason is a member of `Reason`; a detail names a field, a key path or a rule, never a value, so that
a reason can be counted, logged and shown without showing what the event says. Nothing here decides anything.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec and typing.get_type_hints read NamedTuple annotations at run time
from enum import StrEnum
from typing import NamedTuple, TypeAlias

MAX_DETAIL_CHARS = 200


class Reason(StrEnum):
    """Why a line that claims to be an audit event is quarantined; the values are part of trail format 1."""

    NOT_JSON = "not_json"
    INVALID_UTF8 = "invalid_utf8"
    INVALID_UNICODE = "invalid_unicode"
    DUPLICATE_KEY = "duplicate_key"
    TOO_DEEP = "too_deep"
    TOO_LONG = "too_long"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    INVALID_VALUE = "invalid_value"
    NOT_UTC = "not_utc"
    MISSING_CONTEXT = "missing_context"
    NOT_MAPPED = "not_mapped"


class Accepted(NamedTuple):
    """Report a valid event by the three facts the pipeline counts it by.

    Attributes:
        occurred_at: When it happened, UTC, truncated to what `datetime` holds (microseconds).
        action: The event's action, for example ``role.grant``.
        outcome: ``success``, ``failure``, ``denied`` or ``unknown``.
    """

    occurred_at: datetime
    action: str
    outcome: str


class Rejection(NamedTuple):
    """Report why a line goes to quarantine.

    Attributes:
        reason: One of the closed list.
        detail: The dotted path of the field or key concerned, or a fixed phrase, or empty; at most
            `MAX_DETAIL_CHARS` characters, encodable as UTF-8, never a value out of the event.
    """

    reason: Reason
    detail: str


Verdict: TypeAlias = Accepted | Rejection


def rejection(reason: Reason, detail: str = "") -> Rejection:
    """Build a rejection whose detail is bounded and can be written as UTF-8.

    Args:
        reason: Why.
        detail: A path made of the event's own key names; lone surrogates and NULs in them are replaced.
    """
    if not detail.isascii() or "\x00" in detail:
        detail = detail.encode("utf-8", "replace").decode("utf-8").replace("\x00", "?")
    if len(detail) > MAX_DETAIL_CHARS:
        detail = detail[: MAX_DETAIL_CHARS - 1] + "…"
    return Rejection(reason, detail)
