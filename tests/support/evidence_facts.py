"""What a made-up store holds, for tests to compare an answer with; `evidence_store` writes the store and fills this in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .evidence_events import INCIDENT_ACTOR, Grant

if TYPE_CHECKING:
    from datetime import date, datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Planted:
    """Something wrong that was put in on purpose: the code `verify` reports, where, and from when to when (aware, UTC)."""

    code: str
    origin: str
    since: datetime
    until: datetime


@dataclass(slots=True)
class Written:
    """A store, and the facts in it.

    Attributes:
        store: The folder of the store.
        trust: A trust file with the key of every epoch.
        origins: The trails, each service's in the order of their epochs.
        events: How many events there are.
        quarantined: How many quarantined lines.
        gaps: How many gap records.
        batches: How many seals.
        grants: Every `role.grant`, by time.
        incident_actor: Somebody with a story; see `evidence_events`.
        by_action: Events by (service, action, outcome).
        by_actor: Events by the actor's id.
        by_day: Events by (service, day of ``occurred_at``, UTC).
        planted: What `verify` finds; empty for a clean store.
    """

    store: Path
    trust: Path
    origins: tuple[str, ...] = ()
    events: int = 0
    quarantined: int = 0
    gaps: int = 0
    batches: int = 0
    grants: tuple[Grant, ...] = ()
    incident_actor: str = INCIDENT_ACTOR
    by_action: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    by_actor: Counter[str] = field(default_factory=Counter)
    by_day: Counter[tuple[str, date]] = field(default_factory=Counter)
    planted: tuple[Planted, ...] = ()
