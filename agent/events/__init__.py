"""Define what an audit event is: schema, catalog, classification and validation. Pure.

Invariants: any bytes get an answer and never an exception; an audit line is accepted or quarantined, never dropped;
nothing here opens files, reads clocks or knows how records are stored.
"""

from __future__ import annotations

from .catalog import UNCATALOGUED, Catalog, Category, Entry, Sensitivity
from .classify import AllRule, FieldRule, PrefixRule, Rule
from .schema import Actor, Event, Target
from .validate import Judgement, Validator
from .verdict import Accepted, Reason, Rejection, Verdict

__all__ = [
    "UNCATALOGUED",
    "Accepted",
    "Actor",
    "AllRule",
    "Catalog",
    "Category",
    "Entry",
    "Event",
    "FieldRule",
    "Judgement",
    "PrefixRule",
    "Reason",
    "Rejection",
    "Rule",
    "Sensitivity",
    "Target",
    "Validator",
    "Verdict",
]
