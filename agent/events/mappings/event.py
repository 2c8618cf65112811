"""Make the event out of a line's values: what the rules of a mapping say of each field.

Invariants: what a rule does not say comes from the mapping's ``event``; a field of the schema that is missing makes no event, one of
the context is left out; a name is never longer than the schema allows. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..schema import MAX_EVENT_ID_CHARS, MAX_NAME_CHARS
from ..verdict import Reason, Rejection, rejection
from .values import Getter, Root, as_text, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .expressions import Compiler
    from .place import Place

FIELDS: Final = ("event_id", "occurred_at", "actor", "action", "target", "outcome", "context")
_PARTS: Final = {"actor": ("type", "id", "session"), "target": ("type", "id")}
_DIGEST_CHARS: Final = 32
_COLLECTIONS: Final = (list, dict)
_OUTCOMES: Final = frozenset({"success", "failure", "denied", "unknown"})


@dataclass(frozen=True, slots=True)
class Fields:
    """Be what a mapping, or one of its rules, says of the event's fields; an expression each.

    Attributes:
        simple: By dotted name: ``event_id``, ``occurred_at``, ``action``, ``outcome``, ``actor.id`` …
        context: By key.
    """

    simple: dict[str, Getter] = field(default_factory=dict)
    context: dict[str, Getter] = field(default_factory=dict)

    def over(self, common: Fields) -> Fields:
        """Return these with what they do not say taken from others."""
        return Fields(common.simple | self.simple, common.context | self.context)


def compile_fields(data: dict[str, object], place: Place, compiler: Compiler) -> Fields:
    """Compile the fields that a mapping or a rule names.

    Args:
        data: Any of the schema's fields; other keys are not looked at.
        place: Where.
        compiler: Compiles their expressions.

    Raises:
        ConfigError: One is wrong.
    """
    simple: dict[str, Getter] = {}
    context: dict[str, Getter] = {}
    for name in FIELDS:
        if name not in data:
            continue
        at = place.at(name)
        if name == "context":
            context = {key: compiler.compile(value, at.at(key)) for key, value in at.mapping(data[name]).items()}
        elif name in _PARTS:
            for part, value in at.mapping(data[name], _PARTS[name]).items():
                simple[f"{name}.{part}"] = compiler.compile(value, at.at(part))
        else:
            if name == "outcome" and isinstance(data[name], str) and "{" not in str(data[name]) and data[name] not in _OUTCOMES:
                raise at.error(f"must be one of {', '.join(sorted(_OUTCOMES))}")
            simple[name] = compiler.compile(data[name], at)
    return Fields(simple, context)


class _ContextField(NamedTuple):
    """Be one field of a context: a path of one name or two, or what only its getter knows."""

    key: str
    name: str | None
    member: str | None
    get: Getter

    @classmethod
    def of(cls, key: str, get: Getter) -> _ContextField:
        path = plan_of(get).path
        if len(path) not in {1, 2}:
            return cls(key, None, None, get)
        return cls(key, path[0], path[1] if len(path) > 1 else None, get)


class EventMaker:
    """Make events as one rule says."""

    def __init__(self, rule: str, fields: Fields) -> None:
        """Prepare the fields.

        Args:
            rule: ``<mapping>/<rule>``, for messages.
            fields: What is said of them; those of the schema that are missing are missing in every line.
        """
        self._rule = rule
        simple = fields.simple
        self._event_id = simple.get("event_id", _missing)
        self._occurred_at = simple.get("occurred_at", _missing)
        self._actor_type = simple.get("actor.type", _missing)
        self._actor_id = simple.get("actor.id", _missing)
        self._session = simple.get("actor.session")
        self._action = simple.get("action", _missing)
        self._target_type = simple.get("target.type", _missing)
        self._target_id = simple.get("target.id", _missing)
        self._outcome = simple.get("outcome", _missing)
        self._context = [_ContextField.of(key, get) for key, get in fields.context.items()]

    def make(self, root: Root, *, full: bool = False) -> dict[str, Any] | Rejection:
        """Return the event of a line's values; its ``event_id`` is None where the line has none.

        Args:
            root: The values.
            full: Whether names stay as long as they are, so that they can be redacted before they are `shortened`.
        """
        name: Callable[[Any], str] = as_text if full else _name
        occurred_at, action, outcome = self._occurred_at(root), self._action(root), self._outcome(root)
        actor_type, actor_id = self._actor_type(root), self._actor_id(root)
        target_type, target_id = self._target_type(root), self._target_id(root)
        if (
            occurred_at is None
            or action is None
            or outcome is None
            or not (actor_type is not None and actor_id is not None and target_type is not None and target_id is not None)
        ):
            return self._missing(occurred_at, actor_type, actor_id, action, target_type, target_id, outcome)
        actor: dict[str, Any] = {"type": name(actor_type), "id": name(actor_id)}
        if self._session is not None and (session := self._session(root)) is not None:
            actor["session"] = name(session)
        event_id = self._event_id(root)
        event: dict[str, Any] = {
            "event_id": None if event_id is None else as_text(event_id) if full else _bounded(as_text(event_id), MAX_EVENT_ID_CHARS),
            "occurred_at": occurred_at,
            "actor": actor,
            "action": name(action),
            "target": {"type": name(target_type), "id": name(target_id)},
            "outcome": outcome,
        }
        context: dict[str, Any] = {}
        # Most fields of a context are paths. A call to look one up would cost several times the look-up.
        for key, first, member, get in self._context:
            if first is None:
                value = get(root)
            else:
                value = root.get(first)
                if member is not None:
                    value = value.get(member) if value.__class__ is dict else None
                if value == "":
                    continue
            if value or (value is not None and value.__class__ not in _COLLECTIONS):
                context[key] = value
        if context:
            event["context"] = context
        return event

    def _missing(self, *values: Any) -> Rejection:
        names: Sequence[str] = ("occurred_at", "actor.type", "actor.id", "action", "target.type", "target.id", "outcome")
        missing = next(name for name, value in zip(names, values, strict=True) if value is None)
        return rejection(Reason.NOT_MAPPED, f"{self._rule}: {missing}")


def _missing(_: Root) -> None:
    return None


def _name(value: Any) -> str:
    text = value if value.__class__ is str else as_text(value)
    return text if len(text) <= MAX_NAME_CHARS else _bounded(text, MAX_NAME_CHARS)


def shortened(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event made in full with its names as short as the schema allows; the same object if they were.

    No digest of them is left, as there is in names that are not redacted: whoever knows the rest of one could check guesses with it.
    """
    actor, target = event["actor"], event["target"]
    made = event | {
        "event_id": None if event["event_id"] is None else _cut(event["event_id"], MAX_EVENT_ID_CHARS),
        "actor": {key: _cut(value) for key, value in actor.items()},
        "action": _cut(event["action"]),
        "target": {key: _cut(value) for key, value in target.items()},
    }
    return event if made == event else made


def _cut(name: str, limit: int = MAX_NAME_CHARS) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _bounded(text: str, limit: int) -> str:
    """Shorten a text in such a way that two that differ stay different."""
    if len(text) <= limit:
        return text
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    return f"{text[: limit - _DIGEST_CHARS - 1]}…{digest}"
