"""The commands `prove` and `export`, which make evidence of an indexed store.

Invariants: nothing is overwritten unless told to, and no file is half written; what nobody vouches for is written, said to be so,
and ends with 12. The commands are thin: everything is decided elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...errors import ConfigError, NotVerifiedError
from ..ask.filters import is_unicode
from ..ask.options import asking_options, given_catalog, taken_filter
from ..index.cli import OpenedStore, index_options
from ..trustfile import fingerprint, matches_origin
from .offline.cli import verify_pack_command, verify_proof_command
from .packing import DEFAULT_EVENTS, MAX_EVENTS, RENDERINGS

if TYPE_CHECKING:
    from ..fetch import StoreReader
    from ..index import Index
    from .proven import Proven

__all__ = ["export_command", "prove_command", "verify_pack_command", "verify_proof_command"]

_MAX_LISTED: Final = 20

_PROVE_HELP = """Write the proof that a record is in a signed trail.

ORIGIN is the trail (namespace/service/epoch/instance, or a pattern that matches one trail only), SEQ the record's number in it;
or name an event by --event-id. Two files are written: SERVICE-SEQ.tlog-proof, a C2SP tlog-proof, and SERVICE-SEQ.leaf, the
record's exact bytes. `trailseal verify-proof` checks them anywhere, without the store. The record is read from the store again.

\b
Examples:
  trailseal prove /srv/trail 'acme/payments/*/web-1' 1041 --trust trust.txt
  trailseal prove /srv/trail --event-id 01JH2K8Q9R3W --trust trust.txt --out evidence/

\b
Exit codes: 0 written, and your trust file vouches for the key; 12 written, but nobody vouches for the key, or nothing can be proven;
10 the store was changed after it was indexed; 1 the program failed; 2 usage.
"""


@click.command("prove", help=_PROVE_HELP)
@index_options
@click.argument("origin", required=False)
@click.argument("seq", required=False, type=click.IntRange(min=0))
@click.option("--event-id", metavar="ID", help="The event, by its own id, in place of ORIGIN and SEQ.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=".", metavar="FOLDER", help="Where the files go; here by default."
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
def prove_command(  # noqa: D103 -- click shows the help text
    *, opened: OpenedStore, origin: str | None, seq: int | None, event_id: str | None, out: Path, force: bool
) -> None:
    if (origin is None or seq is None) == (event_id is None):
        raise click.UsageError("name a record: by ORIGIN and SEQ, or by --event-id")
    store = store_of(opened)
    if event_id is not None:
        if origin is not None:
            raise click.UsageError("--event-id stands in place of ORIGIN and SEQ")
        origin, seq = _find_event(opened.index, event_id)
    else:
        origin = _find_trail(opened.index, origin or "")
    sys.exit(_prove(opened, store, origin, seq or 0, out, force=force))


def store_of(opened: OpenedStore) -> StoreReader:
    """Return the store, which every proof is made from."""
    if opened.store is None:
        raise click.UsageError("a proof is made of the stored bytes, so --no-refresh cannot be given here")
    return opened.store


def _find_trail(index: Index, wanted: str) -> str:
    from ..report import printable

    origins = [trail.origin for trail in index.trails()]
    matching = [wanted] if wanted in origins else [origin for origin in origins if matches_origin(wanted, origin)]
    if len(matching) == 1:
        return matching[0]
    if not matching:
        raise NotVerifiedError(f"the index has no trail {wanted}", hint="`trailseal verify STORE` lists the trails; check the spelling.")
    raise ConfigError(
        f"{len(matching)} trails match {printable(wanted)}: {', '.join(matching[:_MAX_LISTED])}", hint="Write out which one is meant."
    )


def _find_event(index: Index, event_id: str) -> tuple[str, int]:
    if not is_unicode(event_id):
        raise ConfigError("the id is not valid Unicode, so no event has it", key="--event-id", hint="Write it in UTF-8.")
    sql = "SELECT origin, seq, occurred_at, action FROM events WHERE event_id = ? ORDER BY origin, seq LIMIT ?"
    rows = index.rows(sql, [event_id, _MAX_LISTED + 1])
    if not rows:
        raise NotVerifiedError(f"no verified event has the id {event_id}", hint="`trailseal query STORE --text ID` looks for a part of it.")
    if len(rows) == 1:
        return rows[0][0], rows[0][1]
    listed = "; ".join(f"{origin} {seq} ({occurred_at}, {action})" for origin, seq, occurred_at, action in rows[:_MAX_LISTED])
    more = ", and more" if len(rows) > _MAX_LISTED else ""
    raise ConfigError(f"several events have the id {event_id}: {listed}{more}", hint="Name the one that is meant by ORIGIN and SEQ.")


def _prove(opened: OpenedStore, store: StoreReader, origin: str, seq: int, out: Path, *, force: bool) -> int:
    """Write one proof, say what it proves, and return the exit code."""
    from dataclasses import replace

    from ...trail.note import parse_note
    from ..writing import new_pair, refuse_existing
    from .checking import read_opening
    from .proofs import TrailProver, read_head

    head = read_head(opened.index, origin)
    opening = read_opening(head.opening, origin, opened.trust.keys_for(origin))
    stem = out / f"{head.origin.service}-{seq}"
    # Not with_suffix: a service's name may hold dots.
    proof_path, leaf_path = Path(f"{stem}.tlog-proof"), Path(f"{stem}.leaf")
    for path in (proof_path, leaf_path):
        refuse_existing(path, force=force)
    (proven,) = TrailProver(opened.index, store, head).prove([seq])
    proof = proven.proof
    if len(parse_note(parse_opening_note(head.opening)).signatures) > 1:
        # An enrolment key vouches for this trail; who trusts that key needs the opening seal, in which it signed the epoch's key.
        proof = replace(proof, extra=head.opening)
    with new_pair(proof_path, leaf_path, lambda _: proven.leaf, force=force) as made:
        made.write_bytes(proof.encode())
    for line in _told(proven, origin, proof_path, leaf_path):
        click.echo(line)
    click.echo(f"  {'signed by':<10}{opening.key}\n  {'':<10}fingerprint {fingerprint(opening.key)}")
    if opening.vouched_by is None:
        click.echo("  Nobody vouches for this key: compare its fingerprint with the service's owner, and pass --trust FILE (exit 12).")
        return NotVerifiedError.exit_code
    if opening.vouched_by != opening.key:
        click.echo(f"  {'enrolled':<10}by {opening.vouched_by}")
    return 0


def parse_opening_note(raw: bytes) -> bytes:
    """Return the signed checkpoint in an opening seal."""
    from ...trail.seal import parse_seal

    return parse_seal(raw).proof.note


def _told(proven: Proven, origin: str, proof_path: Path, leaf_path: Path) -> list[str]:
    from ...trail.checkpoint import Checkpoint
    from ...trail.note import parse_note
    from ..report import printable
    from .checking import describe
    from .showing import summary

    size = Checkpoint.parse(parse_note(proven.proof.note).text).size
    return [
        f"seq {proven.seq:,} of {origin}",
        *(f"  {name:<10}{printable(value)}" for name, value in summary(describe(proven.leaf))),
        f"  {'record':<10}{printable(str(leaf_path))}, its {len(proven.leaf):,} exact bytes",
        f"  {'proof':<10}{printable(str(proof_path))}: with these {len(proven.proof.hashes)} hashes, the record leads to the root of the",
        f"  {'':<10}{size:,} leaves that the trail's newest checkpoint signs",
        f"  {'check':<10}trailseal verify-proof {printable(proof_path.name)} --leaf {printable(leaf_path.name)} --trust FILE",
    ]


_EXPORT_HELP = """Hand events over in one zip file, with the proof of each.

