"""One event: what the service said, its proof, made and verified for this very page, and what belongs to it.

Invariants: an event that may not be seen and one that is not there give the same answer; a proof is only called verified if it was, now,
from the store's bytes. This module must not say why a store could not be read in words of the store.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from ....errors import TrailsealError
from ....trail.layout import Origin
from ....trail.note import parse_note
from ....trail.seal import parse_seal
from ...ask.correlation import Finding, correlate
from ...ask.filters import Filter
from ...ask.found import parsed
from ...ask.search import event
from ...evidence.proofs import TrailProver, read_head
from ...report import printable
from ..guard import LOG, visit_of
from ..problems import NotThere, Unavailable

if TYPE_CHECKING:
    from ...ask.found import Found
    from ...evidence.proven import Proven
    from ..guard import Visit
    from ..sight import Sight

_MAX_DEPTH: Final = 8
_MOST_RELATED: Final = 3
_MAX_PATH_CHARACTERS: Final = 200
_REFERENCES: Final = frozenset({"approval", "change", "correlation", "request", "ticket", "trace"})
_MAX_ROWS: Final = 100
_WHY: Final = (
    "The record could not be read from the store again, or is not what was sealed. The operator's log says what happened; "
    "`trailseal verify` says it to you yourself."
)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the page says of the proof.

    Attributes:
        holds: Whether it was verified.
        index: The leaf.
        size: The tree's size.
        root: The root, hex.
        key: Whose signature was verified.
        trusted_by: Who vouches for that key.
        leaf_sha256: Hex.
        record: The exact record as text.
        why: Why it does not hold.
    """

    holds: bool
    index: int = 0
    size: int = 0
    root: str = ""
    key: str = ""
    trusted_by: str | None = None
    leaf_sha256: str = ""
    record: str | None = None
    why: str = ""


async def show_event(request: web.Request) -> web.StreamResponse:
    """Answer ``/event/<origin>/<seq>``."""
    visit, origin, seq = _asked(request)
    values = await visit.ask(lambda sight: _look(visit, sight, origin, seq))
    here = f"/event/{origin}/{seq}"
    return visit.page("event.html", here=here, file=_file_name(origin, seq), by_client=partial(by_client, values["one"].client), **values)


async def send_proof(request: web.Request) -> web.StreamResponse:
    """Answer ``/event/<origin>/<seq>/proof``."""
    visit, origin, seq = _asked(request)
    proven = await visit.ask(lambda sight: _proven(visit, sight, origin, seq))
    return _file(proven.proof.encode(), f"{_file_name(origin, seq)}.tlog-proof", "text/plain")


async def send_leaf(request: web.Request) -> web.StreamResponse:
    """Answer ``/event/<origin>/<seq>/leaf``."""
    visit, origin, seq = _asked(request)
    proven = await visit.ask(lambda sight: _proven(visit, sight, origin, seq))
    return _file(proven.leaf, f"{_file_name(origin, seq)}.leaf", "application/octet-stream")


def _asked(request: web.Request) -> tuple[Visit, str, int]:
    visit = visit_of(request)
    info = request.match_info
    visit.trace.action = "view.event"
    try:
        origin = str(Origin.parse("/".join(info[name] for name in ("namespace", "service", "epoch", "instance"))))
    except TrailsealError:
        raise NotThere from None
    visit.trace.target = ("event", f"{origin}#{info['seq']}")
    return visit, origin, int(info["seq"])


