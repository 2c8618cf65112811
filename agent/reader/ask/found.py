"""What an answer is made of: one event, its place in the order of answers, and how both are read from the index.

Invariants: events are ordered by when they occurred, then by trail and seq, so the order is the same in every index of a store;
a place that somebody hands back is parsed strictly and only ever bound. This module must not decide who may see what.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from ...errors import ConfigError, FormatError
from ...events.catalog import UNCATALOGUED
from ...trail.layout import Origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...events.catalog import Catalog

ORDER: Final = "occurred_at, origin, seq"
NEWEST_FIRST: Final = "occurred_at DESC, origin DESC, seq DESC"
COLUMNS: Final = (
    "origin, seq, batch, namespace, service, instance, trusted, occurred_at, observed_at, event_id, actor_type, actor_id, actor_session, "
    "action, target_type, target_id, outcome, context, source, host, container, mapping, client, redacted"
)
"""The columns of the view `events` that make a `Found`, in its order."""

_PLACE: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}Z)~([^~]{1,300})~([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an event in the order of answers; an answer goes on after it.

    Attributes:
        occurred_at: When the event occurred, aware, UTC.
        origin: Its trail.
        seq: Its leaf.
    """

    occurred_at: datetime
    origin: str
    seq: int

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"{self.occurred_at.astimezone(UTC).replace(tzinfo=None).isoformat()}Z~{self.origin}~{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` returns.

        Raises:
            ConfigError: It is something else.
        """
        found = _PLACE.fullmatch(text)
        try:
            if found is None:
                raise ValueError(text)
            return cls(datetime.fromisoformat(found[1]), str(Origin.parse(found[2])), int(found[3]))
        except (ValueError, FormatError) as error:
            raise ConfigError(
                f"{text[:80]!r} is no place in an answer", key="after", hint="Use what the previous answer gave as `after`."
            ) from error


@dataclass(frozen=True, slots=True)
class Found:
    """One event that was found.

    Attributes:
        origin: The trail.
        seq: Its leaf in the trail.
        batch: The batch that sealed it.
        namespace: Of the origin.
        service: Of the origin.
        instance: Of the origin.
        trusted: Whether the trust file vouches for the trail's key.
        occurred_at: When it happened, by the service's clock; aware, UTC, microseconds.
        observed_at: When the agent read it, by the host's clock; None if that is no time.
        event_id: As the service, or the mapping, wrote it; and so are all below up to the context.
        actor_type: The kind of actor.
        actor_id: Who.
        actor_session: In which session, if any.
        action: What was done.
        target_type: The kind of thing it was done to.
        target_id: Which one.
        outcome: How it ended.
        context: JSON text, if any.
        source: The source the agent read it from.
        host: The machine that the agent ran on.
        container: JSON text that names the container, or pod and node, if any.
        mapping: The mapping and rule that made the event of a line of another format; None if the service wrote it so.
        client: The fields whose values the service took from its client as they were; None if that is not said.
        redacted: What was removed or replaced before it was stored; None if nothing was.
        category: Of the catalog; None without a catalog.
    """

    origin: str
    seq: int
    batch: int
    namespace: str
    service: str
    instance: str
    trusted: bool
    occurred_at: datetime
    observed_at: datetime | None
    event_id: str
    actor_type: str
    actor_id: str
    actor_session: str | None
    action: str
    target_type: str
    target_id: str
    outcome: str
    context: str | None
    source: str | None
    host: str | None
    container: str | None
    mapping: str | None = None
    client: list[str] | None = None
    redacted: list[str] | None = None
    category: str | None = None

    @property
    def place(self) -> Place:
        """Where it stands in the order of answers."""
        return Place(self.occurred_at, self.origin, self.seq)

    @property
    def reference(self) -> tuple[str, int]:
        """What names it in a store: the trail and the leaf."""
        return self.origin, self.seq

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data: the event as the frozen schema has it, and where it lies."""
        return {
            "origin": self.origin,
            "seq": self.seq,
            "batch": self.batch,
            "trusted": self.trusted,
            "category": self.category,
            "observed_at": None if self.observed_at is None else zulu(self.observed_at),
            "source": self.source,
            "host": self.host,
            "container": parsed(self.container),
            "mapping": self.mapping,
            "client": self.client,
            "redacted": self.redacted,
            "event": {
                "event_id": self.event_id,
                "occurred_at": zulu(self.occurred_at),
                "actor": {"type": self.actor_type, "id": self.actor_id, "session": self.actor_session},
                "action": self.action,
                "target": {"type": self.target_type, "id": self.target_id},
                "outcome": self.outcome,
                "context": parsed(self.context),
            },
        }


def found(row: Sequence[Any], catalog: Catalog | None) -> Found:
    """Make an event of a row of `COLUMNS`.

    Args:
        row: The values; more may follow them.
        catalog: Gives the event its category, if there is one.
    """
    occurred_at = moment(row[7]) or datetime.max.replace(tzinfo=UTC)
    values: list[Any] = [*row[:7], occurred_at, moment(row[8]), *row[9:24], category_of(row[13], catalog)]
    return Found(*values)


def moment(value: Any) -> datetime | None:
    """Return a time of the index as an aware one; the last moment there is for one that only the database can express."""
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else datetime.max.replace(tzinfo=UTC)


def with_moments(row: Sequence[Any], *places: int) -> list[Any]:
    """Return a row with aware times at some places."""
    return [moment(value) if place in places else value for place, value in enumerate(row)]


def category_of(action: str, catalog: Catalog | None) -> str | None:
    """Return the category of an action; None without a catalog."""
    if catalog is None:
        return None
    entry = catalog.entry(action)
    return UNCATALOGUED if entry is None else entry.category.value


def zulu(time: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC, with microseconds."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parsed(text: str | None) -> Any:
    """Return what a JSON text says; the text itself where no parser takes it."""
    if text is None:
        return None
    try:
        return json.loads(text, parse_float=_number, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _number(text: str) -> float | str:
    # A number too great for a float would become Infinity, which is no JSON.
    number = float(text)
    return number if math.isfinite(number) else text
