"""The commands `verify-proof` and `verify-pack`: what somebody runs who was handed evidence.

Invariants: they need neither a store nor an index nor a network, and nothing but the package's base; the exit code is the verdict's.
The commands are thin: everything is decided elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ....errors import ConfigError, FormatError, TrailsealError
from ....trail.note import VerifierKey
from ...cli import failing_clearly, origin_glob
from ...trustfile import Binding, TrustFile

if TYPE_CHECKING:
    from collections.abc import Sequence


_VERIFY_PROOF_HELP = """Check offline that a record is in a signed trail.

PROOF is a C2SP tlog-proof file, as `trailseal prove` writes it; --leaf names the file with the record's exact bytes. Neither the
store nor an index is needed. A key counts only if you vouch for it: by a trust file, or by --key.

\b
Examples:
  trailseal verify-proof payments-1041.tlog-proof --leaf payments-1041.leaf --trust trust.txt
  trailseal verify-proof payments-1041.tlog-proof --leaf payments-1041.leaf --key 'acme/payments/…+1f2e3d4c+AQ…'

\b
Exit codes:
   0  proven: the record is in the tree, and a key you vouch for signed it
  10  tampered: record, proof and signature do not belong together
  12  not verified: signed by a key nobody vouched for
   1  the program failed
   2  usage or a file named on the command line is wrong
"""


def given_trust(trust: Path | None, keys: Sequence[str], pattern: str | None) -> TrustFile:
    """Return whom a command line believes: a trust file, and single keys for all trails that are looked at.

    Raises:
        ConfigError: The file or a key is malformed.
    """
    bindings = TrustFile.load(trust).bindings if trust else ()
    for key in keys:
        try:
            bindings = (*bindings, Binding(pattern or "*/*/*/*", VerifierKey.parse(key)))
        except FormatError as error:
            raise ConfigError(error.message, key="--key", hint="Write <name>+<key id>+<base64>, as `trailseal trust` prints it.") from error
    return TrustFile(bindings)


@click.command("verify-proof", help=_VERIFY_PROOF_HELP)
@click.argument("proof", type=click.Path(path_type=Path))
@click.option("--leaf", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The record's exact bytes.")
@click.option("--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe: lines of `<origin pattern> <vkey>`.")
@click.option("--key", "keys", multiple=True, metavar="VKEY", help="A key to believe; may be given several times.")
@click.option("--origin", callback=origin_glob, metavar="GLOB", help="The trail it must be of, e.g. 'acme/payments/*/*'.")
@click.option(
    "--opening",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The trail's opening seal, where you trust an enrolment key; else the proof's own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verify_proof_command(  # noqa: D103 -- click shows the help text
    *, proof: Path, leaf: Path, trust: Path | None, keys: tuple[str, ...], origin: str | None, opening: Path | None, as_json: bool
) -> None:
    from ....trail.proof import TlogProof
    from ...trustfile import MAX_SEAL_BYTES
    from ...writing import read_file
    from ..checking import MAX_LEAF_BYTES, MAX_PROOF_BYTES, check_proof
    from ..showing import VERDICTS, failed_document, proven_document, told

    with failing_clearly():
        believed = given_trust(trust, keys, origin)
        raw_proof = read_file(proof, MAX_PROOF_BYTES)
        # A record is one line, so a newline that an editor put behind it is none of it.
        raw_leaf = read_file(leaf, MAX_LEAF_BYTES).removesuffix(b"\n")
        raw_opening = read_file(opening, MAX_SEAL_BYTES) if opening else None
        try:
            checked = check_proof(TlogProof.parse(raw_proof), raw_leaf, believed, origin_glob=origin, opening=raw_opening)
        except TrailsealError as error:
            if not as_json or error.exit_code not in VERDICTS:
                raise
            _print_json(failed_document(error))
            sys.exit(error.exit_code)
    if as_json:
        _print_json(proven_document(checked))
        return
    for line in told(checked):
        click.echo(line)


def _print_json(document: dict[str, Any]) -> None:
    # ASCII only, so that no encoding of a terminal or a pipe can refuse it, and no character of it can drive a terminal.
    click.echo(json.dumps(document, indent=2))


_VERIFY_PACK_HELP = """Check an evidence pack offline.

PACK is a zip file that `trailseal export` made. Every hash, proof and signature is checked; that events and proofs belong to each
other; and that the keys are yours to trust. What the pack states about completeness is the exporter's word: it is shown, and makes
the verdict worse, never better. Neither the store nor a network is needed.

\b
Examples:
  trailseal verify-pack grants.zip --trust trust.txt
  trailseal verify-pack grants.zip --trust trust.txt --page grants.html   (the page anew, from what was checked)

\b
Exit codes (the worst wins, in the order 10, 12, 11):
   0  every event is proven under keys you vouch for, and the exporter states that the answer is complete
  10  tampered: something in the pack is not what was sealed, or its parts do not belong together
  11  incomplete: the exporter states a loss, a missing batch or a silence
  12  not verified: a key nobody vouched for, or the exporter states that something did not verify
   1  the program failed
   2  usage or a file named on the command line is wrong
"""


@click.command("verify-pack", help=_VERIFY_PACK_HELP)
@click.argument("pack", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe: lines of `<origin pattern> <vkey>`.")
@click.option("--key", "keys", multiple=True, metavar="VKEY", help="A key to believe; may be given several times.")
@click.option("--page", type=click.Path(path_type=Path), metavar="FILE", help="Write the page anew, from what was checked.")
@click.option("--force", is_flag=True, help="Replace a page that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="Print the closing line only, and no progress bar.")
def verify_pack_command(  # noqa: D103 -- click shows the help text
    *, pack: Path, trust: Path | None, keys: tuple[str, ...], page: Path | None, force: bool, as_json: bool, quiet: bool
) -> None:
    import shutil
    import tempfile

    from ...findings import Severity
    from ...writing import new_file, refuse_existing
    from ..bar import progress
    from ..packcheck import check_pack
    from ..showpack import pack_document, pack_lines

    with failing_clearly():
        believed = given_trust(trust, keys, None)
        if page is not None:
            refuse_existing(page, force=force)
        folder = _folder_beside(page or pack)
        with tempfile.TemporaryFile(dir=folder) as own_page:
            with progress("checking", wanted=not quiet) as advance:
                report = check_pack(pack, believed, advance=advance, own_page=None if page is None else own_page, folder=folder)
            # Of a pack that was tampered with no page is made: it would lend it a face.
            if page is not None and report.severity < Severity.TAMPERED:
                own_page.seek(0)
                with new_file(page, force=force) as file:
                    shutil.copyfileobj(own_page, file)
    if as_json:
        _print_json(pack_document(report))
    else:
        for line in pack_lines(report)[-1 if quiet else 0 :]:
            click.echo(line)
    sys.exit(report.severity.exit_code)


def _folder_beside(path: Path) -> Path | None:
    """Return where temporary files belong: where the page or the pack lies, whose text is in them; None where nothing can be written."""
    return path.parent if os.access(path.parent, os.W_OK) else None
