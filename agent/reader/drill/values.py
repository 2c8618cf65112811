"""The values that the parts of a drill hand to each other: what is done to a copy, and what came of it.

Invariants: frozen; a tampering's expected codes stand in its definition and nowhere else, so that the table in the documentation, the
judgement and the report cannot differ. This module must not read or write anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ..findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime, timedelta

    from ..expected import ExpectedTrail
    from ..findings import Code, Finding
    from ..trustfile import Binding
    from .site import Site


class UntriedError(Exception):
    """The copy has nothing that this tampering could be done to; the message says what is missing."""


class Who(StrEnum):
    """Who would do it: what they hold."""

    STORE = "whoever may change the store, without a key"
    FORGER = "whoever may change the store, with a key of their own"
    THIEF = "whoever holds the trail's own key (stood in for by a key of the drill)"


class Expectation(StrEnum):
    """What a verification has to make of a tampering."""

    CAUGHT = "caught"
    LIMIT = "a known limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One tampering, ready to be done.

    Attributes:
        objects: The bytes to put under keys; None removes the object.
        done: What was done, one sentence with the figures.
        names: Texts of which a finding has to hold one in its origin, its key or its message, to be about this.
        batches: Batches of which the finding has to name one, where it names a batch; empty for any. A range is kept as one, because a
            seal that somebody planted may have a huge number.
        linked: Folders to move away and to put a symbolic link in the place of.
        later_seconds: How much later than the drill's moment it is judged.
        moment: The verifier's clock to judge it by, instead of the drill's moment.
        fresh: What `verify --fresh` is given.
        expected: What `verify --expected` is given.
        trusted: Bindings that are trusted beside the trust file.
    """

    objects: Mapping[str, bytes | None]
    done: str
    names: tuple[str, ...]
    batches: frozenset[int] | range = frozenset()
    linked: tuple[str, ...] = ()
    later_seconds: float = 0.0
    moment: datetime | None = None
    fresh: timedelta | None = None
    expected: tuple[ExpectedTrail, ...] | None = None
    trusted: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering:
    """One entry of the catalogue.

    Attributes:
        name: Its name, in the report and in the documentation.
        who: What an attacker has to hold for it.
        wants: What they would want with it.
        must: Codes of which at least one has to be found, about the place that was tampered with.
        may: Codes that may be found besides, as a consequence. Any other new code makes the detection a wrong one.
        act: Chooses the place and returns what to do; raises `UntriedError`.
        expectation: Whether it has to be caught, or shows what a verification by itself cannot see.
        remedy: For a known limit: what does show it.
    """

    name: str
    who: Who
    wants: str
    must: frozenset[Code]
    may: frozenset[Code] = frozenset()
    act: Callable[[Site], Change]
    expectation: Expectation = Expectation.CAUGHT
    remedy: str = ""

    @property
    def exits(self) -> tuple[int, ...]:
        """The exit codes that its codes end in, on a store that is otherwise intact."""
        return tuple(sorted({code.severity.exit_code for code in self.must}))


def on_trail(site: Site, objects: Mapping[str, bytes | None], done: str, batches: Iterable[int] = ()) -> Change:
    """Return a change about a site's trail.

    Args:
        site: Where.
        objects: The bytes to put under keys; None removes the object.
        done: What was done, one sentence with the figures.
        batches: Batches of which a finding has to name one, where it names a batch; none for any.
    """
    about = batches if isinstance(batches, range) else frozenset(batches)
    return Change(objects=objects, done=done, names=(str(site.origin),), batches=about)


def entry(who: Who, name: str, wants: str, act: Callable[[Site], Change], must: Iterable[Code], may: Iterable[Code] = ()) -> Tampering:
    """Return an entry of the catalogue that has to be caught; what has to be found is taken out of what may be found besides."""
    return Tampering(name=name, who=who, wants=wants, must=frozenset(must), may=frozenset(may) - frozenset(must), act=act)


@dataclass(frozen=True, slots=True)
class NotTried:
    """A tampering that the threat model names and a copy in a folder cannot show."""

    name: str
    wants: str
    why: str


class Outcome(StrEnum):
    """What became of one tampering."""

    CAUGHT = "caught"
    MISSED = "NOT CAUGHT"
    MISREAD = "WRONGLY DETECTED"
    AS_DOCUMENTED = "not caught, as documented"
    NOT_TRIED = "not tried"
    FAULT = "could not be prepared"

    @property
    def failed(self) -> bool:
        """Whether the drill fails by it."""
        return self in (Outcome.MISSED, Outcome.MISREAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one tampering.

    Attributes:
        tampering: What it was.
        outcome: What became of it.
        done: What was done, or why it was not tried.
        found: The findings that the untouched copy did not give.
        exit_code: What `verify` would have ended with; None if it was not tried.
        untouched_exit_code: What it ends with on the untouched copy, asked the same; None if it was not tried.
        objects: How many objects were changed, added or removed.
        seconds: How long it took.
    """

    tampering: Tampering
    outcome: Outcome
    done: str
    found: tuple[Finding, ...] = ()
    exit_code: int | None = None
    untouched_exit_code: int | None = None
    objects: int = 0
    seconds: float = 0.0

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of what was found, the worst first, each once."""
        ordered = sorted(self.found, key=lambda finding: (-finding.severity, finding.code.value))
        return tuple(dict.fromkeys(finding.code.value for finding in ordered))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification said, as far as a drill compares it.

    Attributes:
        severity: The worst.
        records: The population.
        batches: How many batches were read.
        trails: How many trails.
        codes: How often each code was found.
        findings: What was found, as far as it is kept.
    """

    severity: Severity = Severity.NOTICE
    records: int = 0
    batches: int = 0
    trails: int = 0
    codes: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def serious(self) -> frozenset[tuple[str, str | None, int | None, str | None]]:
        """What is worse than a notice, without the words."""
        return frozenset(
            (finding.code.value, finding.origin, finding.batch, finding.key)
            for finding in self.findings
            if finding.severity is not Severity.NOTICE
        )
