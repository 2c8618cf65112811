"""What a verification can find: the closed list of codes, how bad each is, and the log that collects them.

Invariants: every finding has a code of `Code`; a code always has the same severity; the worst severity decides the exit
code and is never lost, however many findings there are. The log keeps a bounded number of findings in full and counts the
rest, so memory stays flat on a store where everything is wrong. This module must not look at a store.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

import msgspec

MAX_KEPT_PER_SEVERITY: Final = 1000
MAX_KEPT_PER_CODE_AND_TRAIL: Final = 50


class Severity(IntEnum):
    """How bad a finding is; a greater number wins (trail-format, "What `verify` checks, and how it ends")."""

    NOTICE = 0
    INCOMPLETE = 1
    UNVERIFIED = 2
    TAMPERED = 3

    @property
    def exit_code(self) -> int:
        """The exit code a verification ends with when nothing is worse."""
        return (0, 11, 12, 10)[self]

    @property
    def verdict(self) -> str:
        """The word for it in tables and in JSON."""
        return ("intact", "incomplete", "not verified", "tampered")[self]


class Explanation(NamedTuple):
    """What a code stands for.

    Attributes:
        severity: How bad it is.
        meaning: One sentence saying what was found.
        hint: One sentence saying what a person can do next.
    """

    severity: Severity
    meaning: str
    hint: str


class Code(StrEnum):
    """The closed list of findings; `EXPLANATIONS` says what each means."""

    SEAL_MISSING = "seal_missing"
    SEAL_MALFORMED = "seal_malformed"
    SEAL_MISPLACED = "seal_misplaced"
    SIGNATURE_WRONG = "signature_wrong"
    PROOF_WRONG = "proof_wrong"
    PREVIOUS_WRONG = "previous_wrong"
    ROOT_WRONG = "root_wrong"
    SEQ_BROKEN = "seq_broken"
    DATA_MISSING = "data_missing"
    DATA_ALTERED = "data_altered"
    DATA_KEY_WRONG = "data_key_wrong"
    DATA_MALFORMED = "data_malformed"
    COUNTS_WRONG = "counts_wrong"
    WINDOW_WRONG = "window_wrong"
    POSITION_WRONG = "position_wrong"
    TOTALS_WRONG = "totals_wrong"
    OFFSETS_OVERLAP = "offsets_overlap"
    REASON_WRONG = "reason_wrong"
    MONOTONIC_BACKWARDS = "monotonic_backwards"
    LINK_WRONG = "link_wrong"
    TWO_SUCCESSORS = "two_successors"
    DELETE_MARKER = "delete_marker"
    VERSION_ALTERED = "version_altered"
    VERSION_GONE = "version_gone"
    STORE_EMPTY = "store_empty"
    KEY_UNKNOWN = "key_unknown"
    OBJECT_UNREADABLE = "object_unreadable"
    CHECK_FAILED = "check_failed"
    RETENTION_WEAK = "retention_weak"
    LEVEL_NOT_REACHED = "level_not_reached"
    GAP = "gap"
    BYTES_UNACCOUNTED = "bytes_unaccounted"
    SILENCE = "silence"
    UNCLOSED = "unclosed"
    NOT_FRESH = "not_fresh"
    HEAD_IN_FUTURE = "head_in_future"
    TAIL_MISSING = "tail_missing"
    PREDECESSOR_ABSENT = "predecessor_absent"
    RESTARTED_UNLINKED = "restarted_unlinked"
    DATA_UNSEALED = "data_unsealed"
    EXPECTED_ABSENT = "expected_absent"
    EXPECTED_LATE = "expected_late"
    DATA_IN_FLIGHT = "data_in_flight"
    FORK_REMAINS = "fork_remains"
    FOREIGN_OBJECT = "foreign_object"
    FOREIGN_TRAIL = "foreign_trail"
    WENT_ON = "went_on"
    LINK_UNCHECKED = "link_unchecked"
    AWAY = "away"
    CLOCK_BACKWARDS = "clock_backwards"
    RENAMED = "renamed"
    VERSION_REPEATED = "version_repeated"
    RETENTION_EXPIRED = "retention_expired"
    NOT_ATTESTED = "not_attested"

    @property
    def severity(self) -> Severity:
        """How bad every finding of this code is."""
        return EXPLANATIONS[self].severity


_T, _U, _I, _N = Severity.TAMPERED, Severity.UNVERIFIED, Severity.INCOMPLETE, Severity.NOTICE
_KEEP: Final = "Change nothing; keep a copy of the store, and compare with another store or a backup of the same trail."
_AGENT: Final = "The agent's key signed this contradiction: suspect a defect or a stolen key; keep the store and the agent's state."
_OVERWRITTEN: Final = (
    "Find out in the store's access log who wrote it; the oldest version is the one that was verified, so keep all of them."
)
_LINK: Final = "Find the instance's other epochs and who opened this one; two agents may share one identity."

EXPLANATIONS: Final[dict[Code, Explanation]] = {
    Code.SEAL_MISSING: Explanation(_T, "A seal is absent although later ones of the trail are there.", _KEEP),
    Code.SEAL_MALFORMED: Explanation(_T, "An object where a seal belongs is not a seal.", _KEEP),
    Code.SEAL_MISPLACED: Explanation(_T, "A seal lies under the key of another batch or of another trail.", _KEEP),
    Code.SIGNATURE_WRONG: Explanation(_T, "A checkpoint is not signed by the key it has to be signed by.", _KEEP),
    Code.PROOF_WRONG: Explanation(_T, "A manifest is not the newest leaf of the tree its checkpoint signs.", _KEEP),
    Code.PREVIOUS_WRONG: Explanation(_T, "A manifest names another previous seal than the one that is stored.", _KEEP),
    Code.ROOT_WRONG: Explanation(_T, "The tree recomputed from the stored bytes has another root than the signed one.", _KEEP),
    Code.SEQ_BROKEN: Explanation(_T, "The numbers of the leaves have a gap or an overlap.", _KEEP),
    Code.DATA_MISSING: Explanation(_T, "A sealed data object is absent.", _KEEP),
    Code.DATA_ALTERED: Explanation(_T, "A data object has another size or SHA-256 than was sealed.", _KEEP),
    Code.DATA_KEY_WRONG: Explanation(_T, "A manifest names another key for its data than the trail format gives it.", _AGENT),
    Code.DATA_MALFORMED: Explanation(_T, "A data object is not what its manifest says it is: one zstd frame of numbered records.", _AGENT),
    Code.COUNTS_WRONG: Explanation(_T, "A manifest counts other records than the data holds.", _AGENT),
    Code.WINDOW_WRONG: Explanation(_T, "A manifest states other earliest or latest times than the data has.", _AGENT),
    Code.POSITION_WRONG: Explanation(_T, "A record's position lies outside the range its batch accounts for, or goes back.", _AGENT),
    Code.TOTALS_WRONG: Explanation(_T, "A manifest's totals are not the sums over the trail.", _AGENT),
    Code.OFFSETS_OVERLAP: Explanation(_T, "A source's range begins before the end of its last one, and no rollback is stated.", _AGENT),
    Code.REASON_WRONG: Explanation(_T, "Batches follow each other in an order that the trail format forbids.", _AGENT),
    Code.MONOTONIC_BACKWARDS: Explanation(_T, "The monotonic clock went back within one run of one boot.", _AGENT),
    Code.LINK_WRONG: Explanation(_T, "A trail continues a tree that the trail it names never had.", _LINK),
    Code.TWO_SUCCESSORS: Explanation(_T, "Two trails continue the same one.", _LINK),
    Code.DELETE_MARKER: Explanation(_T, "A delete marker was put on an object of a trail.", _OVERWRITTEN),
    Code.VERSION_ALTERED: Explanation(_T, "A key has a further version with other bytes than its oldest one.", _OVERWRITTEN),
    Code.VERSION_GONE: Explanation(
        _T,
        "A version that the store listed is no longer there.",
        "Something removes versions: the store's access log says who.",
    ),
    Code.STORE_EMPTY: Explanation(_U, "No trail was found.", "Check the store's address and the --origin pattern."),
    Code.KEY_UNKNOWN: Explanation(
        _U,
        "The trust file binds no key to this trail that vouches for it.",
        "Compare the key's fingerprint with the agent's owner, then add the line that `trailseal trust STORE` prints.",
    ),
    Code.OBJECT_UNREADABLE: Explanation(_U, "An object is there but cannot be read.", "Check the permissions, then verify again."),
    Code.CHECK_FAILED: Explanation(
        _U, "A check ended in an error of the program.", "Report the message; nothing of this trail is vouched for."
    ),
    Code.RETENTION_WEAK: Explanation(
        _U,
        "A version has no retention, or a shorter or weaker one than the policy.",
        "Compare the policy with the bucket's default and with who may change retention; lock the versions again for as long as it takes.",
    ),
    Code.LEVEL_NOT_REACHED: Explanation(
        _U, "The level that --level demands was not reached.", "The message says what it lacks; other findings say where."
    ),
    Code.GAP: Explanation(
        _I, "A gap record states a loss.", "The record says what was lost and how sure that is; look for the source's own copies."
    ),
    Code.BYTES_UNACCOUNTED: Explanation(
        _I, "Bytes of a source are in no batch and no gap record.", "Look for the source's own copies of that range."
    ),
    Code.SILENCE: Explanation(
        _I, "More than three heartbeats passed between two batches of a running agent.", "Find out why the agent hung."
    ),
    Code.UNCLOSED: Explanation(
        _I,
        "The trail was not ended, and its head is older than three heartbeats.",
        "See whether the agent runs and reaches the store; if it does, the newest seals were removed.",
    ),
    Code.NOT_FRESH: Explanation(_I, "The head is older than --fresh allows.", "See whether the agent should be running."),
    Code.HEAD_IN_FUTURE: Explanation(
        _I, "The head is dated in the future, so its age says nothing.", "Compare the clocks of agent and verifier."
    ),
    Code.TAIL_MISSING: Explanation(
        _I, "The next epoch continues a head that is not in the store.", "The newest seals of the older trail are gone."
    ),
    Code.PREDECESSOR_ABSENT: Explanation(
        _I, "A trail continues one that is not in the store.", "It expired, lies elsewhere, or was removed."
    ),
    Code.RESTARTED_UNLINKED: Explanation(_I, "An instance began a second trail that continues none.", _LINK),
    Code.DATA_UNSEALED: Explanation(
        _I,
        "A data object has had no seal for over ten minutes.",
        "Its seal was removed or never written; the object itself proves nothing.",
    ),
    Code.EXPECTED_ABSENT: Explanation(_I, "An expected trail is absent.", "See whether its agent runs and reaches this store."),
    Code.EXPECTED_LATE: Explanation(_I, "An expected trail begins after its `since`.", "Look for its earlier epochs."),
    Code.DATA_IN_FLIGHT: Explanation(_N, "A data object behind the head is younger than ten minutes and has no seal.", "Nothing to do."),
    Code.FORK_REMAINS: Explanation(_N, "A data object without a seal is what a fork left behind.", "Keep it: it is evidence of the fork."),
    Code.FOREIGN_OBJECT: Explanation(_N, "An object belongs to no trail.", "Ask who put it there; nothing here vouches for it."),
    Code.FOREIGN_TRAIL: Explanation(
        _N, "A trail is not among the expected ones.", "Add it to the expected file, or find out who writes it."
    ),
    Code.WENT_ON: Explanation(
        _N, "A trail goes on after the point at which another continued it.", "Normal after a fork; find the other writer."
    ),
    Code.LINK_UNCHECKED: Explanation(_N, "A trail continues one that --origin left out.", "Verify without --origin to check the link."),
    Code.AWAY: Explanation(_N, "The agent did not run for a while, and the trail says so.", "Compare with what is known about the host."),
    Code.CLOCK_BACKWARDS: Explanation(
        _N, "The wall clock went back between two batches.", "The order is that of the seq; times there are less sure."
    ),
    Code.RENAMED: Explanation(
        _N, "A trail continues one of another namespace, service or instance.", "Compare with when the agent was given another name."
    ),
    Code.VERSION_REPEATED: Explanation(
        _N,
        "A key has a further version with the same bytes as its oldest one.",
        "Normal where a server does not keep create-if-absent: a reply was lost, and the agent wrote again.",
    ),
    Code.RETENTION_EXPIRED: Explanation(
        _N, "The retention of a version is over.", "It can be deleted now; keep a copy if it is needed for longer."
    ),
    Code.NOT_ATTESTED: Explanation(
        _N, "Locks and versions were not attested.", "The message says why; what the trail itself proves is not affected."
    ),
}


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One thing a verification found.

    Attributes:
        code: What it is.
        message: One sentence for a person, with the figures.
        origin: The trail; None where it is about the store.
        batch: The batch's number, where there is one.
        key: The object's key, where it is about one object.
        first_seq: The first leaf concerned, as far as it can be pinned.
        last_seq: The last leaf concerned.
    """

    code: Code
    message: str
    origin: str | None = None
    batch: int | None = None
    key: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.code.severity

    @property
    def hint(self) -> str:
        """What a person can do next."""
        return EXPLANATIONS[self.code].hint


