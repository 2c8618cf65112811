"""One trail from its first seal to its head: signatures, hash chain, Merkle tree, data, books.

Invariants: memory holds one batch, the tree's frontier and the books; every seal is judged even when others are damaged, so
that a report names each damaged place and only those: after a damaged place the chain is taken up again from the next seal's
own inclusion proof, and what that proof cannot show is not called right. This module must not list a store or read the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ..errors import FormatError, NotVerifiedError, ProofError
from ..trail.layout import seal_key
from ..trail.manifest import Continues
from ..trail.merkle import EMPTY_ROOT, Frontier, leaf_hash, verify_inclusion
from ..trail.note import VerifierKey, open_note
from ..trail.seal import parse_seal
from .account import NOTHING, Account, Carried
from .contents import EMPTY, Contents, check_contents, expected_data_key, is_data_key
from .findings import Code, Finding, Severity
from .links import Walk
from .tally import Checked, Met, Standing, Tally
from .trustfile import MAX_SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..trail.checkpoint import Checkpoint
    from ..trail.layout import Origin
    from ..trail.manifest import Manifest
    from ..trail.seal import Seal
    from .contents import GapRecord, Report
    from .fetch import StoreReader
    from .findings import FindingLog

MAX_DATA_BYTES: Final = 64 << 20
MAX_RAW_BYTES: Final = 64 << 20
_OPENING_SIGNATURES: Final = 2


@dataclass(slots=True)
class _Place:
    """Where the chain stands: the next batch, the tree before it, the SHA-256 of the seal before it (None: not known)."""

    batch: int = 0
    frontier: Frontier | None = field(default_factory=Frontier.empty)
    previous: str | None = None


def _ignore(*_: object, **__: object) -> None:
    """Take a report and do nothing, where a worse finding is the reason for it."""


class TrailChecker:
    """Checks the seals of one trail, in their order.

    Attributes:
        tally: What was counted.
        account: The books.
        links: Of the sizes asked for, those that were met, with what was there; every trail begins with the empty tree.
    """

    def __init__(  # noqa: PLR0913 -- what a check is given, each by its name
        self,
        origin: Origin,
        store: StoreReader,
        log: FindingLog,
        *,
        trusted: tuple[VerifierKey, ...],
        carried: Carried,
        wanted_sizes: frozenset[int] = frozenset(),
        mark: Callable[[str], int],
        advance: Callable[[int], None],
        sink: Callable[[Checked], None] | None = None,
    ) -> None:
        """Begin before batch 0.

        Args:
            origin: The trail.
            store: Where its objects are read from.
            log: Where findings go.
            trusted: The keys that the trust file binds to the origin.
            carried: What the trail before it had read; see `Account`.
            wanted_sizes: Tree sizes that other trails say they continue.
            mark: A keyed hash of an object key, for `Tally.sealed_sum`.
            advance: Called with the number of bytes read.
            sink: Takes each batch after it was checked.
        """
        self.origin = origin
        self.tally = Tally()
        self.account = Account(carried)
        self.links: dict[int, Met] = {0: Met(EMPTY_ROOT, NOTHING)}
        self._store, self._log = store, log
        self._trusted, self._wanted = trusted, wanted_sizes
        self._mark, self._advance, self._sink = mark, advance, sink
        self._place = _Place()
        self._now: tuple[int | None, str | None] = (None, None)
        self._found: Severity | None = None

    @property
    def walk(self) -> Walk:
        """What is known of the trail now, for those that say they continue it."""
        head = self.tally.head
        roots = {size: met.root.hex() for size, met in self.links.items()}
        return Walk(
            origin=self.origin,
            size=head.seq + 1 if head else 0,
            head_batch=head.batch if head else None,
            opened=self.tally.key is not None,
            continues=self.tally.continues,
            roots=roots,
        )

    @property
    def standing(self) -> Standing | None:
        """Where it stands; None while the tree before the next batch is not known."""
        place, key = self._place, self.tally.key
        if place.frontier is None:
            return None
        return Standing(place.batch, place.frontier.encode(), place.previous, None if key is None else str(key), self.account.books)

    def resume(self, standing: Standing) -> None:
        """Go on where another check of the same trail stood (FormatError if that is not what `standing` returned)."""
        self._place = _Place(standing.batch, Frontier.decode(standing.frontier), standing.previous)
        self.tally.key = None if standing.key is None else VerifierKey.parse(standing.key)
        self.account.reopen(standing.books)

    def report(self, code: Code, message: str, *, first_seq: int | None = None, last_seq: int | None = None) -> None:
        """Log a finding at the present batch and object."""
        batch, key = self._now
        self._found = max(self._found or Severity.NOTICE, code.severity)
        self._log.add(
            Finding(code=code, message=message, origin=str(self.origin), batch=batch, key=key, first_seq=first_seq, last_seq=last_seq)
        )

    def check(self, batch: int) -> None:
        """Check the next listed seal and its data; numbers must ascend.

        Raises:
            NotVerifiedError: An object is there but cannot be read.
        """
        key = seal_key(self.origin, batch)
        self._now, self._found = (batch, key), None
        if batch != self._place.batch:
            first, last = self._place.batch, batch - 1
            self._now = (first, seal_key(self.origin, first))
            self.report(Code.SEAL_MISSING, f"batch {first} is missing" if first == last else f"batches {first} to {last} are missing")
            self.lose(batch)
            # What is missing says nothing against what is there.
            self._now, self._found = (batch, key), None
        self.tally.head = None
        raw = self._store.read(key, MAX_SEAL_BYTES)
        if raw is None:
            self.report(Code.SEAL_MISSING, f"batch {batch} is listed, but is no object that can be opened")
            self.lose(batch + 1)
            return
        self._advance(len(raw))
        try:
            seal = parse_seal(raw)
        except FormatError as error:
            self.report(Code.SEAL_MALFORMED, error.message)
            self.lose(batch + 1)
            return
        if self._is_misplaced(seal, batch):
            self.lose(batch + 1)
            return
        self._check_chain(seal, seal.checkpoint())

    def _is_misplaced(self, seal: Seal, batch: int) -> bool:
        owner = seal.checkpoint().origin
        if owner != str(self.origin):
            self.report(Code.SEAL_MISPLACED, f"the seal of batch {seal.manifest.batch} of {owner} lies where batch {batch} belongs")
        elif seal.manifest.batch != batch:
            self.report(Code.SEAL_MISPLACED, f"the seal of batch {seal.manifest.batch} lies where batch {batch} belongs")
        else:
            return False
        return True

    def lose(self, next_batch: int) -> None:
        """Go on at a batch without knowing what was before it."""
        self._place = _Place(next_batch, None, None)
        self.account.forget()

    def _check_chain(self, seal: Seal, checkpoint: Checkpoint) -> None:
        manifest, place = seal.manifest, self._place
        if place.previous is not None and manifest.previous != place.previous:
            self.report(
                Code.PREVIOUS_WRONG, f"the manifest names {manifest.previous} as the previous seal; the stored one has {place.previous}"
            )
        signed = self._check_signatures(seal)
        proven = self._check_proof(seal, checkpoint)
        # Against a manifest that its own proof does not support, the data says nothing, unless the whole tree comes out right.
        contents = self._read_data(manifest, self.report if proven else _ignore)
        recomputed = self._check_tree(manifest, seal.manifest_line, contents, checkpoint, self.report if proven else _ignore)
        if proven and recomputed is None and place.frontier is not None and self._found is None:
            self.report(Code.CHECK_FAILED, "the tree was not recomputed, and no check says why")
        if not signed or not (proven or recomputed):
            # Nothing in this seal can be relied on; the next one is judged by itself.
            self.lose(manifest.batch + 1)
            return
        gaps = contents.gaps if contents else ()
        batch, sealed_under = self._now
        self._now = (batch, manifest.data.key if manifest.data else sealed_under)
        for gap in gaps:
            self._report_gap(gap)
        self._now = (batch, sealed_under)
        self.account.check(manifest, gaps, self.report)
        self._count(manifest, checkpoint)
        self._place = _Place(manifest.batch + 1, recomputed or seal.frontier(), sha256(seal.raw).hexdigest())
        if checkpoint.size in self._wanted:
            self.links[checkpoint.size] = Met(checkpoint.root, self.account.carried)
        if self._sink is not None and contents is not None:
            self._sink(Checked(seal, contents, self._found or Severity.NOTICE, recomputed is not None))

    def _report_gap(self, gap: GapRecord) -> None:
        begin = "an unknown start" if gap.from_offset is None else gap.from_offset
        end = "an unknown end" if gap.to_offset is None else gap.to_offset
        where = f"{gap.source}{f' ({gap.path})' if gap.path else ''}, bytes {begin} to {end}"
        message = f"seq {gap.seq}: {where}: {gap.cause.value}, {gap.certainty.value}. {gap.detail}"
        self.report(Code.GAP, message, first_seq=gap.seq, last_seq=gap.seq)

    def _check_signatures(self, seal: Seal) -> bool:
        """Check who signed, as far as keys are known; batch 0 also says which key that has to be from then on."""
        opening = not seal.manifest.batch
        key = self.tally.key
        if opening:
            said = seal.manifest.continues
            self.tally.continues = said if isinstance(said, Continues) else None
            try:
                key = self.tally.key = VerifierKey.parse(str(seal.manifest.key))
            except FormatError as error:
                self.report(Code.SIGNATURE_WRONG, f"the key it names cannot be used: {error.message}")
                return False
        # With the first seal lost, any key of the trust file may turn out to be the epoch's own.
        known = (key,) if key and not opening else tuple(dict.fromkeys((*((key,) if key else ()), *self._trusted)))
        try:
            note, verified = open_note(seal.proof.note, known)
        except ProofError as error:
            self.report(Code.SIGNATURE_WRONG, error.message)
            return False
        if opening:
            self.tally.trusted_by = next((other for other in known if other in verified and other in self._trusted), None)
        if known and (key not in verified if key else not verified):
            self.report(Code.SIGNATURE_WRONG, f"the checkpoint is not signed by {known[0].name} (key id {known[0].key_id.hex()})")
            return False
        signers = {(signature.name, signature.key_id) for signature in note.signatures}
        if len(note.signatures) > (_OPENING_SIGNATURES if opening else 1) or len(signers) < len(note.signatures):
            # Cosignatures lie beside a seal; a line more would change its bytes, which no later seal can show for the newest one.
            self.report(Code.SIGNATURE_WRONG, f"the checkpoint carries {len(note.signatures)} signatures")
            return False
        return True

    def _check_proof(self, seal: Seal, checkpoint: Checkpoint) -> bool:
        index = seal.proof.index
        try:
            if index != seal.manifest.seq or checkpoint.size != index + 1:
                raise ProofError(f"manifest {seal.manifest.seq}, proof {index} and tree size {checkpoint.size} do not fit together")
            verify_inclusion(index, checkpoint.size, leaf_hash(seal.manifest_line), seal.proof.hashes, checkpoint.root)
        except ProofError as error:
            self.report(Code.PROOF_WRONG, error.message)
            return False
        return True

    def _read_data(self, manifest: Manifest, report: Report) -> Contents | None:
        data = manifest.data
        if data is None:
            return EMPTY
        expected = expected_data_key(self.origin, manifest)
        batch, sealed_under = self._now
        if data.key != expected:
            report(Code.DATA_KEY_WRONG, f"it names {data.key!r} where {expected!r} follows from it")
            if not is_data_key(data.key):
                # It comes from the store, so only one of the right form may become a path.
                return None
        self.tally.sealed_keys += 1
        self.tally.sealed_sum += self._mark(data.key)
        self._now = (batch, data.key)
        try:
            if data.raw_bytes > MAX_RAW_BYTES:
                raise NotVerifiedError(f"{data.key} claims {data.raw_bytes} bytes; a verifier decompresses no more than {MAX_RAW_BYTES}")
            raw = self._store.read(data.key, MAX_DATA_BYTES)
            if raw is None:
                report(
                    Code.DATA_MISSING,
                    f"the data object with seq {manifest.records.first_seq} to {manifest.seq - 1} is missing",
                    first_seq=manifest.records.first_seq,
                    last_seq=manifest.seq - 1,
                )
                return None
            self.tally.data_bytes += len(raw)
            self.tally.raw_bytes += data.raw_bytes
            contents = check_contents(manifest, raw, report)
            self._advance(len(raw))
        except NotVerifiedError as error:
            report(Code.OBJECT_UNREADABLE, error.message)
            return None
        finally:
            self._now = (batch, sealed_under)
        return contents

    def _check_tree(
        self, manifest: Manifest, line: bytes, contents: Contents | None, checkpoint: Checkpoint, report: Report
    ) -> Frontier | None:
        """Recompute the tree from the stored bytes and compare its root; None if that is not possible."""
        before = self._place.frontier
        if before is None:
            return None
        first_seq = manifest.records.first_seq
        if first_seq != before.size:
            report(Code.SEQ_BROKEN, f"the batch begins at seq {first_seq}; {before.size} is the next one", first_seq=first_seq)
            return None
        if contents is None:
            return None
        after = before.extend(contents.hashes).append(leaf_hash(line))
        if after.size != checkpoint.size or after.root() != checkpoint.root:
            report(
                Code.ROOT_WRONG,
                f"seq {first_seq} to {manifest.seq}: the stored bytes give the root {after.root().hex()} at size {after.size}, "
                f"signed was {checkpoint.root.hex()} at size {checkpoint.size}",
                first_seq=first_seq,
                last_seq=manifest.seq,
            )
            return None
        return after

    def _count(self, manifest: Manifest, checkpoint: Checkpoint) -> None:
        tally, records = self.tally, manifest.records
        tally.batches += 1
        tally.records += records.count
        tally.events += records.events
        tally.quarantined += records.quarantined
        tally.gaps += records.gaps
        tally.first_time = tally.first_time or manifest.sealed_at
        tally.head, tally.head_root = manifest, checkpoint.root
