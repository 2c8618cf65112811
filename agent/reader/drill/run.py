"""Run a drill: verify the copy untouched, tamper in one way at a time, verify again, put everything back, and judge.

Invariants: a tampering counts as caught only by a finding that the untouched copy did not give, of a code that its definition names,
about the place that was touched; a new finding of any other code is a wrong detection. Every tampering is done on real files. After
each, the copy is put back, and in the end its bytes and its verdict have to be those of the beginning. The clock comes in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import NotVerifiedError, TrailsealError
from ...trail.manifest import ContinuesWhy
from ...trail.note import SigningKey
from ..fetch import DirectoryReader
from ..findings import MAX_KEPT_PER_CODE_AND_TRAIL, Severity
from ..links import read_claims
from ..trustfile import Binding, TrustFile, matches_origin
from ..verify import Options, verify_store
from .catalogue import CATALOGUE
from .site import Site, notes_of
from .store_copy import changed, digest, put, refuse_outside
from .thief import stand_in
from .values import Change, Expectation, Outcome, Result, Tampering, UntriedError, Verdict, Who

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from ...trail.layout import Origin
    from ..fetch import StoreReader
    from ..findings import Finding
    from ..verify import Report, TrailReport

MOST_SITES: Final = 4
"""In how many trails a place for a tampering is looked for."""


def verdict_of(report: Report) -> Verdict:
    """Return what a drill keeps of a verification."""
    return Verdict(
        severity=report.severity,
        records=report.records,
        batches=sum(trail.tally.batches for trail in report.trails),
        trails=len(report.trails),
        codes={code.value: count for code, count in sorted(report.log.counts.items())},
        findings=tuple(report.log.kept),
    )


@dataclass(frozen=True, slots=True)
class Exercise:
    """What came of the tampering.

    Attributes:
        control: The verdict on the untouched copy.
        restored: Whether the copy had the same bytes and the same verdict in the end.
        origins: The trails that were tampered with, the first choice first.
        results: One a tampering, in the order of the catalogue.
    """

    control: Verdict
    restored: bool
    origins: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def tried(self) -> int:
        """How many tamperings were tried that have to be caught."""
        return sum(result.exit_code is not None and result.tampering.expectation is Expectation.CAUGHT for result in self.results)

    @property
    def caught(self) -> int:
        """How many of those were caught."""
        return sum(result.outcome is Outcome.CAUGHT and result.tampering.expectation is Expectation.CAUGHT for result in self.results)

    @property
    def faults(self) -> int:
        """How many could not be prepared, because the program met something that it does not know."""
        return sum(result.outcome is Outcome.FAULT for result in self.results)

    @property
    def failed(self) -> bool:
        """Whether something was not caught, or wrongly."""
        return any(result.outcome.failed for result in self.results)


class Drill:
    """One exercise over one copy."""

    def __init__(
        self,
        folder: Path,
        *,
        trust: TrustFile,
        now: datetime,
        seed: int,
        clock_seconds: Callable[[], float],
        origin_glob: str | None = None,
        keep: Callable[[Tampering, Change, Report], None] = lambda *_: None,
    ) -> None:
        """Prepare.

        Args:
            folder: The copy; another folder beside it is used as well.
            trust: Whom the verifier believes.
            now: The moment by which everything is judged.
            seed: Where every choice comes from.
            clock_seconds: A clock that measures durations.
            origin_glob: Tamper with these trails only.
            keep: Called while a tampered copy is there, with what was done and what `verify` said.
        """
        self._folder, self._trust, self._now, self._seed = folder, trust, now, seed
        self._clock, self._glob, self._keep = clock_seconds, origin_glob, keep
        self._untouched: dict[object, Report] = {}

    def run(
        self,
        *,
        catalogue: Sequence[Tampering] = CATALOGUE,
        begin: Callable[[int], None] = lambda _: None,
        advance: Callable[[str], None] = lambda _: None,
    ) -> Exercise:
        """Do every tampering.

        Args:
            catalogue: What to do.
            begin: Called with how many there are.
            advance: Called with the name of each after it was done.

        Raises:
            NotVerifiedError: No trail of the copy is vouched for by the trust file.
        """
        before = digest(self._folder)
        control = self._verify(self._folder, self._plain())
        sites = self._sites(control)
        lies = self._stand_ins(sites)
        begin(len(catalogue))
        results: list[Result] = []
        for tampering in catalogue:
            results.append(self._try(tampering, lies if tampering.who is Who.THIEF else sites))
            advance(tampering.name)
        after = verdict_of(self._verify(self._folder, self._plain()))
        restored = digest(self._folder) == before and after == verdict_of(control)
        return Exercise(verdict_of(control), restored, tuple(str(site.origin) for site in sites), tuple(results))

    def _plain(self) -> Change:
        return Change(objects={}, done="nothing", names=())

    def _verify(self, folder: Path, asked: Change) -> Report:
        """Verify a copy, asked the way a change says."""
        moment = asked.moment or self._now
        options = Options(
            trust=TrustFile((*self._trust.bindings, *asked.trusted)),
            fresh=asked.fresh,
            expected=asked.expected,
        )
        secret = sha256(f"drill/{self._seed}".encode()).digest()
        return verify_store(DirectoryReader(folder), options, now=moment, secret=secret, elapsed_seconds=lambda: asked.later_seconds)

    # ---- where ----------------------------------------------------------------------------------------------------------------

    def _sites(self, control: Report) -> list[Site]:
        store = DirectoryReader(self._folder)
        origins = [trail.origin for trail in control.trails]
        forked = {claim.link.origin for claim in read_claims(store, origins).values() if claim.link.why is ContinuesWhy.FORK}
        able = [
            trail
            for trail in control.trails
            if trail.tally.trusted_by is not None and (self._glob is None or matches_origin(self._glob, str(trail.origin)))
        ]
        if not able:
            raise NotVerifiedError(
                "no trail of the copy is vouched for by the trust file, so no drill can show anything",
                hint="`trailseal verify STORE --trust FILE` says which keys are unknown.",
            )
        best = sorted(able, key=lambda trail: (_worth(trail, forked=str(trail.origin) in forked), str(trail.origin)), reverse=True)
        return [self._site(store, trail.origin, origins) for trail in best[:MOST_SITES]]

    def _site(self, store: StoreReader, origin: Origin, origins: Iterable[Origin]) -> Site:
        others = tuple(other for other in origins if other != origin)
        return Site(store, origin, notes_of(store, origin), others, self._trust, self._now, self._seed)

    def _stand_ins(self, sites: Iterable[Site]) -> list[Site]:
        """Make the stand-ins for lies under a right signature, each in a folder of its own beside the copy."""
        made: list[Site] = []
        for number, site in enumerate(sites):
            folder = self._folder.parent / f"{self._folder.name}-stand-in-{number}"
            signer = SigningKey.from_seed(str(site.origin), sha256(f"drill/{self._seed}/stand-in/{number}".encode()).digest())
            try:
                objects = stand_in(replace(site, name="stand-in"), signer)
                refuse_outside(folder, objects)
            except (UntriedError, TrailsealError):
                continue
            for key, raw in objects.items():
                put(folder, key, raw, self._now.timestamp())
            reader = DirectoryReader(folder)
            made.append(replace(self._site(reader, site.origin, [site.origin]), stand_in=signer))
        return made

    # ---- one tampering ----------------------------------------------------------------------------------------------------------

    def _try(self, tampering: Tampering, sites: Iterable[Site]) -> Result:
        began = self._clock()
        reasons: list[str] = []
        for site in sites:
            named = replace(site, name=tampering.name)
            try:
                change = tampering.act(named)
                refuse_outside(self._folder_of(named), change.objects)
            except UntriedError as error:
                reasons.append(str(error))
                continue
            except TrailsealError as error:
                reasons.append(error.message)
                continue
            except Exception as error:  # noqa: BLE001 -- the store is hostile, and one bad place must not end the whole drill
                why = f"{type(error).__name__}: {error}"
                return Result(tampering=tampering, outcome=Outcome.FAULT, done=why, seconds=self._clock() - began)
            return self._do(tampering, change, named, began)
        why = reasons[0] if reasons else "no trail could be sealed anew with a key that stands in for its own"
        return Result(tampering=tampering, outcome=Outcome.NOT_TRIED, done=why, seconds=self._clock() - began)

    def _folder_of(self, site: Site) -> Path:
        """Return where a site's objects are: the copy, or the stand-in's folder beside it."""
        return self._folder if site.stand_in is None else Path(site.store.name)

    def _do(self, tampering: Tampering, change: Change, site: Site, began: float) -> Result:
        folder = self._folder_of(site)
        if site.stand_in is not None:
            pattern = f"{site.origin.namespace}/{site.origin.service}/*/{site.origin.instance}"
            change = replace(change, trusted=(*change.trusted, Binding(pattern, site.stand_in.verifier)))
        untouched = self._before(folder, change)
        with changed(folder, change.objects, linked=change.linked, modified=self._now.timestamp()):
            touched = self._verify(folder, change)
            self._keep(tampering, change, touched)
        outcome, found = judge(tampering, change, untouched, touched)
        if outcome is Outcome.NOT_TRIED:
            why = "the copy has so many findings of the wanted kind that one more cannot be told from them"
            return Result(tampering=tampering, outcome=outcome, done=why, seconds=self._clock() - began)
        return Result(
            tampering=tampering,
            outcome=outcome,
            done=change.done,
            found=found,
            exit_code=touched.severity.exit_code,
            untouched_exit_code=untouched.severity.exit_code,
            objects=len(change.objects) + len(change.linked),
            seconds=self._clock() - began,
        )

    def _before(self, folder: Path, asked: Change) -> Report:
        """Return the verdict on the untouched copy, asked the same."""
        question = (folder, asked.moment, asked.later_seconds, asked.fresh, asked.expected, asked.trusted)
        if question not in self._untouched:
            self._untouched[question] = self._verify(folder, asked)
        return self._untouched[question]


def _worth(trail: TrailReport, *, forked: bool) -> tuple[int, ...]:
    """Return how well a trail serves: sound and with much to tamper with before large."""
    tally = trail.tally
    return (
        trail.severity <= Severity.INCOMPLETE,
        tally.batches >= 4 and tally.events >= 4,
        not forked,
        tally.gaps > 0,
        min(tally.batches, 100),
    )


def judge(tampering: Tampering, change: Change, untouched: Report, touched: Report) -> tuple[Outcome, tuple[Finding, ...]]:
    """Decide what became of a tampering.

    Args:
        tampering: What was to be found.
        change: What was done.
        untouched: What `verify` says of the copy as it was.
        touched: What it says of the copy as it is.

    Returns:
        The outcome, and the findings that are new. Not tried: so many of the kind are there already that a new one shows nowhere.
    """
    known = set(untouched.log.kept)
    kept = Counter((finding.origin, finding.code) for finding in known)
    full = {kind for kind, count in kept.items() if count >= MAX_KEPT_PER_CODE_AND_TRAIL}
    # Of a kind of which more were found than are kept, another one may be kept now: that makes it no new one.
    found = tuple(finding for finding in touched.log.kept if finding not in known and (finding.origin, finding.code) not in full)
    right = [finding for finding in found if finding.code in tampering.must and _is_about(finding, change)]
    wrong = [finding for finding in found if finding.code not in tampering.must | tampering.may]
    if tampering.expectation is Expectation.LIMIT:
        # Better than documented is no failure, but the documentation is to be mended then.
        return (Outcome.CAUGHT if right else Outcome.AS_DOCUMENTED), found
    if wrong:
        return Outcome.MISREAD, found
    if not right and any(code in tampering.must for _, code in full):
        return Outcome.NOT_TRIED, found
    return (Outcome.CAUGHT if right else Outcome.MISSED), found


def _is_about(finding: Finding, change: Change) -> bool:
    told = (finding.origin or "", finding.key or "", finding.message)
    in_place = finding.batch is None or not change.batches or finding.batch in change.batches
    return in_place and any(name in text for name in change.names for text in told)
