"""Makes the golden trails of `tests/vectors/trails`, or says whether today's code still makes the same ones.

    python -m tests.support.golden_trails FOLDER      writes them into an empty folder

The stored ones are never edited or made anew: a change that no longer makes them is a change of the trail format.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

from agent.trail.note import SigningKey
from tests.support.trail_factory import TrailFactory, sample_trail, two_epochs, write_store

ENROLMENT = SigningKey.from_seed("demo/payments/enrolment", sha256(b"golden enrolment").digest())


def golden_trails() -> dict[str, tuple[TrailFactory, ...]]:
    """Return the trails of each golden store, by the store's name."""
    with_gap = TrailFactory(seed=b"golden-gap", instance="web-2")
    with_gap.add(2, quarantined=1, gaps=1)
    with_gap.add(1)
    with_gap.close()
    return {
        "two-epochs": two_epochs(),
        "enrolled": (sample_trail(seed=b"golden-enrolled", instance="web-3", enrolment=ENROLMENT),),
        "gap": (with_gap,),
    }


def trust_lines(name: str, trails: tuple[TrailFactory, ...]) -> str:
    """Return the trust file of one golden store."""
    if name == "enrolled":
        return f"demo/payments/*/* {ENROLMENT.verifier}\n"
    return "".join(trail.trust_line for trail in trails)


def main(folder: Path) -> None:
    """Write all golden stores, each with its trust file."""
    for name, trails in golden_trails().items():
        for trail in trails:
            write_store(trail.objects, folder / name / "store")
        (folder / name / "trust").write_text(trust_lines(name, trails), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
