"""Write an evidence pack: the events that answer a question, their proofs, and what an auditor needs to check them offline.

Invariants: every proof in a pack was verified before it went in, against the bytes that lie in the store now; an event that cannot be
proven is left out and counted, never passed over; the pack is written whole or not at all. Memory holds the numbers of the events,
never their bytes: those go through files. What is stated about completeness is the statement of `agent.reader.ask`. This module must
not decide what is asked, and must not print.
"""

from __future__ import annotations

import tempfile
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, Final

from ...errors import ConfigError, NotVerifiedError
from ..ask.naming import Names
from ..ask.statement import statement
from ..findings import Severity
from ..writing import new_file
from . import packing
from .checking import Opening, read_opening
from .counts import counts
from .page import PageParts, PageTrail
from .proofs import Head, TrailProver, read_head
from .rendered import Renderer
from .selecting import Question, Selection, select
from .telling import completeness_document, facts, keys_text, query_document, readme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from ...trail.note import VerifierKey
    from ..ask.statement import Statement
    from ..fetch import StoreReader
    from ..index import Index
    from ..trustfile import TrustFile
    from .proven import Proven

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class PackedTrail:
    """A trail in a pack.

    Attributes:
        origin: Its name.
        folder: Its folder's name below ``proofs/`` and ``seals/``.
        events: How many events of it are in the pack.
        size: The leaves of the tree that the proofs lead to.
        root: Its root, in hex.
        key: The epoch's key.
        vouched_by: The key of the exporter's trust file that vouches for it; None: nobody does.
    """

    origin: str
    folder: str
    events: int
    size: int
    root: str
    key: VerifierKey
    vouched_by: VerifierKey | None


@dataclass(frozen=True, slots=True)
class NotProven:
    """Events that match and are not in the pack.

    Attributes:
        origin: Their trail.
        events: How many.
        first_seq: The first of them.
        last_seq: The last of them.
        why: One sentence.
    """

    origin: str
    events: int
    first_seq: int
    last_seq: int
    why: str


@dataclass(frozen=True, slots=True)
class Packed:
    """What a pack holds.

    Attributes:
        events: How many events.
        trails: Of which trails, in the order of their origins.
        not_proven: What matches and is not in it.
        statement: The statement of completeness.
        selected: What was to go into it.
        renderings: The renderings in it, and the schema of each.
    """

    events: int
    trails: tuple[PackedTrail, ...]
    not_proven: tuple[NotProven, ...]
    statement: Statement
    selected: Selection
    renderings: tuple[tuple[str, str], ...] = ()

    @property
    def exit_code(self) -> int:
        """12 if something is not proven, or nobody vouches for a key; else 0."""
        return self.severity.exit_code

    @property
    def severity(self) -> Severity:
        """How bad it is that something is not proven or vouched for; what the statement says apart."""
        unsure = self.not_proven or any(trail.vouched_by is None for trail in self.trails)
        return Severity.UNVERIFIED if unsure else Severity.NOTICE


@dataclass(slots=True)
class _Parts:
    """The parts of a pack that grow with every event, in temporary files."""

    events: IO[bytes]
    table: IO[bytes]
    page: PageParts
    renderer: Renderer
    rendered: dict[str, IO[bytes]]
    folders: Names = field(default_factory=lambda: Names("-"))
    count: int = 0
    trails: list[PackedTrail] = field(default_factory=list)
    page_trails: list[PageTrail] = field(default_factory=list)
    not_proven: list[NotProven] = field(default_factory=list)


def write_pack(
    path: Path,
    index: Index,
    store: StoreReader,
    question: Question,
    *,
    trust: TrustFile,
    now: datetime,
    force: bool = False,
    advance: Callable[[int, int], None] = lambda _done, _all: None,
) -> Packed:
    """Write a pack.

    Args:
        path: The zip's name.
        index: The index, up to date.
        store: The store it is of.
        question: What is asked for.
        trust: Whom the exporter believes.
        now: The clock, aware, UTC.
        force: Whether a file that is there may be replaced.
        advance: Called with how many events are done, and how many there are.

    Raises:
        ConfigError: There are more events than the question allows, or more in them than a pack may have; something is there already,
            or the folder cannot be written.
        IntegrityError: The store is not what was indexed, and the message names the object; or a record cannot be rendered.
        NotVerifiedError: The store cannot be read.
    """
    selected = select(index, question)
    with new_file(path, force=force) as file, ExitStack() as stack:
        # Beside the pack, where there has to be room anyway: what is in them is for nobody who may not read the pack.
        events, table = (stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in range(2))
        page, renderer = stack.enter_context(PageParts(path.parent)), Renderer(question.renderings)
        rendered: dict[str, IO[bytes]] = {name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in renderer.names}
        parts = _Parts(events, table, page, renderer, rendered)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            zipped = _Zip(archive)
            _write_trails(zipped, parts, index, store, selected.wanted, trust, advance)
            stated = statement(
                index,
                question.filter,
                question.scope,
                now,
                catalog=question.catalog,
                matched=selected.matched,
                everywhere=question.correlate is not None,
                more=question.words,
            )
            packed = Packed(parts.count, tuple(parts.trails), tuple(parts.not_proven), stated, selected, renderer.schemas())
            _write_rest(zipped, parts, packed, question, completeness_document(packed, counts(index, question)), now)
            zipped.finish()
    return packed


