"""The controls: what each asks for in our own words, and which events and facts of the pipeline speak of it.

The criteria are those of the AICPA's Trust Services Criteria (2017, revised points of focus 2022); the sentences are ours. What an
auditor accepts as evidence is the auditor's decision.

Invariants: every question is answered by one filter, so whoever repeats it with `trailseal query` counts the same events; where no
catalog is given, names of actions stand in for its categories. This module is data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FAILED: Final = ("failure", "denied")


class Fact(StrEnum):
    """What is known of the pipeline itself."""

    HEARTBEATS = "heartbeats"
    SILENCES = "silences"
    LOSSES = "losses"
    QUARANTINE = "quarantine"
    CLOCK = "clock"
    TIMELINESS = "timeliness"
    INTEGRITY = "integrity"
    TRUST = "trust"
    RESTARTS = "restarts"
    REVIEWS = "reviews"
    APPROVALS = "approvals"
    RETENTION = "retention"


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of events that speaks of a control.

    Attributes:
        title: What they show.
        categories: Categories of the catalog.
        actions: Globs over actions; they are used where there are no categories, or no catalog.
        outcomes: Only these; empty: all.
        correlate: A path in the context whose equal values belong together, for the command; empty: none.
    """

    title: str
    categories: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    correlate: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """One control.

    Attributes:
        id: Its number in the criteria.
        title: A short name.
        sentence: What it asks for, in our own words.
        questions: The events that speak of it.
        facts: What of the pipeline itself speaks of it.
    """

    id: str
    title: str
    sentence: str
    questions: tuple[Question, ...]
    facts: tuple[Fact, ...] = ()


_LOGINS: Final = Question("Sign-ins and other proofs of identity", ("authentication",), ("auth.*", "session.*"))
_FAILED_LOGINS: Final = Question("Sign-ins that failed or were denied", ("authentication",), ("auth.*", "session.*"), FAILED)
_RIGHTS: Final = (
    "role.*",
    "permission.*",
    "access.*",
    "grant.*",
)
_EXPORTS: Final = ("data.export", "data.share", "report.download", "view.export")
_DEPLOYMENTS: Final = ("deploy.*", "change.*", "migration.*")
_SETTINGS: Final = ("config.*", "feature_flag.*", "webhook.*", "integration.*", "retention.*")
_SECRETS: Final = ("key.*", "token.*", "secret.*", "network.*", "security.*", "view.denied")
_REVIEWS: Final = ("review.sign", "audit.review", "access.review", "view.*", "audit.search", "audit.export")