The same filters as `trailseal query`. The pack holds the events' exact bytes, their proofs, the seals and keys, a statement of
completeness, a README for the auditor, and a page that checks everything in a browser without a network; `trailseal verify-pack`
checks it, too. Every proof is verified before it goes in. Redaction is not possible: a proof is of the whole record.
With --rendering the events are in the pack in the words of OCSF or ECS, too: a copy for other tools, which `verify-pack` makes again.

\b
Examples:
  trailseal export /srv/trail --trust trust.txt --action role.grant --since 2026-03-01 --until 2026-06-01 \\
      --correlate context.approval_id --counterpart role.approve --pack grants.zip
  trailseal export /srv/trail --trust trust.txt --actor 'ada@*' --service payments --pack ada.zip
  trailseal export /srv/trail --trust trust.txt --since 2026-03-01 --rendering ocsf --rendering ecs --pack march.zip

\b
Exit codes: 0 written, everything proven under keys your trust file vouches for; 12 written, but not everything could be proven, or
nobody vouches for a key; 10 the store was changed after it was indexed, nothing is written; 1 the program failed; 2 usage. How complete
the answer is, is stated in the pack and printed; with --strict the exit code says it, too (10, 11, 12).
"""


@click.command("export", help=_EXPORT_HELP)
@index_options
@asking_options
@click.option("--pack", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE", help="The zip file to write.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_EVENTS),
    default=DEFAULT_EVENTS,
    show_default=True,
    help=f"The most events that a pack may hold, at most {MAX_EVENTS}; with more, nothing is written.",
)
@click.option(
    "--rendering",
    "renderings",
    multiple=True,
    type=click.Choice(RENDERINGS),
    help="Add the events in the words of this schema, made of the records; may be given several times.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
@click.option("--strict", is_flag=True, help="End with the statement's exit code if the answer is not complete.")
@click.option("--quiet", is_flag=True, help="Print the closing line only, and no progress bar.")
def export_command(  # noqa: D103 -- click shows the help text
    *, opened: OpenedStore, pack: Path, force: bool, strict: bool, quiet: bool, **options: Any
) -> None:
    from datetime import UTC, datetime

    from ..writing import refuse_existing
    from .bar import progress
    from .pack import write_pack
    from .selecting import Question
    from .showpack import export_lines

    store = store_of(opened)
    if options["counterpart"] and options["correlate"] is None:
        raise click.UsageError("--counterpart belongs to --correlate: give both, or neither")
    refuse_existing(pack, force=force)
    catalog_file = options.pop("catalog")
    question = Question(taken_filter(options), catalog=given_catalog(catalog_file), catalog_file=catalog_file, **options)
    with progress("proving", wanted=not quiet) as advance:
        packed = write_pack(pack, opened.index, store, question, trust=opened.trust, now=datetime.now(UTC), force=force, advance=advance)
    for line in export_lines(packed, pack)[-1 if quiet else 0 :]:
        click.echo(line)
    sys.exit(max(packed.severity, packed.statement.severity).exit_code if strict else packed.exit_code)
