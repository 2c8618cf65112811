"""Define the frozen schema of an audit event: who did what to which thing, when, how it ended, in what state.

The structs here are the single definition: validation converts to them, and `explain` only puts a name to a
refusal. `exact_type` and `bounded_types` derive from them the types for one classification rule; the latter also
bound the context, for the fast tier.

Invariants: no field is added, renamed or made required without a new format version; unknown top-level fields are refused,
so that no reader meets a field it does not know; every string that names a thing is non-empty and bounded.
Events opt out of cyclic garbage collection: what was read from JSON holds no cycles.
This module must not know how a line is classified or which actions exist.
"""

from __future__ import annotations

import functools
import re
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct, inspect

from ..errors import ConfigError
from .classify import DEFAULT_FIELD, DEFAULT_VALUE
from .reading import MAX_INTEGER, JSONValue
from .verdict import Reason, Rejection, rejection

MAX_NAME_CHARS: Final = 512
"""Longest name of an actor, a session, an action or a target, in characters."""

MAX_EVENT_ID_CHARS: Final = 128

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=512)]
EventId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
Outcome: TypeAlias = Literal["success", "failure", "denied", "unknown"]

_Scalar: TypeAlias = str | Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)] | float | bool | None
_FlatContext: TypeAlias = dict[str, _Scalar | list[_Scalar]]
_NestedContext: TypeAlias = dict[str, _Scalar | list[_Scalar] | dict[str, _Scalar]]

_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|\+00:00)", re.ASCII)
_SPELLINGS_OF_UTC: Final = ("Z", "z", "+00:00", "+0000")
_ANY_ZONE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?P<zone>[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


class Actor(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Name who acted: a person, a service, or the system itself.

    Attributes:
        type: The kind of actor, for example ``user``, ``service`` or ``system``.
        id: Its identifier within the service.
        session: The session it acted in; absent or null where there is none.
    """

    type: Name
    id: Name
    session: Name | None = None


class Target(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Name what was acted on.

    Attributes:
        type: The kind of thing, for example ``account``.
        id: Its identifier within the service.
    """

    type: Name
    id: Name


class Event(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Hold one audit event, as the service states it.

    Attributes:
        event_id: Chosen by the service, unique within it; 1 to 128 characters.
        occurred_at: When it happened; RFC 3339 with ``T``, up to nine decimals of a second, and ``Z`` or ``+00:00``.
        actor: Who acted.
        action: What was done, a dotted name such as ``role.grant``.
        target: What it was done to.
        outcome: How it ended; failures and denials are events too.
        context: The state that made the action what it was; empty where absent.
    """

    event_id: EventId
    occurred_at: Annotated[datetime, Meta(tz=True)]
    actor: Actor
    action: Name
    target: Target
    outcome: Outcome
    context: dict[str, object] = {}


class _FlatEvent(Event, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    context: _FlatContext = {}  # type: ignore[assignment]


class _NestedEvent(Event, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    context: _NestedContext = {}  # type: ignore[assignment]


FIELDS: Final = frozenset(Event.__struct_fields__)


def exact_type(tag: tuple[str, str] | None) -> type[Event]:
    """Build the event type for one classification rule, with any context.

    Args:
        tag: The rule's field and value: an additional top-level field, required, with exactly that value. None: the
            default tag (``"stream":"audit"``) may be there, so that a tagged service may write to an untagged source.

    Raises:
        ConfigError: The tag's field is a field of the schema.
    """
    return _with_tag(Event, tag)


def bounded_types(tag: tuple[str, str] | None) -> tuple[type[Event], type[Event]]:
    """Build the same type twice more, for contexts whose every value the type itself bounds.

    Args:
        tag: As for `exact_type`.

    Returns:
        The type for contexts of scalars and lists of scalars, and the one that also lets objects of scalars in.
    """
    return _with_tag(_FlatEvent, tag), _with_tag(_NestedEvent, tag)


def _with_tag(base: type[Event], tag: tuple[str, str] | None) -> type[Event]:
    name, value = tag or (DEFAULT_FIELD, DEFAULT_VALUE)
    if name in FIELDS:
        raise ConfigError("is a field of the event schema", key="audit.field", hint=f"Use another word, such as {DEFAULT_FIELD}.")
    literal = Literal[value]  # type: ignore[valid-type]
    field: tuple[str, object] | tuple[str, object, object] = ("tag", literal) if tag else ("tag", literal, value)
    return msgspec.defstruct(  # type: ignore[return-value]
        base.__name__, [field], bases=(base,), rename={"tag": name}, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False
    )


def is_utc_time(text: str) -> bool:
    """Tell whether a time is written in the one form the schema allows; the date itself is not checked."""
    return _UTC_TIME.fullmatch(text) is not None


def explain(value: JSONValue, event_type: type[Event]) -> Rejection:
    """Name the first reason why a value is not an event of a type, in the order of the schema's fields.

    Args:
        value: What `read_strictly` returned, and `msgspec.convert` refused (or whose time is not in the allowed form).
        event_type: A type made by `exact_type`.
    """
    if not isinstance(value, dict):
        return rejection(Reason.NOT_AN_OBJECT)
    return _explain_object(value, event_type, "") or rejection(Reason.INVALID_VALUE)


def _explain_object(value: dict[str, JSONValue], struct: type[Struct], path: str) -> Rejection | None:
    fields = _fields(struct)
    for name, field in fields.items():
        if name in value:
            found = _explain_member(value[name], field.type, path + name)
            if found:
                return found
        elif field.required:
            return rejection(Reason.MISSING_FIELD, path + name)
    unknown = next((key for key in value if key not in fields), None)
    return None if unknown is None else rejection(Reason.UNKNOWN_FIELD, path + unknown)


@functools.cache
def _fields(struct: type[Struct]) -> dict[str, inspect.Field]:
    """Read a struct's own definition, once: msgspec builds it anew at every call."""
    info = inspect.type_info(struct)
    if not isinstance(info, inspect.StructType):
        msg = f"{struct.__name__} is no struct"
        raise TypeError(msg)
    return {field.encode_name: field for field in info.fields}


def _explain_member(member: JSONValue, expected: inspect.Type, place: str) -> Rejection | None:
    if isinstance(expected, inspect.UnionType):
        if member is None:
            return None
        expected = next(kind for kind in expected.types if not isinstance(kind, inspect.NoneType))
    if isinstance(expected, inspect.StructType):
        return _explain_object(member, expected.cls, place + ".") if isinstance(member, dict) else rejection(Reason.WRONG_TYPE, place)
    if isinstance(expected, inspect.DictType):
        return None if isinstance(member, dict) else rejection(Reason.WRONG_TYPE, place)
    if not isinstance(member, str):
        return rejection(Reason.WRONG_TYPE, place)
    if isinstance(expected, inspect.DateTimeType):
        return _explain_time(member, place)
    if isinstance(expected, inspect.LiteralType):
        fits = member in expected.values
    else:
        fits = isinstance(expected, inspect.StrType) and (expected.min_length or 0) <= len(member) <= (
            expected.max_length or MAX_NAME_CHARS
        )
    return None if fits else rejection(Reason.INVALID_VALUE, place)


def _explain_time(text: str, place: str) -> Rejection | None:
    try:
        if not is_utc_time(text):
            found = _ANY_ZONE.fullmatch(text)
            elsewhere = found is not None and found["zone"] not in _SPELLINGS_OF_UTC
            return rejection(Reason.NOT_UTC if elsewhere else Reason.INVALID_VALUE, place)
        msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return rejection(Reason.INVALID_VALUE, place)
    return None
