"""Check an evidence pack offline: every hash, proof and signature, and that its parts belong to each other.

Invariants: a pack is judged by the trust that is given here, never by what it says of itself; the first fault does not hide the others;
an event counts as proven only if its bytes lead to a root that the trail's key signed. What a pack states about completeness is shown,
and cannot be checked here. This module must not print, and asks no store, no index and no network.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from ...errors import FormatError, IntegrityError, ProofError, TrailsealError
from ...trail.note import open_note
from ...trail.proof import TlogProof
from ...trail.record_lines import strip_seq
from ...trail.seal import open_seal, parse_seal
from ..findings import Severity
from ..trustfile import MAX_SEAL_BYTES, TrustFile
from . import packing
from .checking import MAX_LEAF_BYTES, MAX_PROOF_BYTES, describe, read_opening
from .packzip import MAX_ENTRIES, PackFile
from .page import PageParts, PageTrail
from .proven import Proven
from .renderingcheck import CheckedRendering, Declared, RenderingCheck
from .telling import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ...trail.note import VerifierKey

MAX_FAULTS: Final = 100
_MANIFEST_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^\r\n]+)")
_STATED: Final = {"complete": Severity.NOTICE, "incomplete": Severity.INCOMPLETE}


class _QueryTrail(msgspec.Struct, frozen=True):
    origin: str
    folder: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9._-]+\Z")]
    events: Annotated[int, msgspec.Meta(ge=1)]


class _Query(msgspec.Struct, frozen=True):
    format: Literal[1]
    events: Annotated[int, msgspec.Meta(ge=0, le=packing.MAX_EVENTS)]
    trails: tuple[_QueryTrail, ...]
    renderings: tuple[Declared, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it has to be.

    Attributes:
        severity: How bad it is.
        place: The file in the pack.
        message: One sentence.
    """

    severity: Severity
    place: str
    message: str


@dataclass(slots=True)
class CheckedTrail:
    """A trail of the pack.

    Attributes:
        origin: Its name.
        key: The epoch's key, if its opening seal holds.
        vouched_by: The trusted key that vouches for it.
        size: The leaves that its checkpoint signs; 0 if that does not hold.
        events: How many events of it the pack claims.
        proven: How many of them are.
    """

    origin: str
    key: VerifierKey | None = None
    vouched_by: VerifierKey | None = None
    size: int = 0
    events: int = 0
    proven: int = 0
    note: bytes = b""
    opening: bytes = b""


@dataclass(slots=True)
class PackReport:
    """What a check found.

    Attributes:
        events: How many events the pack holds.
        proven: How many of them are proven, under keys that are vouched for or not.
        trails: The trails.
        faults: What is wrong, in the order in which it was met; at most `MAX_FAULTS`.
        counts: How many faults there are of each severity.
        query: ``query.json`` as it is.
        completeness: ``completeness.json`` as it is.
        renderings: The renderings that the pack says it holds.
        page_is_ours: Whether the page is, byte for byte, what this version makes of the pack; None if that was not found out.
    """

    events: int = 0
    proven: int = 0
    trails: list[CheckedTrail] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    counts: dict[Severity, int] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    completeness: dict[str, Any] = field(default_factory=dict)
    renderings: list[CheckedRendering] = field(default_factory=list)
    page_is_ours: bool | None = None

    @property
    def severity(self) -> Severity:
        """The worst fault."""
        return max(self.counts, default=Severity.NOTICE)

    def add(self, severity: Severity, place: str, message: str) -> None:
        """Note a fault."""
        self.counts[severity] = self.counts.get(severity, 0) + 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(severity, place, message))