def _file(body: bytes, name: str, kind: str) -> web.Response:
    return web.Response(body=body, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _file_name(origin: str, seq: int) -> str:
    """Return a file's name; the parts of an origin are letters, digits, dots, dashes and underscores."""
    return f"{origin.replace('/', '_')}_{seq}"


def _found(visit: Visit, sight: Sight, origin: str, seq: int) -> Found:
    one = event(sight, origin, seq, visit.grant.scope, visit.desk.catalog)
    if one is None:
        raise NotThere
    return one


def _proven(visit: Visit, sight: Sight, origin: str, seq: int) -> Proven:
    """Prove an event that may be seen; nothing else can be had this way."""
    _found(visit, sight, origin, seq)
    try:
        head = read_head(sight, origin)
        proven = next(TrailProver(sight, visit.desk.store, head).prove((seq,)))
        if len(parse_note(parse_seal(head.opening).proof.note).signatures) > 1:
            # Who trusts an enrolment key needs the opening seal, in which it signed the epoch's key.
            return proven._replace(proof=replace(proven.proof, extra=head.opening))
        return proven
    except TrailsealError as error:
        LOG.warning("no proof of %s seq %d: %s", origin, seq, printable(error.message))
        raise Unavailable("The proof could not be made and verified.") from error


def _look(visit: Visit, sight: Sight, origin: str, seq: int) -> dict[str, Any]:
    """Ask everything that the page shows; runs in a thread."""
    one = _found(visit, sight, origin, seq)
    return {"one": one, "proof": _proof(visit, sight, one), "context": flat(parsed(one.context)), "related": _related(visit, sight, one)}


def _proof(visit: Visit, sight: Sight, one: Found) -> Proof:
    try:
        head = read_head(sight, one.origin)
        proven = next(TrailProver(sight, visit.desk.store, head).prove((one.seq,)))
    except TrailsealError as error:
        LOG.warning("no proof of %s seq %d: %s", one.origin, one.seq, printable(error.message))
        return Proof(holds=False, why=_WHY)
    rows = sight.rows("SELECT trusted_by FROM trails WHERE origin = ?", [one.origin])
    return Proof(
        holds=True,
        index=proven.seq,
        size=head.size,
        root=head.frontier.root().hex(),
        key=str(head.key),
        trusted_by=rows[0][0] if rows else None,
        leaf_sha256=hashlib.sha256(proven.leaf).hexdigest(),
        record=proven.leaf.decode("utf-8", "backslashreplace"),
    )


@dataclass(frozen=True, slots=True)
class Related:
    """Events that carry the same value at the same place of their context.

    Attributes:
        field: The place.
        value: The value.
        found: The others that may be seen; empty: none.
    """

    field: str
    value: str
    found: tuple[Found, ...]


def _related(visit: Visit, sight: Sight, one: Found) -> list[Related]:
    """Return what else carries a value by which this event refers to others."""
    made = []
    near = Filter(text=one.event_id, since=one.occurred_at, until=one.occurred_at + timedelta(microseconds=1))
    for path in references(parsed(one.context))[:_MOST_RELATED]:
        pairs = correlate(sight, near, path, visit.grant.scope, visit.desk.catalog)
        pair = next((each for each in pairs.pairs if each.event.reference == one.reference), None)
        if pair is not None and pair.finding is not Finding.NO_VALUE and pair.value is not None:
            made.append(Related(path, pair.value, pair.counterparts))
    return made


def references(context: Any) -> list[str]:
    """Return the paths of a context's values that look like names of something else; approvals first."""
    if not isinstance(context, dict):
        return []
    paths = []
    for key, value in context.items():
        if isinstance(value, dict):
            paths += [f"context.{key}.{inner}" for inner, each in value.items() if _refers(inner, each) and "." not in key + inner]
        elif _refers(key, value) and "." not in key:
            paths.append(f"context.{key}")
    return sorted((path for path in paths if len(path) <= _MAX_PATH_CHARACTERS), key=lambda path: "approv" not in path)


def _refers(key: str, value: Any) -> bool:
    named = key == "id" or key.endswith("_id") or key in _REFERENCES
    return bool(key) and named and isinstance(value, (str, int)) and not isinstance(value, bool)


def by_client(client: list[str] | None, name: str) -> bool:
    """Tell whether a field, or one that holds it, is among those whose values the service took from its client as they were."""
    return any(name == each or name.startswith((f"{each}.", f"{each}[")) for each in client or ())


def flat(value: Any, path: str = "context", depth: int = 0) -> list[tuple[str, str]]:
    """Return a context as lines: a dotted path and a value."""
    if value is None and depth == 0:
        return []
    if isinstance(value, dict) and value and depth < _MAX_DEPTH:
        lines = [line for key, each in value.items() for line in flat(each, f"{path}.{key}", depth + 1)]
    elif isinstance(value, list) and value and depth < _MAX_DEPTH:
        lines = [line for at, each in enumerate(value) for line in flat(each, f"{path}[{at}]", depth + 1)]
    else:
        lines = [(path, value if isinstance(value, str) else json.dumps(value))]
    return lines[:_MAX_ROWS]