class FindingLog:
    """Collects findings in the order in which they were made, in bounded memory.

    Attributes:
        kept: The findings kept in full.
        counts: How often each code was found, kept or not.
        worst: The worst severity so far.
    """

    def __init__(self) -> None:
        """Begin with nothing found."""
        self.kept: list[Finding] = []
        self.counts: Counter[Code] = Counter()
        self.worst = Severity.NOTICE
        self._per_trail: dict[str | None, Severity] = {}
        self._kept_of: Counter[tuple[str | None, Code] | Severity] = Counter()

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room."""
        self.counts[finding.code] += 1
        self.worst = max(self.worst, finding.severity)
        self._per_trail[finding.origin] = max(self._per_trail.get(finding.origin, Severity.NOTICE), finding.severity)
        place = (finding.origin, finding.code)
        # Room is per severity, so that a flood of lesser findings cannot hide what a worse one says.
        if self._kept_of[finding.severity] < MAX_KEPT_PER_SEVERITY and self._kept_of[place] < MAX_KEPT_PER_CODE_AND_TRAIL:
            self._kept_of[place] += 1
            self._kept_of[finding.severity] += 1
            self.kept.append(finding)

    def worst_of(self, origin: str) -> Severity:
        """Return the worst severity found in one trail."""
        return self._per_trail.get(origin, Severity.NOTICE)

    @property
    def omitted(self) -> int:
        """How many findings were counted but not kept."""
        return self.counts.total() - len(self.kept)
