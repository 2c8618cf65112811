"""The command `status`: ask the running agent."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from .agent import CONFIG_OPTION


@click.command()
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the agent's whole answer as JSON.")
def status(config: str, as_json: bool) -> int:  # noqa: FBT001  click passes options by name
    """Ask the agent that runs on this configuration's state directory how it is.

    Exit code 0 if it is ready, 1 if it is not, 2 if none runs. Of the file only `state` is read: while what is on disk is wrong,
    the agent runs on with what it had, and says so.
    """
    from ..config import load_state
    from ..vitals.ask import fetch_status

    answer = fetch_status(load_state(config, os.environ))
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(_lines(answer)))
    return 0 if answer.get("ready") else 1


def _fingerprint(key: str) -> str:
    from ..reader.trustfile import fingerprint
    from ..trail.note import VerifierKey

    return fingerprint(VerifierKey.parse(key))


def _lines(answer: dict[str, Any]) -> list[str]:
    head, spool, confirmed = answer.get("head") or {}, answer.get("spool") or {}, answer.get("last_confirmed")
    rows = [
        ("agent", f"{answer.get('version')}, process {answer.get('pid')}, up {answer.get('uptime_seconds')} s"),
        ("ready", "yes" if answer.get("ready") else "NO"),
        ("trail", head.get("origin", "none yet")),
        ("key", head.get("key", "none yet")),
        ("", f"SHA-256 {_fingerprint(head['key'])}" if "key" in head else ""),
        ("head", f"batch {head.get('batch')}, {head.get('size')} leaves, sealed {head.get('sealed_at')} ({head.get('reason')})"),
        ("records", f"{head.get('events')} events, {head.get('quarantined')} quarantined, {head.get('gaps')} gaps"),
        ("spool", f"{spool.get('bytes')} of {spool.get('max_bytes')} bytes, {spool.get('batches_waiting')} batches waiting"),
        ("confirmed", f"batch {confirmed['batch']} at {confirmed['at']}" if confirmed else "nothing yet"),
    ]
    rows += [(f"store {name}", _guarantees(found)) for name, found in (answer.get("store_guarantees") or {}).items()]
    reasons = [(r["severity"], f"{r['name']}: {r['detail']} (since {r['since']})") for r in answer.get("reasons", [])]
    width = max(10, *(len(name) for name, _ in rows))
    return [f"{name:<{width}} {text}" for name, text in (*rows, *reasons)]


def _guarantees(standing: dict[str, Any]) -> str:
    """Return in one line what a store was found to guarantee."""
    seconds = standing.get("lock_seconds")
    lock = "no lock" if seconds is None else f"locked for {seconds / 86400:.0f} days ({standing.get('lock_mode')})"
    return f"{'create if absent' if standing.get('exclusive') else 'weak create'}, {lock}"