def check_pack(
    path: Path,
    trust: TrustFile,
    *,
    advance: Callable[[int, int], None] = lambda _done, _all: None,
    own_page: IO[bytes] | None = None,
    folder: Path | None = None,
) -> PackReport:
    """Check a pack.

    Args:
        path: The zip file.
        trust: Whom the auditor believes.
        advance: Called with how many events are done, and how many there are.
        own_page: Where to write the page anew, from what was checked.
        folder: Where temporary files lie meanwhile, which have no names there; the system's folder for such files if None.

    Raises:
        ConfigError: It cannot be opened, or is no zip file.
    """
    with PackFile(path) as pack:
        check = _Check(pack, trust, advance)
        with PageParts(folder) as parts:
            check.run(own_page, parts)
    return check.report


class _Check:
    """One check."""

    def __init__(self, pack: PackFile, trust: TrustFile, advance: Callable[[int, int], None]) -> None:
        self._pack, self._trust, self._advance = pack, trust, advance
        self._listed: dict[str, str] = {}
        self._refused: dict[tuple[VerifierKey, bytes], str] = {}
        self.report = PackReport()

    def run(self, own_page: IO[bytes] | None, parts: PageParts) -> None:
        self._check_manifest()
        self.report.query = self._document(packing.QUERY)
        self.report.completeness = self._document(packing.COMPLETENESS)
        self._check_stated()
        try:
            query = msgspec.convert(self.report.query, _Query)
        except msgspec.ValidationError as error:
            self._tampered(packing.QUERY, f"it does not say which trails the events belong to: {error}")
            return
        if sum(trail.events for trail in query.trails) != query.events or len({trail.folder for trail in query.trails}) < len(query.trails):
            self._tampered(packing.QUERY, "its counts or folders contradict each other")
            return
        if len({trail.origin for trail in query.trails}) < len(query.trails):
            # Else each of its events could stand there again and count again.
            self._tampered(packing.QUERY, "it lists a trail twice")
            return
        if len({one.rendering for one in query.renderings}) < len(query.renderings):
            self._tampered(packing.QUERY, "it names a rendering twice")
            return
        self._check_names(query)
        if not query.events:
            self.report.add(Severity.UNVERIFIED, packing.EVENTS, "the pack holds no event, so nothing in it is signed")
        self._check_events(query, own_page, parts)
        self._check_keys()

    def _tampered(self, place: str, message: str) -> None:
        self.report.add(Severity.TAMPERED, place, message)

    def _check_manifest(self) -> None:
        pack = self._pack
        for name in pack.twice:
            self._tampered(name, "several entries have this name")
        listed = self._listed
        try:
            for line in pack.lines(packing.MANIFEST, 4096):
                found = _MANIFEST_LINE.fullmatch(line.decode("utf-8", "backslashreplace"))
                if not found or found[2] in listed:
                    raise FormatError("a line is not a SHA-256 and a name, or names a file again")
                if len(listed) >= MAX_ENTRIES:
                    raise FormatError("it lists more files than any pack has")
                listed[found[2]] = found[1]
        except FormatError as error:
            self._tampered(packing.MANIFEST, error.message)
            return
        for name in sorted(pack.sizes.keys() - listed.keys() - {packing.MANIFEST}):
            self._tampered(name, f"it is not listed in {packing.MANIFEST}")
        for name, digest in listed.items():
            try:
                if pack.hash(name) != digest:
                    self._tampered(name, f"its SHA-256 is not the one in {packing.MANIFEST}")
            except FormatError as error:
                self._tampered(name, error.message)

    def _check_names(self, query: _Query) -> None:
        """Refuse what is no file of a pack: nothing would check it, and beside proven records it would pass for one of them."""
        known = {*packing.FILES, *(packing.rendering_name(one.rendering) for one in query.renderings)}
        for trail in query.trails:
            known |= {packing.opening_name(trail.folder), packing.head_name(trail.folder)}
        # Which proofs belong here is found out with the events.
        for name in sorted(name for name in self._listed.keys() & self._pack.sizes.keys() - known if not name.startswith("proofs/")):
            self._tampered(name, f"it is no file of a pack that {packing.QUERY} tells of")

    def _document(self, name: str) -> dict[str, Any]:
        try:
            document = json.loads(self._pack.read(name, packing.MAX_DOCUMENT_BYTES))
            if not isinstance(document, dict):
                raise FormatError("it is no JSON object")
        except FormatError as error:
            self._tampered(name, error.message)
        except (ValueError, RecursionError) as error:
            self._tampered(name, f"it is not JSON: {error}")
        else:
            return document
        return {}

    def _check_stated(self) -> None:
        """Pass on what the exporter states: it is shown, and makes a verdict worse, never better."""
        said = self.report.completeness.get("statement")
        word = said.get("verdict") if isinstance(said, dict) else None
        severity = _STATED.get(word, Severity.UNVERIFIED) if isinstance(word, str) else Severity.UNVERIFIED
        if severity > Severity.NOTICE:
            self.report.add(severity, packing.COMPLETENESS, f"the exporter's own statement is: {word}")
        if self.report.completeness.get("not_proven"):
            self.report.add(Severity.UNVERIFIED, packing.COMPLETENESS, "the exporter states that events match which could not be proven")

    def _check_events(self, query: _Query, own_page: IO[bytes] | None, parts: PageParts) -> None:
        unused = {name for name in self._pack.sizes if name.startswith("proofs/")}
        table = sha256(packing.csv_line(packing.COLUMNS).encode())
        renderings = RenderingCheck(query.renderings)
        self.report.renderings = renderings.renderings
        lines = self._lines()
        done = 0
        for number, named in enumerate(query.trails):
            trail = self._check_trail(named)
            before, missing = -1, named.events
            for leaf in islice(lines, named.events):
                before, proven = self._judge(trail, named, leaf, before, unused)
                if proven is not None:
                    table.update(packing.table_line(named.origin, proven.seq, leaf).encode())
                    renderings.take(named.origin, proven.seq, leaf)
                    parts.add(number, named.origin, proven)
                missing, done = missing - 1, done + 1
                self._advance(done, query.events)
            if missing:
                self._tampered(packing.EVENTS, f"{missing} events of {named.origin} are missing")
        left = sum(1 for _ in lines)
        self.report.events = query.events + left
        if left:
            self._tampered(packing.EVENTS, f"{left} more lines than events")
        for name in sorted(unused):
            self._tampered(name, "it is the proof of no event in this pack")
        if self.report.proven == self.report.events:
            self._compare_table(table.hexdigest())
            renderings.compare(self._pack, self.report.add)
        if self.report.severity < Severity.TAMPERED:
            self._make_page(own_page, parts)

    def _lines(self) -> Iterator[bytes]:
        try:
            yield from self._pack.lines(packing.EVENTS, MAX_LEAF_BYTES)
        except FormatError as error:
            self._tampered(packing.EVENTS, error.message)

    def _check_trail(self, named: _QueryTrail) -> CheckedTrail:
        trail = CheckedTrail(named.origin, events=named.events)
        self.report.trails.append(trail)
        place = packing.opening_name(named.folder)
        try:
            trail.opening = self._pack.read(place, MAX_SEAL_BYTES)
            opening = read_opening(trail.opening, named.origin, self._trust.keys_for(named.origin))
            place = packing.head_name(named.folder)
            head = parse_seal(self._pack.read(place, MAX_SEAL_BYTES))
            checkpoint, verified = open_seal(head, named.origin, (opening.key,))
            if not verified:
                raise ProofError(f"the checkpoint is not signed by {opening.key.name} (key id {opening.key.key_id.hex()})")
        except IntegrityError as error:
            self._tampered(place, error.message)
            return trail
        trail.key, trail.vouched_by, trail.size, trail.note = opening.key, opening.vouched_by, checkpoint.size, head.proof.note
        if trail.vouched_by is None:
            self.report.add(Severity.UNVERIFIED, place, f"nobody you trust vouches for the key of {named.origin}")
        return trail

    def _judge(self, trail: CheckedTrail, named: _QueryTrail, leaf: bytes, before: int, unused: set[str]) -> tuple[int, Proven | None]:
        """Check an event; return its number (or the one before it, where it has none) and what was proven."""
        seq, place = before, packing.EVENTS
        try:
            seq, _ = strip_seq(leaf)
            if seq <= before:
                raise FormatError(f"seq {seq} of {named.origin} stands after {before}")
            leaf.decode()
            if describe(leaf).get("kind") != "event":
                # Manifests and quarantined lines are leaves, too, and have proofs as good as any.
                raise FormatError(f"seq {seq} of {named.origin} is no event")
            place = packing.proof_name(named.folder, seq)
            unused.discard(place)
            proof = TlogProof.parse(self._pack.read(place, MAX_PROOF_BYTES))
            self._check_proof(trail, proof, seq, leaf)
        except IntegrityError as error:
            self._tampered(place, error.message)
        except UnicodeDecodeError:
            self._tampered(place, f"seq {seq} of {named.origin} is not UTF-8")
        else:
            trail.proven += 1
            self.report.proven += 1
            return seq, Proven(seq, leaf, proof)
        return max(seq, before), None

    def _check_proof(self, trail: CheckedTrail, proof: TlogProof, seq: int, leaf: bytes) -> None:
        if trail.key is None:
            raise ProofError("its trail's seals do not hold, so nothing is proven by it")
        if proof.index != seq:
            raise ProofError(f"it is the proof of leaf {proof.index}")
        proof.check(leaf, (), trail.origin)
        if proof.note == trail.note:
            # The head's signature was verified with its seal, and these are the same bytes.
            return
        # A pack may be put together of several, so that its proofs lead to several checkpoints; each of them is verified once. What is
        # kept of it is short, because each could be as long as a note may be.
        known = (trail.key, sha256(proof.note).digest())
        if known not in self._refused:
            self._refused[known] = _why_not_signed(proof.note, trail.key)
        if refused := self._refused[known]:
            raise ProofError(refused)

    def _compare_table(self, digest: str) -> None:
        try:
            if self._pack.hash(packing.TABLE) != digest:
                self._tampered(packing.TABLE, f"it does not say what {packing.EVENTS} says")
        except FormatError as error:
            self._tampered(packing.TABLE, error.message)

    def _check_keys(self) -> None:
        """See that the lines for the auditor's trust file are about the keys that signed."""
        try:
            said = TrustFile.parse(self._pack.read(packing.KEYS, packing.MAX_DOCUMENT_BYTES).decode(), packing.KEYS)
        except (TrailsealError, UnicodeDecodeError) as error:
            self._tampered(packing.KEYS, error.message if isinstance(error, TrailsealError) else "it is not UTF-8")
            return
        expected = {(trail.origin, trail.key) for trail in self.report.trails}
        if {(binding.pattern, binding.key) for binding in said.bindings} != expected:
            self._tampered(packing.KEYS, "its keys are not those that signed the trails")

    def _make_page(self, own_page: IO[bytes] | None, parts: PageParts) -> None:
        trails = [
            PageTrail(trail.origin, trail.size, trail.note.decode(), str(trail.key), trail.opening.decode()) for trail in self.report.trails
        ]
        ours = sha256()
        for piece in parts.page(trails, facts(self.report.query, self.report.completeness)):
            ours.update(piece)
            if own_page is not None:
                own_page.write(piece)
        try:
            self.report.page_is_ours = self._pack.hash(packing.PAGE) == ours.hexdigest()
        except FormatError as error:
            self._tampered(packing.PAGE, error.message)


def _why_not_signed(note: bytes, key: VerifierKey) -> str:
    """Return why a checkpoint is not signed by a key; nothing if it is."""
    try:
        _, verified = open_note(note, (key,))
    except IntegrityError as error:
        return error.message
    return "" if verified else f"its checkpoint is not signed by {key.name} (key id {key.key_id.hex()})"
