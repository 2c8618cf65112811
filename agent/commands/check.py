"""The command `check`: is this configuration, and the state it names, fit to run with?"""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ..errors import StateError, TrailsealError
from .agent import CONFIG_OPTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config import Settings, Store
    from ..events.catalog import Catalog


class Finding(NamedTuple):
    """Be one line of the answer: what was looked at, whether it is fit, and what was seen."""

    what: str
    ok: bool
    detail: str


@click.command()
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: str, as_json: bool) -> int:  # noqa: FBT001  click passes options by name
    """Check a configuration file, the catalog, the stores' folders and the state directory; nothing is started.

    Exit code 0 if all is fit, 1 if something would go wrong, 2 if the configuration itself is wrong.
    """
    from ..config import load

    findings = list(examine(load(config, os.environ)))
    if as_json:
        click.echo(json.dumps({"ok": all(f.ok for f in findings), "findings": [f._asdict() for f in findings]}))
    else:
        width = max(len(f.what) for f in findings)
        for finding in findings:
            click.echo(f"{'ok ' if finding.ok else 'BAD'}  {finding.what:<{width}}  {finding.detail}")
    return 0 if all(f.ok for f in findings) else 1


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for everything the agent will need."""
    yield Finding("configuration", ok=True, detail=f"{settings.file}, SHA-256 {settings.config_sha256[:16]}…")
    yield Finding("trail", ok=True, detail=f"{settings.namespace}/{settings.service}/<epoch>/{settings.instance}")
    catalog = settings.load_catalog()
    count = len(catalog.entries)
    yield Finding("catalog", ok=True, detail=f"{count} actions" if settings.catalog else "none: no action has required context")
    yield from _mappings(settings, catalog)
    for source in settings.sources:
        if source.file is not None:
            found = sum(len(glob.glob(pattern, recursive=True)) for pattern in source.file)  # noqa: PTH207  absolute patterns
            seen = f"{found} files now" if found else "no file yet (they are tailed as soon as they appear)"
            yield Finding(f"source {source.id}", ok=True, detail=seen)
        else:
            yield Finding(f"source {source.id}", ok=True, detail=source.kind)
    for store in settings.stores:
        yield _store(store)
    yield _state(Path(settings.state))


def _mappings(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    """Compile the mappings that sources name, run the examples that they carry, and hold their events against the catalog."""
    from ..events.mappings import run_examples
    from ..events.remarks import unmet

    for name, reading in settings.mapping_readings.items():
        wrong = run_examples(reading.mapping)
        wrong += [
            f"{one.action} lacks context.{one.missing_context}" for one in unmet(reading.mapping.examples, catalog) if one.missing_context
        ]
        rules, examples = len(reading.mapping.rules), len(reading.mapping.examples)
        yield Finding(f"mapping {name}", ok=not wrong, detail="; ".join(wrong[:3]) or f"{rules} rules, {examples} examples as expected")
    for source in settings.sources:
        settings.selection_for(source)
        redaction, redactor = source.redaction or settings.redaction, settings.redactor_for(source, os.environ)
        if redaction is not None and redactor is not None:
            key = "no key" if redactor.key_id is None else f"key {redactor.key_id}"
            yield Finding(f"redaction of {source.id}", ok=True, detail=f"{len(redaction.rules)} rules, {key}")


def _store(store: Store) -> Finding:
    """Look whether a directory can be written to; of a bucket only whether its settings can be used: `doctor` asks the bucket."""
    if store.directory is None:
        from ..stores.bucket import Access, open_bucket

        try:
            access = Access.of(store)
            open_bucket(access)
        except TrailsealError as error:
            return Finding(f"store {store.id}", ok=False, detail=error.message)
        at = f" at {access.endpoint}" if access.endpoint else ""
        return Finding(f"store {store.id}", ok=True, detail=f"{store.place}{at}; `trailseal doctor` asks it what it guarantees")
    folder = _nearest(Path(store.directory))
    writable = os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()
    return Finding(f"store {store.id}", ok=writable, detail=store.place if writable else f"cannot create objects below {folder}")


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest parent that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _state(state: Path) -> Finding:
    """Open the state as the agent would, unless an agent has it."""
    from ..spool import Database, StateLock
    from ..spool.aside import NOTE_FILE, SALVAGED_FILE, SUSPECT_FILE
    from ..spool.connection import DATABASE_FILE

    if not any((state / name).exists() for name in (DATABASE_FILE, f"{DATABASE_FILE}-wal", NOTE_FILE, SALVAGED_FILE, SUSPECT_FILE)):
        folder = _nearest(state)
        fit = os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()
        return Finding("state", ok=fit, detail=f"{state}: empty, a new trail will be opened" if fit else f"cannot write below {folder}")
    try:
        with StateLock(state):
            if (state / SALVAGED_FILE).exists():
                return Finding("state", ok=True, detail=f"{state}: a damaged spool was being replaced; the next start goes on with that")
            db = Database(state)
            try:
                problems, head, held = db.problems(), db.head(), db.held()
            finally:
                db.close()
    except StateError as error:
        in_use = "in use" in error.message
        return Finding("state", ok=in_use, detail=f"{error.message}; ask it with `trailseal status`" if in_use else error.message)
    except TrailsealError as error:
        return Finding("state", ok=False, detail=error.message)
    if problems:
        return Finding("state", ok=False, detail="; ".join(problems[:3]))
    where = "no trail yet" if head is None else f"{head.origin}, batch {head.batch}, last {head.reason}"
    return Finding("state", ok=True, detail=f"{where}; {held[1]} records wait")
