"""Perform a whole drill: copy, verify both, tamper, reconstruct, and put the outcome together.

Invariants: the workspace is never inside the store; the store is verified by the same moment as its copy, and only read. This module
must not print or read a clock; clocks come in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ... import __version__
from ...errors import ConfigError
from ..fetch import DirectoryReader
from ..report import as_json as verification_as_json
from ..verify import Options, verify_store
from .catalogue import NOT_IN_A_FOLDER
from .report import DrillReport
from .run import Drill, verdict_of
from .store_copy import Narrowed, copy_store, is_inside, plan
from .timeline import reconstruct

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ..fetch import StoreReader
    from ..trustfile import TrustFile
    from ..verify import Report
    from .values import Change, Tampering


class Bar(Protocol):
    """Be told how far a drill is."""

    def begin(self, what: str, total: int | None) -> None:
        """Note that a part begins, and how much there is to do in it."""
        ...

    def advance(self, done: int) -> None:
        """Note that so much more of it was done."""
        ...


class Silent:
    """A bar that shows nothing."""

    def begin(self, what: str, total: int | None) -> None:
        """Do nothing."""

    def advance(self, done: int) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for.

    Attributes:
        trust: Whom to believe.
        trust_file: The trust file's path, for the report.
        trust_sha256: The SHA-256 of its bytes, in hex, for the report.
        actor: Whose timeline to reconstruct; None for the busiest actor's.
        origin_glob: The trails to copy and to tamper with; None to choose.
        max_bytes: How much may be copied.
        seed: Where every choice comes from.
        keep: Whether the tampered objects are kept in the workspace.
    """

    trust: TrustFile
    trust_file: str
    trust_sha256: str
    actor: str | None
    origin_glob: str | None
    max_bytes: int
    seed: int
    keep: bool


def refuse_inside(store: StoreReader, path: Path, what: str) -> None:
    """Refuse to write inside the store that a drill is about.

    Raises:
        ConfigError: The path is the store's folder, or lies in it.
    """
    if not isinstance(store, DirectoryReader):
        return
    root, place = Path(store.name).resolve(), path.resolve()
    if place == root or root in place.parents:
        raise ConfigError(f"{what} {path} lies inside the store", hint="A drill writes nothing there: name a place outside of it.")


def perform(
    store: StoreReader,
    order: Order,
    workspace: Path,
    *,
    clock: Callable[[], datetime],
    clock_seconds: Callable[[], float],
    bar: Bar,
) -> DrillReport:
    """Perform a drill.

    Args:
        store: The original.
        order: What is asked for.
        workspace: An empty folder, outside of the store; the copy is left in it.
        clock: Returns the time, aware, in UTC.
        clock_seconds: A clock that measures durations.
        bar: Is told how far it is.

    Raises:
        ConfigError: The copy would be too large, the workspace lies in the store, or its disk takes nothing more.
        NotVerifiedError: There is no trail, or none that the trust file vouches for.
    """
    refuse_inside(store, workspace, "the copy's folder")
    began, began_seconds = clock(), clock_seconds()
    chosen = plan(store, max_bytes=order.max_bytes, origin_glob=order.origin_glob)
    copy = workspace / "copy"
    copy.mkdir()
    bar.begin("copying", chosen.total_bytes)
    copied = copy_store(store, chosen, copy, clock=clock, advance=bar.advance)
    now, now_seconds = copied.listed_at, clock_seconds()
    bar.begin("verifying the store", chosen.total_bytes)
    original = verify_store(
        store if chosen.whole else Narrowed(store, chosen.origins),
        Options(trust=order.trust),
        now=now,
        advance=bar.advance,
        elapsed_seconds=lambda: clock_seconds() - now_seconds,
    )
    drill = Drill(
        copy,
        trust=order.trust,
        now=now,
        seed=order.seed,
        clock_seconds=clock_seconds,
        origin_glob=order.origin_glob,
        keep=_Keeper(workspace / "tampered") if order.keep else _forget,
    )
    try:
        exercise = drill.run(advance=lambda _: bar.advance(1), begin=lambda total: bar.begin("tampering", total))
    except OSError as error:
        raise ConfigError(f"cannot tamper with the copy: {error.strerror}", hint="Look at the disk below TMPDIR, or use --keep.") from error
    bar.begin("reconstructing", chosen.total_bytes)
    timeline = reconstruct(DirectoryReader(copy), order.trust, order.actor, advance=bar.advance)
    return DrillReport(
        store=store.name,
        version=__version__,
        began_at=began,
        judged_at=now,
        seconds=clock_seconds() - began_seconds,
        seed=order.seed,
        trust_file=order.trust_file,
        trust_sha256=order.trust_sha256,
        whole=chosen.whole,
        copied_bytes=chosen.total_bytes,
        trails_left_out=chosen.left_out,
        missing=copied.missing,
        original=verdict_of(original),
        exercise=exercise,
        not_tried=NOT_IN_A_FOLDER,
        timeline=timeline,
    )


def _forget(tampering: Tampering, change: Change, report: Report) -> None:
    """Keep nothing."""


class _Keeper:
    """Keeps what each tampering put into the copy, and what `verify` said of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, tampering: Tampering, change: Change, report: Report) -> None:
        place = self._folder / tampering.name
        place.mkdir(parents=True)
        removed: list[str] = []
        for key, raw in sorted(change.objects.items()):
            if raw is None:
                removed.append(key)
            elif is_inside(key):
                path = place / "objects" / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw)
        facts = {"done": change.done, "removed": removed, "linked": list(change.linked), "verify": verification_as_json(report)}
        (place / "drill.json").write_text(json.dumps(facts, indent=2) + "\n", "ascii")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex.

    Raises:
        OSError: It cannot be read.
    """
    return sha256(path.read_bytes()).hexdigest()
