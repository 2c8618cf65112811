"""Damage a real state directory in a thousand ways, start the agent on it, and judge what is in the store afterwards.

As a program it runs as many trials as it is told to, each of them repeatable by its number:

    python -m tests.support.state_damage --trials 500
    python -m tests.support.state_damage --only 417 --keep

A trial begins with the same state: an agent whose store went away ended in order, the next one was killed, and sealed batches,
blocks and cursors lie in the database and in its write-ahead log. One thing is done to it, and the agent is started and told to
stop. It may end by itself once, where what it reads turns out to be rotten, and has to end in order when it is started again.
The oracle: every event of the sources is in the trails, or a gap record states a loss; none is there twice unless a gap record
or a fork says why; `verify` finds neither contradiction nor forgery.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support import loggen
from tests.support.agent_process import Site, Trails, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.agent_process import Agent, Verdict

PAGE_BYTES: Final = 16 << 10
FILES: Final = 4
LINES: Final = 1500
"""Lines of each file; every tenth is an event."""
_AWAY: Final = "store-away"


class Outcome(NamedTuple):
    """What came of one trial.

    Attributes:
        what: The damage.
        missing: Events that are in no trail.
        twice: Events that are in the trails more than once.
        losses: Gap records that state a lost state.
        forked: Whether an epoch goes on after a fork.
        verdict: What `verify` says.
        wrong: What contradicts the oracle; empty if nothing does.
    """

    what: str
    missing: int
    twice: int
    losses: int
    forked: bool
    verdict: Verdict
    wrong: list[str]


class Ground:
    """Be a site with a state worth damaging, which each trial begins with anew."""

    def __init__(self, folder: Path) -> None:
        """Make the state: some batches confirmed, some sealed and unshipped, some records not sealed."""
        self.site = site = Site(folder, seal={"max_age": "150ms", "heartbeat": "10s"}, shutdown_grace="20s")
        site.configure(sources=[{"id": "app", "file": str(site.logs / "*.log")}])
        self._saved = folder / "saved"
        self.expected: list[str] = []
        written = 0
        with site.run() as agent:
            agent.ready()
            written += self._write(0, 200)
            site.wait_drained(written)
            agent.kill()
        site.store.rename(folder / _AWAY)
        site.store.write_bytes(b"")
        site.configure(shutdown_grace="1s")
        with site.run() as agent:
            until(lambda: site.status() is not None, "an agent that answers")
            for first in range(200, LINES - 300, 100):
                before = self._waiting()
                self._write(first, 100)
                until(partial(self._has_sealed_more, before), "a batch with the lines")
            agent.stop()
        # Sealed at their age only, so that the records of this run stay blocks.
        site.configure(seal={"max_age": "60s", "heartbeat": "60s"})
        with site.run() as agent:
            until(lambda: site.status() is not None, "an agent that answers")
            for first in range(LINES - 300, LINES, 50):
                self._write(first, 50)
                until(lambda: self._held() >= self._audit(), "the lines in the spool")
            agent.kill()
        site.configure(seal={"max_age": "150ms", "heartbeat": "10s"}, shutdown_grace="20s")
        site.store.unlink()
        (folder / _AWAY).rename(site.store)
        shutil.copytree(site.state, self._saved / "state", ignore=shutil.ignore_patterns("*.sock", "ballast"))
        shutil.copytree(site.store, self._saved / "store")

    def _write(self, first: int, count: int) -> int:
        size = 0
        for number in range(FILES):
            with (self.site.logs / f"{number}.log").open("ab") as log:
                size += log.write(loggen.block(first, count, run=f"f{number}"))
            self.expected += loggen.event_ids(first + count, run=f"f{number}")[len(loggen.event_ids(first, run=f"f{number}")) :]
        return size

    def _audit(self) -> int:
        return len(self.expected) - FILES * len(loggen.event_ids(200))

    def _held(self) -> int:
        return int((self.site.status() or {"spool": {"records": 0}})["spool"]["records"])

    def _waiting(self) -> int:
        return int((self.site.status() or {"spool": {"batches_waiting": 0}})["spool"]["batches_waiting"])

    def _has_sealed_more(self, than: int) -> bool:
        return self._held() >= self._audit() and self._waiting() > than

    def _is_decided(self, agent: Agent) -> bool:
        return agent.process.poll() is not None or self.site.is_ready()

    def restore(self) -> None:
        """Put state and store back as they were."""
        for name, folder in (("state", self.site.state), ("store", self.site.store)):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self._saved / name, folder)
        self.site.trails = Trails(self.site.store)

    def trial(self, damage: Callable[[Path, random.Random], str], seed: int) -> Outcome:
        """Damage the state, run an agent over it, and judge."""
        self.restore()
        what = damage(self.site.state, random.Random(seed))
        wrong = []
        for may_fail in (True, False):
            with self.site.run() as agent:
                until(partial(self._is_decided, agent), f"a ready agent after: {what}")
                code = agent.stop() if agent.process.poll() is None else agent.process.returncode
            if code == 0:
                break
            wrong += [] if may_fail else [f"exit {code}: {agent.log}"]
        return self._judge(what, wrong)

    def _judge(self, what: str, wrong: list[str]) -> Outcome:
        trails = self.site.trails
        found = Counter(trails.event_ids())
        missing = set(self.expected) - set(found)
        twice = sum(count - 1 for count in found.values())
        losses = [gap for gap in trails.kind("gap") if gap["cause"] == "state_lost"]
        links = [seal.manifest.continues for seal in trails.seals() if seal.manifest.batch == 0]
        forked = any(link and link.why.value == "fork" for link in links)
        verdict = self.site.verify()
        # Whoever takes away every trace of a state is found out by the trail that nothing links to the one before.
        stated = losses or "restarted_unlinked" in verdict.codes()
        if missing and not stated:
            wrong.append(f"{len(missing)} events are missing and nothing says so")
        if twice and not stated and not forked:
            wrong.append(f"{twice} events are there twice and nothing says so")
        if set(found) - set(self.expected):
            wrong.append("there are events that nobody wrote")
        if verdict.code not in ((11,) if losses else (0, 11)):
            wrong.append(f"verify {verdict.code}: {verdict.findings()[:5]}")
        if len(losses) > 1:
            wrong.append(f"{len(losses)} gap records for one loss")
        return Outcome(what, len(missing), twice, len(losses), forked, verdict, wrong)


def any_damage(state: Path, dice: random.Random) -> str:
    """Do one thing to a state directory; return what it was."""
    names = sorted(path.name for path in state.iterdir() if path.is_file() and path.name != "lock")
    kind = dice.choice(("flip", "flip", "flips", "page", "zero", "truncate", "delete", "log gone"))
    if kind == "delete":
        name = dice.choice(names)
        (state / name).unlink()
        return f"{name} deleted"
    if kind == "log gone":
        (state / "spool.db-wal").unlink(missing_ok=True)
        (state / "trail").unlink(missing_ok=True)
        return "spool.db-wal and trail deleted"
    path = state / dice.choice(("spool.db", "spool.db", "spool.db-wal"))
    raw = bytearray(path.read_bytes())
    page = dice.randrange(max(1, len(raw) // PAGE_BYTES)) * PAGE_BYTES
    places: list[int] = []
    if kind == "truncate":
        places = [dice.randrange(len(raw))]
        del raw[places[0] :]
    elif kind in {"page", "zero"}:
        raw[page : page + PAGE_BYTES] = dice.randbytes(PAGE_BYTES) if kind == "page" else bytes(PAGE_BYTES)
        places = [page]
    else:
        # Half of the flips go where a page's own structure is, at its beginning.
        for _ in range(1 if kind == "flip" else 20):
            place = dice.randrange(len(raw)) if dice.random() < 0.5 else page + dice.randrange(64)
            raw[place % len(raw)] ^= 1 << dice.randrange(8)
            places.append(place % len(raw))
    path.write_bytes(raw)
    return f"{path.name}: {kind} at {places[:20]} of {len(raw)} bytes"


def main() -> int:
    """Run trials and print a table; return 1 if one of them contradicts the oracle."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=100, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="number of the first")
    parser.add_argument("--only", type=int, help="this one")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="state-damage-"))
    ground = Ground(folder)
    seeds = [options.only] if options.only is not None else range(options.seed, options.seed + options.trials)
    table: Counter[str] = Counter()
    for seed in seeds:
        outcome = ground.trial(any_damage, seed)
        table["trials"] += 1
        table["events missing, stated as lost"] += outcome.missing
        table["events twice, flagged"] += outcome.twice
        table["new epochs after a lost state"] += outcome.losses
        table["forks"] += outcome.forked
        table[f"verify {outcome.verdict.code}"] += 1
        table["contradictions"] += bool(outcome.wrong)
        counts = f"missing {outcome.missing}, twice {outcome.twice}, losses {outcome.losses}, forked {outcome.forked}"
        sys.stdout.write(f"{seed}: {outcome.what}: {counts}, verify {outcome.verdict.code} {outcome.wrong or ''}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(ground.expected)} events a trial\n" + "".join(f"{count:8d} {name}\n" for name, count in sorted(table.items())))
    if options.keep:
        sys.stdout.write(f"{folder}\n")
    else:
        shutil.rmtree(folder)
    return bool(table["contradictions"])


if __name__ == "__main__":
    sys.exit(main())