CONTROLS: Final = (
    Definition(
        "CC6.1",
        "Logical access",
        "Only those who proved who they are, and were given the right, reach systems, data and keys.",
        (
            _LOGINS,
            _FAILED_LOGINS,
            Question("Attempts that a missing right stopped", (), ("*",), ("denied",)),
            Question("Use of keys, tokens and secrets", ("security",), _SECRETS),
        ),
        (Fact.TRUST,),
    ),
    Definition(
        "CC6.2",
        "Accounts come and go by decision",
        "Somebody decides before a person or a program gets access, and it ends when they leave.",
        (
            Question("Accounts made", (), ("user.create", "service_account.create")),
            Question("Accounts suspended or removed", (), ("user.suspend", "user.delete", "service_account.delete", "session.revoke")),
            Question(
                "Requests for rights, and decisions on them",
                (),
                ("access.request", "access.approve", "access.deny", "role.request", "role.approve", "role.deny"),
                correlate="context.approval_id",
            ),
        ),
        (),
    ),
    Definition(
        "CC6.3",
        "Rights fit the task",
        "Rights are given, changed and taken by role, no wider than needed, and looked through from time to time.",
        (
            Question("Rights given", (), ("role.grant", "permission.grant"), correlate="context.approval_id"),
            Question("Rights taken", (), ("role.revoke", "permission.revoke")),
            Question("Roles made or changed", (), ("role.create", "role.update", "role.delete")),
            Question("Emergency rights without prior approval", (), ("access.break_glass",)),
            Question("Reviews of who may do what", (), ("access.review",)),
            Question("Everything about rights", ("authorization",), _RIGHTS),
        ),
        (Fact.APPROVALS,),
    ),
    Definition(
        "CC6.6",
        "Threats from outside",
        "What comes from beyond the boundary is held off, and attempts on it are seen.",
        (
            _FAILED_LOGINS,
            Question("Second factors: enrolled, used, reset", (), ("auth.mfa.*",)),
            Question("Changes of who may connect", (), ("network.*", "webhook.*", "integration.*")),
            Question("Findings of protective systems", (), ("security.*",)),
        ),
    ),
    Definition(
        "CC6.7",
        "Data leaves only as allowed",
        "Moving, sending or taking away data is limited to those who may, and is seen when it happens.",
        (
            Question("Exports, shares and downloads", ("data_export",), _EXPORTS),
            Question("Exports that were denied or failed", ("data_export",), _EXPORTS, FAILED),
        ),
    ),
    Definition(
        "CC7.1",
        "Changes that could open a hole",
        "Changes of configuration, and new weaknesses that come with them, are noticed.",
        (
            Question("Changes of settings", ("configuration",), _SETTINGS),
            Question("Changes of keys, secrets and networks", ("security",), _SECRETS),
            Question("Versions rolled out", ("deployment",), _DEPLOYMENTS),
        ),
    ),
    Definition(
        "CC7.2",
        "Something unusual is seen",
        "Systems are watched for signs of attack, failure and error, and so is the watching itself.",
        (
            Question("Actions that failed or were denied", (), ("*",), FAILED),
            Question("Searches and looks at the trail", ("review",), _REVIEWS),
        ),
        (Fact.HEARTBEATS, Fact.SILENCES, Fact.LOSSES, Fact.QUARANTINE, Fact.RESTARTS, Fact.REVIEWS),
    ),
    Definition(
        "CC7.3",
        "What was seen is judged",
        "Somebody decides whether what was seen is an incident, and what follows from it.",
        (
            Question("Reviews of the trail", (), ("review.sign", "audit.review")),
            Question("Findings of protective systems", (), ("security.*",)),
        ),
        (Fact.REVIEWS,),
    ),
    Definition(
        "CC8.1",
        "Changes are decided, tested and recorded",
        "Changes to what runs are approved before they are made, and it is known who made them.",
        (
            Question("Changes approved", (), ("change.approve",), correlate="context.change_id"),
            Question("Versions rolled out or back", (), ("deploy.*",), correlate="context.change_id"),
            Question("Databases migrated", (), ("migration.*",)),
            Question("Settings changed", ("configuration",), _SETTINGS),
        ),
    ),
    Definition(
        "A1",
        "Availability",
        "Systems are there when promised: capacity is watched, data are backed up, and coming back is practised.",
        (
            Question("Backups made, checked or removed", (), ("backup.*",)),
            Question("Data brought back", (), ("data.restore",)),
            Question("Starts and stops", (), ("system.*",)),
        ),
        (Fact.HEARTBEATS, Fact.SILENCES, Fact.RESTARTS),
    ),
    Definition(
        "PI1",
        "Processing is complete and right",
        "What goes in comes out whole, valid, in time and by whoever was allowed to; errors are found and kept.",
        (
            Question("Data made, changed or removed", ("data_change",), ("data.create", "data.update", "data.delete", "data.restore")),
            Question("Changes of data that failed or were denied", ("data_change",), ("data.create", "data.update", "data.delete"), FAILED),
            Question("Tasks that ran by themselves", (), ("job.*",)),
        ),
        (Fact.INTEGRITY, Fact.LOSSES, Fact.QUARANTINE, Fact.TIMELINESS, Fact.CLOCK, Fact.RETENTION),
    ),
)
