"""What a proof says, for a terminal and for a program.

Invariants: text of a store is escaped for a terminal; JSON is cut nowhere. This module must not check anything.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ..report import printable
from ..trustfile import fingerprint
from .checking import describe

if TYPE_CHECKING:
    from ...errors import TrailsealError
    from .checking import Checked

JSON_FORMAT: Final = 1
VERDICTS: Final = {0: "proven", 10: "tampered", 11: "incomplete", 12: "not verified"}
_MAX_CHARACTERS: Final = 200


def failed_document(error: TrailsealError) -> dict[str, Any]:
    """Return why something is not proven, as plain data."""
    return {
        "format": JSON_FORMAT,
        "verdict": VERDICTS[error.exit_code],
        "exit_code": error.exit_code,
        "message": error.message,
        "hint": error.hint,
    }


def proven_document(checked: Checked) -> dict[str, Any]:
    """Return what was proven, as plain data; docs/evidence.md describes every key."""
    return {
        "format": JSON_FORMAT,
        "verdict": VERDICTS[0],
        "exit_code": 0,
        "origin": checked.checkpoint.origin,
        "seq": checked.seq,
        "size": checked.checkpoint.size,
        "root": checked.checkpoint.root.hex(),
        "signed_by": str(checked.signed_by),
        "vouched_by": str(checked.vouched_by),
        "fingerprint": fingerprint(checked.vouched_by),
        "leaf_sha256": sha256(checked.leaf).hexdigest(),
        "leaf": describe(checked.leaf),
    }


def told(checked: Checked) -> list[str]:
    """Return what a proof says, in lines for a terminal; text of a store is escaped."""
    checkpoint = checked.checkpoint
    lines = [
        f"Proven: seq {checked.seq:,} of {checkpoint.origin}, in the tree of {checkpoint.size:,} leaves.",
        *(f"  {name:<12}{printable(value)}" for name, value in summary(describe(checked.leaf))),
        f"  {'root':<12}{checkpoint.root.hex()}",
        f"  {'signed by':<12}{printable(checked.signed_by.name)}, key id {checked.signed_by.key_id.hex()}",
    ]
    if checked.vouched_by != checked.signed_by:
        lines.append(f"  {'enrolled by':<12}{printable(checked.vouched_by.name)}, key id {checked.vouched_by.key_id.hex()}")
    lines += [
        f"  {'fingerprint':<12}{fingerprint(checked.vouched_by)}",
        "This record was in the trail, byte for byte, when the checkpoint was signed. It does not say that what it states is true,",
        "nor that nothing else happened.",
    ]
    return lines


def summary(leaf: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values that tell a record apart; values are shortened, not escaped."""
    kind = leaf.get("kind")
    shown: list[tuple[str, object]] = [("kind", kind), ("observed", leaf.get("observed_at", leaf.get("sealed_at")))]
    event = leaf.get("event")
    if kind == "event" and isinstance(event, dict):
        actor, target = event.get("actor"), event.get("target")
        actor, target = (part if isinstance(part, dict) else {} for part in (actor, target))
        shown = [
            ("event", event.get("event_id")),
            ("occurred", event.get("occurred_at")),
            ("actor", f"{actor.get('type')} {actor.get('id')}"),
            ("action", event.get("action")),
            ("target", f"{target.get('type')} {target.get('id')}"),
            ("outcome", event.get("outcome")),
        ]
    return [
        (name, value if len(value) <= _MAX_CHARACTERS else f"{value[:_MAX_CHARACTERS]}…")
        for name, value in ((name, str(said)) for name, said in shown)
    ]
