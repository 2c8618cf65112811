"""What a rendering is made of: one stored event, where it lies, and what of its context has no home yet.

Invariants: a store's content may be of any shape, so nothing here raises on it: what is no text where the schema wants text counts as
absent. A value of the context is either taken by a rendering or still in `Context.rest`, so that none is lost. This module must
not know any outside schema.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_OF_A_RECORD: Final = ("source", "container", "observed_at", "event", "mapping", "client", "raw", "redacted")
"""What a rendering takes of a record line; all else that a leaf holds is not for it to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One verified event with what its record and its trail say.

    Attributes:
        event_id: As the service wrote it; and so are all up to the context.
        occurred_at: RFC 3339, UTC.
        actor_type: The kind of actor.
        actor_id: Who.
        actor_session: In which session, if any.
        action: What was done.
        target_type: The kind of thing it was done to.
        target_id: Which one.
        outcome: How it ended.
        context: The state that made the action what it was.
        origin: The trail: ``<namespace>/<service>/<epoch>/<instance>``.
        seq: The leaf in the trail.
        batch: The batch that sealed it, where known.
        trusted: Whether a trust file vouches for the trail's key, where that was asked.
        category: Of the catalog, if there is one.
        observed_at: When the agent read it; RFC 3339, UTC.
        source: The source the agent read it from.
        host: The machine that the agent ran on.
        container: What names the container, if it came from one.
        mapping: ``<mapping>/<rule>``, if the event was made of another format.
        client: Fields whose value the client chose itself.
        raw: The original line, if the record holds it.
        redacted: What was removed or replaced before the record was made.
    """

    event_id: str
    occurred_at: str
    actor_type: str
    actor_id: str
    actor_session: str | None
    action: str
    target_type: str
    target_id: str
    outcome: str
    context: Mapping[str, Any]
    origin: str
    seq: int
    batch: int | None = None
    trusted: bool | None = None
    category: str | None = None
    observed_at: str | None = None
    source: str | None = None
    host: str | None = None
    container: Mapping[str, Any] | None = None
    mapping: str | None = None
    client: tuple[str, ...] = ()
    raw: str | None = None
    redacted: tuple[str, ...] = ()

    @classmethod
    def of_record(cls, record: Mapping[str, Any], *, origin: str, seq: int) -> Self:
        """Make it of a record line. Where the record lies is told, never read: a record could name another's trail.

        Args:
            record: The leaf as it was read; of any shape.
            origin: The trail.
            seq: The leaf in the trail.
        """
        return cls.of({name: record[name] for name in _OF_A_RECORD if name in record} | {"origin": origin, "seq": seq})

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Make it of an answer's document.

        Args:
            document: ``event`` is an event of the frozen schema; beside it stand the record's members, and those of an answer.
        """
        event = _object(document.get("event"))
        actor, target = _object(event.get("actor")), _object(event.get("target"))
        context = event.get("context")
        return cls(
            event_id=text(event.get("event_id")) or "",
            occurred_at=text(event.get("occurred_at")) or "",
            actor_type=text(actor.get("type")) or "",
            actor_id=text(actor.get("id")) or "",
            actor_session=text(actor.get("session")),
            action=text(event.get("action")) or "",
            target_type=text(target.get("type")) or "",
            target_id=text(target.get("id")) or "",
            outcome=text(event.get("outcome")) or "unknown",
            # What no parser takes comes as text; it is kept all the same.
            context=context if isinstance(context, dict) else {} if context is None else {"unparsed": context},
            origin=text(document.get("origin")) or "",
            seq=whole(document.get("seq")) or 0,
            batch=whole(document.get("batch")),
            trusted=document["trusted"] if isinstance(document.get("trusted"), bool) else None,
            category=text(document.get("category")),
            observed_at=text(document.get("observed_at")),
            source=text(document.get("source")),
            host=text(document.get("host")),
            container=_object(document.get("container")) or None,
            mapping=text(document.get("mapping")),
            client=_texts(document.get("client")),
            raw=text(document.get("raw")),
            redacted=_texts(document.get("redacted")),
        )

    @property
    def namespace(self) -> str:
        """The origin's first part."""
        return self._part(0)

    @property
    def service(self) -> str:
        """The origin's second part."""
        return self._part(1)

    @property
    def instance(self) -> str:
        """The origin's last part."""
        return self._part(3)

    @property
    def record_id(self) -> str:
        """What names the record in every store: the trail and the leaf."""
        return f"{self.origin}#{self.seq}"

    def _part(self, number: int) -> str:
        parts = self.origin.split("/")
        return parts[number] if len(parts) == 4 else ""

    def provenance(self) -> dict[str, Any]:
        """Return what only this product knows of the event, for which outside schemas have no field; absent members left out."""
        return present(
            {
                "origin": self.origin,
                "seq": self.seq,
                "batch": self.batch,
                "trusted": self.trusted,
                "category": self.category,
                "source": self.source,
                "host": self.host,
                "container": dict(self.container) if self.container else None,
                "mapping": self.mapping,
                "client": list(self.client),
                "redacted": list(self.redacted),
                "actor": present({"type": self.actor_type, "id": self.actor_id, "session": self.actor_session}),
                "action": self.action,
                "target": {"type": self.target_type, "id": self.target_id},
                "outcome": self.outcome,
            }
        )


class Context:
    """The context, while a rendering finds homes for its values."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Begin with all values at hand."""
        self.rest: dict[str, Any] = dict(values)

    def take_text(self, *names: str) -> str | None:
        """Take the first of these that is a text or a number, as text; one of another kind stays."""
        for name in names:
            value = self.rest.get(name)
            if isinstance(value, str) and value:
                del self.rest[name]
                return value
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                del self.rest[name]
                return str(value)
        return None

    def take_texts(self, *names: str) -> list[str]:
        """Take the first of these that is a text or a list of texts, as a list."""
        for name in names:
            value = self.rest.get(name)
            if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
                del self.rest[name]
                return list(value)
            if (found := self.take_text(name)) is not None:
                return [found]
        return []

    def take_whole(self, name: str, most: int) -> int | None:
        """Take a whole number from 0 to `most`, also if it is written as text."""
        value = self.rest.get(name)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(most)):
            value = int(value)
        number = whole(value)
        if number is None or not 0 <= number <= most:
            return None
        del self.rest[name]
        return number

    def take_address(self, name: str) -> str | None:
        """Take an IP address; what is none stays."""
        value = self.rest.get(name)
        if not isinstance(value, str) or "%" in value:
            return None
        try:
            ipaddress.ip_address(value)
        except ValueError:
            return None
        del self.rest[name]
        return value


def text(value: object) -> str | None:
    """Return a text that is not empty; None for all else."""
    return value if isinstance(value, str) and value else None


def whole(value: object) -> int | None:
    """Return a whole number; None for all else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def present(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that say something."""
    return {name: value for name, value in members.items() if value is not None and value not in ("", [], {})}


def epoch_milliseconds(time: str | None) -> int | None:
    """Return a time in milliseconds since 1970, rounded down; None where it is no time with a zone."""
    try:
        parsed = datetime.fromisoformat(time or "")
    except ValueError:
        return None
    return None if parsed.tzinfo is None else (parsed - _EPOCH) // _MILLISECOND


def verb(action: str) -> str:
    """Return the first word of an action's last part, in lower case: ``update`` of ``team.update``, ``get`` of ``aws.s3.GetObject``."""
    last = action.rsplit(".", 1)[-1]
    for place, character in enumerate(last):
        if place and (character.isupper() or not character.isalpha()):
            return last[:place].lower()
    return last.lower()


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, (list, tuple)) else ()