def _write_trails(
    zipped: _Zip,
    parts: _Parts,
    index: Index,
    store: StoreReader,
    wanted: Sequence[tuple[str, int]],
    trust: TrustFile,
    advance: Callable[[int, int], None],
) -> None:
    parts.table.write(packing.csv_line(packing.COLUMNS).encode())
    done = 0
    for origin, group in groupby(wanted, key=lambda one: one[0]):
        seqs = [seq for _, seq in group]
        done += len(seqs)
        try:
            head = read_head(index, origin)
        except NotVerifiedError as error:
            parts.not_proven.append(NotProven(origin, len(seqs), seqs[0], seqs[-1], error.message))
            continue
        beyond = [seq for seq in seqs if seq >= head.size]
        if beyond:
            why = f"they lie beyond the {head.size:,} leaves to which everything was verified: something before them is missing or damaged"
            parts.not_proven.append(NotProven(origin, len(beyond), beyond[0], beyond[-1], why))
        _write_trail(zipped, parts, head, TrailProver(index, store, head), seqs[: len(seqs) - len(beyond)], trust)
        advance(done, len(wanted))


def _write_trail(zipped: _Zip, parts: _Parts, head: Head, prover: TrailProver, seqs: Sequence[int], trust: TrustFile) -> None:
    if not seqs:
        return
    origin = str(head.origin)
    folder = parts.folders.take(packing.folder_of(origin))
    opening = read_opening(head.opening, origin, trust.keys_for(origin))
    number = len(parts.trails)
    parts.trails.append(_packed_trail(head, folder, len(seqs), opening))
    parts.page_trails.append(
        PageTrail(origin, head.size, head.seal.proof.note.decode(), str(opening.key), head.opening.decode("utf-8", "strict"))
    )
    zipped.add(packing.opening_name(folder), head.opening)
    zipped.add(packing.head_name(folder), head.seal.raw)
    for proven in prover.prove(seqs):
        _refuse_what_is_no_text(proven, origin)
        zipped.add(packing.proof_name(folder, proven.seq), proven.proof.encode())
        parts.events.write(proven.leaf + b"\n")
        parts.table.write(packing.table_line(origin, proven.seq, proven.leaf).encode())
        for name, line in parts.renderer.lines(origin, proven.seq, proven.leaf):
            parts.rendered[name].write(line)
        parts.page.add(number, origin, proven)
        parts.count += 1


def _refuse_what_is_no_text(proven: Proven, origin: str) -> None:
    """Refuse a record that is not UTF-8: no agent writes one, and no page or table could show it as it is."""
    try:
        proven.leaf.decode()
    except UnicodeDecodeError as error:
        raise NotVerifiedError(f"seq {proven.seq} of {origin} is not UTF-8 text, so it is no record of the trail format") from error


def _packed_trail(head: Head, folder: str, events: int, opening: Opening) -> PackedTrail:
    root = head.seal.checkpoint().root.hex()
    return PackedTrail(str(head.origin), folder, events, head.size, root, opening.key, opening.vouched_by)


def _write_rest(zipped: _Zip, parts: _Parts, packed: Packed, question: Question, document: dict[str, Any], now: datetime) -> None:
    query = query_document(packed, question, now)
    zipped.add_file(packing.EVENTS, parts.events)
    zipped.add_file(packing.TABLE, parts.table)
    for name, file in parts.rendered.items():
        zipped.add_file(packing.rendering_name(name), file)
    if packed.selected.pairs:
        zipped.add_pieces(packing.PAIRS, (line.encode() for line in packed.selected.pairs))
    zipped.add(packing.KEYS, keys_text(packed.trails).encode())
    zipped.add_document(packing.QUERY, query)
    zipped.add_document(packing.COMPLETENESS, document)
    zipped.add(packing.README, readme(query, document).encode())
    zipped.add_pieces(packing.PAGE, parts.page.page(parts.page_trails, facts(query, document)))


class _Zip:
    """Writes entries, and remembers their hashes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._hashes: dict[str, str] = {}
        self._bytes = 0

    def add(self, name: str, raw: bytes) -> None:
        """Write a small file."""
        self._count(raw)
        self._hashes[name] = sha256(raw).hexdigest()
        self._archive.writestr(packing.entry(name), raw)

    def add_document(self, name: str, document: object) -> None:
        """Write a JSON document."""
        raw = packing.json_bytes(document)
        if len(raw) > packing.MAX_DOCUMENT_BYTES:
            raise _too_much(name, packing.MAX_DOCUMENT_BYTES)
        self.add(name, raw)

    def add_file(self, name: str, file: IO[bytes]) -> None:
        """Write what another file holds."""
        file.seek(0)
        self.add_pieces(name, iter(lambda: file.read(_CHUNK_BYTES), b""))

    def add_pieces(self, name: str, raw: Iterator[bytes]) -> None:
        """Write a file of any length."""
        hashed = sha256()
        with self._archive.open(packing.entry(name), "w", force_zip64=True) as entry:
            for piece in raw:
                self._count(piece)
                hashed.update(piece)
                entry.write(piece)
        self._hashes[name] = hashed.hexdigest()

    def finish(self) -> None:
        """Write the manifest, and list the files by name."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self._hashes.items())]
        manifest = "".join(lines).encode()
        self._count(manifest)
        self._archive.writestr(packing.entry(packing.MANIFEST), manifest)
        # The order in which a zip lists its files is that of its directory, whatever the order they were written in.
        self._archive.filelist.sort(key=lambda info: info.filename)

    def _count(self, raw: bytes) -> None:
        self._bytes += len(raw)
        if self._bytes > packing.MAX_PACK_BYTES:
            raise _too_much("the pack", packing.MAX_PACK_BYTES)


def _too_much(what: str, most_bytes: int) -> ConfigError:
    return ConfigError(
        f"{what} would have more than {most_bytes:,} bytes, which `trailseal verify-pack` refuses",
        hint="Ask for a shorter time or fewer services, and make several packs.",
    )
