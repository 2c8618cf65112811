"""The reader's own audit events (a review, an auditor's access, an export) and how they become a sealed trail.

An auditor's tools are a service like any other: what is done with them is printed as events, and an ordinary agent, started as a child
with a configuration that is written here, seals and ships them. So the reader needs none of the writing side, and its trail is verified
like all others. `record_once` is for a command that ends; `Recorder` for a server that stays.

Invariants: an event is said to be recorded only when the agent has answered that it is durable (`Recorder`) or when the store shows it
sealed (`record_once`); everything else raises. This package must not import the writing side, and must not decide what is worth an event.
"""

from __future__ import annotations

from .events import Recorded, own_catalog, own_event
from .once import record_once
from .recorder import Recorder
from .settings import OwnTrail

__all__ = ["OwnTrail", "Recorded", "Recorder", "own_catalog", "own_event", "record_once"]
