"""Name faults and draw them: which call of which workload meets what, and the scenarios that need more than strace.

Invariants: a fault's id says everything that is needed to repeat it; the same seed over the same traced runs draws the same faults.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .injection import DURABLE_CALLS, READING_CALLS, Injection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .injection import Call

    Drawer = Callable[[random.Random, Mapping[str, Sequence[Call]], int], "Fault"]

ERRORS: Final = ("EIO", "ENOSPC", "EINTR", "EDQUOT", "EACCES", "EROFS")
SOURCE_ERRORS: Final = ("EIO", "EACCES", "EMFILE")
KINDS: Final = {
    "a": "SIGKILL at a call",
    "b": "error from a call",
    "c": "full disk",
    "d": "power cut",
    "e": "state and clock",
    "f": "store",
    "g": "relay",
    "h": "store that lies",
}
# How the faults of a campaign are divided, in parts of a hundred.
SHARES: Final = {"a": 40, "b": 28, "c": 2, "d": 14, "e": 6, "f": 7, "g": 2, "h": 1}


@dataclass(frozen=True, slots=True)
class Fault:
    """Be one fault.

    Attributes:
        letter: The kind, a key of `KINDS`.
        workload: The workload's name.
        name: A system call, several joined by commas, or a scenario's name.
        what: strace's words for what happens, or a scenario's variant.
        when: strace's words for the numbers, or a scenario's seed.
        place: Which paths count, see `Injection`.
    """

    letter: str
    workload: str
    name: str
    what: str
    when: str
    place: str = ""

    @property
    def id(self) -> str:
        """The fault's id."""
        return f"{self.letter}/{self.workload}/{self.name}/{self.what}/{self.when}/{self.place}".rstrip("/")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read an id (ValueError if it is none)."""
        parts = text.split("/")
        if not 5 <= len(parts) <= 6 or parts[0] not in KINDS:
            raise ValueError(f"{text!r} is not a fault's id: letter/workload/name/what/when[/place]")
        return cls(*parts)

    @property
    def kind(self) -> str:
        """The row of the table that this fault belongs to."""
        return f"{self.what.replace('signal=', 'SIG').replace('error=', '')} {self.name}" + (f" ({self.place})" if self.place else "")

    @property
    def injection(self) -> Injection:
        """The fault as strace is told of it."""
        return Injection(tuple(self.name.split(",")), self.what, self.when, self.place)


def draw(count: int, seed: int, traces: Mapping[str, Sequence[Call]], letters: str = "".join(KINDS)) -> list[Fault]:
    """Draw faults.

    Args:
        count: How many.
        seed: Decides which.
        traces: The calls of a traced run of each workload.
        letters: The kinds to draw from.

    Returns:
        The faults, in the order in which they are to be run: shuffled, so that a campaign that is cut short has met every kind.
    """
    dice = random.Random(seed)
    total = sum(SHARES[letter] for letter in letters)
    faults: dict[Fault, None] = {}
    for letter in letters:
        wanted = max(1, round(count * SHARES[letter] / total))
        tries = 0
        have = 0
        while have < wanted and tries < wanted * 20:
            fault = _DRAW[letter](dice, traces, tries)
            tries += 1
            if fault not in faults:
                faults[fault] = None
                have += 1
    drawn = list(faults)
    dice.shuffle(drawn)
    return drawn


def _drawn_call(dice: random.Random, traces: Mapping[str, Sequence[Call]], names: Sequence[str], turn: int) -> tuple[str, Call]:
    """Take a call of every name in turn, from any workload that makes it, evenly over the run."""
    for offset in range(len(names)):
        name = names[(turn + offset) % len(names)]
        found = [(workload, call) for workload, calls in sorted(traces.items()) for call in calls if call.name == name]
        if found:
            workload = dice.choice(sorted({one for one, _ in found}))
            return workload, dice.choice([call for one, call in found if one == workload])
    message = f"no workload makes any of the calls {', '.join(names)}"
    raise ValueError(message)


def _kill(dice: random.Random, traces: Mapping[str, Sequence[Call]], turn: int) -> Fault:
    workload, call = _drawn_call(dice, traces, DURABLE_CALLS, turn)
    return Fault("a", workload, call.name, "signal=KILL", str(call.number))


def _error(dice: random.Random, traces: Mapping[str, Sequence[Call]], turn: int) -> Fault:
    if turn % 4 == 3:
        workload = dice.choice([name for name in sorted(traces) if name not in ("exec", "pipe")])
        name = READING_CALLS[turn // 4 % len(READING_CALLS)]
        place = dice.choice(("source", "source", "spool"))
        first = dice.randint(1, 16 if place == "source" else 4)
        when = str(first) if dice.random() < 0.5 else f"{first}..{first + dice.randint(1, 20)}"
        return Fault("b", workload, name, f"error={dice.choice(SOURCE_ERRORS)}", when, place)
    workload, call = _drawn_call(dice, traces, DURABLE_CALLS, turn)
    number = call.number
    error = dice.choice(ERRORS)
    # A call that is interrupted for ever is tried for ever, and no system does that.
    lasting = (f"{number}+",) if error != "EINTR" else ()
    when = dice.choice((str(number), str(number), f"{number}..{number + dice.randint(1, 15)}", *lasting))
    return Fault("b", workload, call.name, f"error={error}", when)


def _store(dice: random.Random, traces: Mapping[str, Sequence[Call]], turn: int) -> Fault:
    workload = dice.choice(("fresh", "busy", "backlog", "away"))
    what = ("slow", "burst", "reply-lost", "read")[turn % 4]
    number = dice.randint(1, 6)
    if what == "slow":
        call = dice.choice(("link", "fsync", "unlink"))
        return Fault("f", workload, call, f"delay_enter={dice.choice((20_000, 100_000, 400_000))}", f"{number}..{number + 6}")
    if what == "burst":
        call = dice.choice(("link", "fsync", "mkdir", "openat", "newfstatat"))
        return Fault("f", workload, call, f"error={dice.choice(ERRORS)}", f"{number}..{number + dice.randint(2, 12)}", "store")
    if what == "reply-lost":
        # The temporary name is removed right after the object has got its own: the object is there, and no receipt.
        return Fault("f", workload, "unlink", "signal=KILL", str(number))
    return Fault("f", workload, "openat,read,newfstatat", f"error={dice.choice(('EIO', 'EACCES', 'ENFILE'))}", f"{number}+", "store")


def _lie(dice: random.Random, _: Mapping[str, Sequence[Call]], __: int) -> Fault:
    return Fault("h", dice.choice(("fresh", "busy", "backlog", "away")), "link", "retval=0", str(dice.randint(1, 9)))


def _scenario(letter: str, workloads: Sequence[str], names: Sequence[str]) -> Drawer:
    def drawn(dice: random.Random, traces: Mapping[str, Sequence[Call]], turn: int) -> Fault:
        workload = dice.choice([name for name in workloads if name in traces])
        return Fault(letter, workload, names[turn % len(names)], "scenario", str(dice.randrange(10**6)))

    return drawn


_FILES: Final = ("busy", "backlog", "away")
_DRAW: Final[dict[str, Drawer]] = {
    "a": _kill,
    "b": _error,
    "c": _scenario("c", ("busy", "backlog"), ("full-state", "full-store", "read-only-state", "read-only-store")),
    "d": _scenario("d", ("busy", "fresh", "backlog"), ("power-cut-worst", "power-cut-random", "power-cut-state-only", "power-cut-torn")),
    "e": _scenario("e", _FILES, ("rollback", "two-agents", "clock-forward", "clock-back", "resize", "frozen")),
    "f": _store,
    "g": _scenario("g", ("exec", "pipe"), ("kill-worker", "freeze-worker", "kill-all")),
    "h": _lie,
}
