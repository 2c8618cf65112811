"""Export: the answer as a file to take away; recorded with its hash before it leaves.

Invariants: a file is made whole before the first byte is sent, so that its SHA-256 is in the audit event and a failure is never half a
file; it lies beside the index, where only the owner reads and there is room, in a temporary file without a name, and goes with the answer;
there is a bound to every format. This module must not decide who may see what.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ....errors import ConfigError
from ...ask.correlation import json_pointer
from ...ask.rows import of_events
from ...ask.search import count, each
from ...ask.statement import statement
from ...ask.writers import write_csv, write_ndjson
from ...evidence.pack import write_pack
from ...evidence.selecting import Question
from ..guard import visit_of
from ..outgoing import Download
from ..parameters import pairs, read_filter, text
from ..problems import Malformed, TooMuch
from .search import chips, dict_of

if TYPE_CHECKING:
    from aiohttp import web

    from ...ask.filters import Filter
    from ..guard import Visit
    from ..sight import Sight

_PIECE_BYTES: Final = 1 << 20
_KINDS: Final = {"csv": "text/csv", "ndjson": "application/x-ndjson", "pack": "application/zip"}
_SUFFIXES: Final = {"csv": "csv", "ndjson": "ndjson", "pack": "zip"}


async def show_export(request: web.Request) -> web.StreamResponse:
    """Answer ``/export``: choose a format."""
    visit = visit_of(request)
    asked = read_filter(request.query)
    visit.trace.context["query"] = dict_of(pairs(asked))

    def look(sight: Sight) -> dict[str, Any]:
        desk, scope = visit.desk, visit.grant.scope
        total = count(sight, asked, scope, desk.catalog)
        return {"total": total, "said": statement(sight, asked, scope, desk.now(), catalog=desk.catalog, matched=total)}

    return visit.page("export.html", pairs=pairs(asked), chips=chips(asked), bounds=visit.desk.bounds, **await visit.ask(look))


async def send_export(request: web.Request) -> web.StreamResponse:
    """Answer ``/export/file``."""
    visit = visit_of(request)
    asked = read_filter(request.query)
    kind = text(request.query, "format") or "pack"
    trace = visit.trace
    trace.action = "view.export"
    correlate = _path(text(request.query, "correlate"))
    trace.context |= {"query": dict_of(pairs(asked)), "format": kind, **({} if correlate is None else {"correlate": correlate})}
    if kind not in _KINDS:
        raise Malformed("The format is csv, ndjson or pack.")

    def make(sight: Sight) -> tuple[IO[bytes], int, str, int]:
        made, events = _pack(visit, sight, asked, correlate) if kind == "pack" else _table(visit, sight, asked, kind)
        digest, size = _hashed(made)
        return made, events, digest, size

    bounds = visit.desk.bounds
    with visit.desk.outgoing.place() as keep:
        file, events, digest, size = await visit.ask(make, seconds=bounds.export_seconds)
        keep(file)
    visit.files.append(file)
    trace.context |= {"events": events, "sha256": digest, "bytes": size}
    name = f"trailseal-{visit.desk.now():%Y%m%dT%H%M%SZ}.{_SUFFIXES[kind]}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-SHA256": digest}
    return Download(request, file, seconds=bounds.sending_seconds, content_type=_KINDS[kind], headers=headers)


def remove_leftovers(index: Path) -> None:
    """Remove what a server that was killed left of packs; only for whoever holds the index for writing, which is one at a time.

    Args:
        index: The index's file.
    """
    for folder in index.parent.iterdir():
        if folder.name.startswith(_prefix(index)):
            shutil.rmtree(folder, ignore_errors=True)


def _prefix(index: Path) -> str:
    """Return how the names of temporary folders beside an index begin."""
    return f".{index.name}.export-"


def _hashed(file: IO[bytes]) -> tuple[str, int]:
    """Return the SHA-256 of a file and its length in bytes; it stands at its beginning afterwards."""
    hashed, size = hashlib.sha256(), 0
    file.seek(0)
    while piece := file.read(_PIECE_BYTES):
        hashed.update(piece)
        size += len(piece)
    file.seek(0)
    return hashed.hexdigest(), size


def _table(visit: Visit, sight: Sight, asked: Filter, kind: str) -> tuple[IO[bytes], int]:
    """Write events as CSV or NDJSON; the last line of NDJSON is the statement."""
    desk, scope = visit.desk, visit.grant.scope
    most = desk.bounds.export_events
    total = count(sight, asked, scope, desk.catalog)
    if total > most:
        raise TooMuch(f"More than {most:,} events match. Narrow the time or the filters.")
    # Not a context manager: the answer closes it.
    file = tempfile.TemporaryFile(dir=desk.index.path.parent)  # noqa: SIM115
    try:
        said = None
        if kind == "ndjson":
            said = statement(sight, asked, scope, desk.now(), catalog=desk.catalog, matched=total)
        found = each(sight, asked, scope, desk.catalog, limit=most)
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        if said is None:
            written = write_csv(of_events(found), text)
        else:
            written = write_ndjson((one.as_json() for one in found), text)
            write_ndjson([{"statement": said.as_json()}], text)
        text.detach()
    except BaseException:
        file.close()
        raise
    return file, written


def _path(given: str | None) -> str | None:
    """Return the path of a value that counterparts share."""
    if given is None:
        return None
    try:
        json_pointer(given)
    except ConfigError as error:
        # Its sentence is about what was written.
        raise Malformed(f"{error.message}. {error.hint}") from error
    return given


def _pack(visit: Visit, sight: Sight, asked: Filter, correlate: str | None) -> tuple[IO[bytes], int]:
    desk = visit.desk
    question = Question(asked, visit.grant.scope, desk.catalog, desk.bounds.pack_events, correlate)
    if count(sight, asked, visit.grant.scope, desk.catalog) > desk.bounds.pack_events:
        raise TooMuch(
            f"More than {desk.bounds.pack_events:,} events match, which is more than a pack may hold here. Narrow the time or the filters."
        )
    beside = desk.index.path
    with tempfile.TemporaryDirectory(prefix=_prefix(beside), dir=beside.parent) as folder:
        path = Path(folder) / "pack.zip"
        try:
            packed = write_pack(path, sight, desk.store, question, trust=desk.trust, now=desk.now())
        except ConfigError as error:
            raise TooMuch from error
        # Its name goes with the folder; the open file stays until it is sent.
        return path.open("rb"), packed.events
