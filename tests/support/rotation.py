"""Drive Debian's logrotate over a log that is being written, and account for every line of it afterwards.

The account is kept in positions of what the writer wrote, from its first byte on, whatever files it went to. A file of the
agent's (a `file_id`) begins at one such position, which every event read from it tells: its own position less its offset. A
line that is not in the trail must lie where a gap record of its file says that something is, or may be, missing.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support import loggen
from tests.support.agent_process import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.trail.manifest import SourceProgress
    from tests.support.agent_process import Agent, Site, Trails

CREATE: Final = "create"
COPYTRUNCATE: Final = "copytruncate"
EVERY_SECONDS: Final = 0.2
BEGIN: Final = loggen.audit_line(0, "begin")
END: Final = loggen.audit_line(0, "end")
_WRITER: Final = (sys.executable, str(Path(__file__).with_name("log_writer.py")))
_NEWEST: Final = 20
_LOGROTATE: Final = "/usr/sbin/logrotate"
_EVENT_ID: Final = re.compile(rb'^\{"stream":"audit","event_id":"([^"]+)".*\n', re.MULTILINE)


class Logrotate:
    """Call logrotate at intervals on a log, on a thread of its own, until the `with` block is left."""

    def __init__(self, site: Site, mode: str, pid_file: Path, *options: str, every_seconds: float = EVERY_SECONDS) -> None:
        """Write its configuration.

        Args:
            site: Whose log is rotated.
            mode: `create` (rename, and have the writer open its log anew) or `copytruncate`.
            pid_file: Holds the writer's process id.
            options: More directives, such as `compress`; `rotate 1000` unless one of them begins with `rotate`.
            every_seconds: The pause between two calls.
        """
        program = shutil.which("logrotate") or shutil.which(_LOGROTATE)
        assert program is not None, "logrotate is missing: scripts/packages.sh installs it"
        keep = [] if any(option.startswith("rotate ") for option in options) else ["rotate 1000"]
        reopen = ["postrotate", f"kill -USR1 $(cat {pid_file}) 2>/dev/null || true", "endscript"]
        how = ["copytruncate"] if mode == COPYTRUNCATE else ["create 0644", *reopen]
        body = "\n".join(f"  {line}" for line in ["missingok", "su root root", *keep, *how, *options])
        self._config = site.folder / "logrotate.conf"
        self._config.write_text(f"{site.log} {{\n{body}\n}}\n", encoding="utf-8")
        self._config.chmod(0o644)
        self._command = [program, "-f", "-s", str(site.folder / "logrotate.state"), str(self._config)]
        self._every = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.turns = 0
        self.complaints: list[str] = []

    def once(self) -> None:
        """Rotate now."""
        done = subprocess.run(self._command, capture_output=True, text=True, timeout=30, check=False)
        self.turns += 1
        if done.returncode or done.stderr:
            self.complaints.append(f"{done.returncode}: {done.stderr}")

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.once()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the turn that is under way, and end."""
        self._stop.set()
        self._thread.join()


@dataclass
class Account:
    """What became of the audit lines that were written.

    Attributes:
        written: How many there were.
        found: How many events of them are in the trail, each counted once.
        doubled: The numbers of lines that are there more than once.
        stated: The numbers of lines that are missing, where a gap record says so.
        unstated: The numbers of lines that are missing, and no gap record covers them.
        contradicted: The numbers of lines that are there, although a gap record calls their bytes lost for certain.
        overlooked: The numbers of lines that are missing although they still lie in a file of the log's folder.
        gaps: The gap records.
        quarantined: The quarantine records: a copy may end inside a line.
    """

    written: int = 0
    found: int = 0
    doubled: list[int] = field(default_factory=list)
    stated: list[int] = field(default_factory=list)
    unstated: list[int] = field(default_factory=list)
    contradicted: list[int] = field(default_factory=list)
    overlooked: list[int] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in one line."""
        causes = Counter(f"{gap['cause']}/{gap['certainty']}" for gap in self.gaps)
        return (
            f"{self.written} audit lines: {self.found} found, {len(self.doubled)} twice, {len(self.stated)} missing and stated, "
            f"{len(self.unstated)} missing and not stated {self.unstated[:5]}, {len(self.contradicted)} stated and there, "
            f"{len(self.overlooked)} missing and on the disk, "
            f"{len(self.quarantined)} quarantined, gaps {dict(causes)}"
        )


def account(site: Site, lines: int) -> Account:
    """Compare the trail with what a `Load` of so many lines wrote, in this order, to one log."""
    starts = list(itertools.accumulate((len(loggen.line(number)) for number in range(lines)), initial=len(BEGIN)))
    expected = {loggen.event_id(number): number for number in range(lines) if loggen.is_audit(number)}
    result = Account(len(expected))
    sightings, files = _read(site.trails, expected, starts, result)
    counts = Counter(number for number, _ in sightings)
    begins = sorted(files)
    result.found = len(counts)
    result.doubled = sorted(number for number, times in counts.items() if times > 1)
    of_file: dict[str, list[dict[str, Any]]] = {}
    for gap in result.gaps:
        of_file.setdefault(gap["file_id"], []).append(gap)
    for number in expected.values():
        if number not in counts:
            index = bisect_right(begins, starts[number]) - 1
            known = of_file.get(files[begins[index]], []) if index >= 0 else []
            offset = starts[number] - begins[index]
            covered = any(gap["from_offset"] <= offset and (gap["to_offset"] is None or offset < gap["to_offset"]) for gap in known)
            (result.stated if covered else result.unstated).append(number)
    survived = on_disk(site.logs)
    result.overlooked = [number for number in (*result.stated, *result.unstated) if loggen.event_id(number).encode() in survived]
    for number, begin in sightings:
        offset = starts[number] - begin
        lost = (gap for gap in of_file.get(files[begin], []) if gap["certainty"] == "known")
        if any(gap["from_offset"] <= offset < gap["to_offset"] for gap in lost):
            result.contradicted.append(number)
    return result


def on_disk(folder: Path) -> set[bytes]:
    """Return the event ids in all files of a folder, compressed ones included."""
    found: set[bytes] = set()
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        found.update(_EVENT_ID.findall(gzip.decompress(data) if path.suffix == ".gz" else data))
    return found


def _read(trails: Trails, expected: dict[str, int], starts: Sequence[int], result: Account) -> tuple[list[tuple[int, int]], dict[int, str]]:
    """Return each event's line number with where its file began, and the file ids by where they began; keep the other records."""
    sightings: list[tuple[int, int]] = []
    offsets: dict[int, dict[int, list[int]]] = {}
    spans: dict[str, dict[int, SourceProgress]] = {}
    edges = {json.loads(BEGIN)["event_id"]: 0, json.loads(END)["event_id"]: starts[-1]}
    for batch, (seal, records) in enumerate(trails.batches()):
        for step in seal.manifest.sources:
            if step.file_id and step.audit > step.quarantined:
                spans.setdefault(step.file_id, {})[batch] = step
        for record in records:
            if record["kind"] != "event":
                (result.gaps if record["kind"] == "gap" else result.quarantined).append(record)
                continue
            event_id, offset = record["event"]["event_id"], record["at"][0]
            number = expected.get(event_id)
            begin = (edges[event_id] if number is None else starts[number]) - offset
            if number is not None:
                sightings.append((number, begin))
            offsets.setdefault(begin, {}).setdefault(batch, []).append(offset)
    lines = [0, *starts]
    lost: dict[str, list[tuple[int, int]]] = {}
    for gap in result.gaps:
        if gap["certainty"] == "known":
            lost.setdefault(gap["file_id"], []).append((gap["from_offset"], gap["to_offset"]))
    fits = {begin: [one for one in spans if _fits(begin, seen, spans[one], lost.get(one, []), lines)] for begin, seen in offsets.items()}
    return sightings, _assign(fits)


def _fits(
    begin: int, seen: dict[int, list[int]], steps: dict[int, SourceProgress], lost: Sequence[tuple[int, int]], lines: Sequence[int]
) -> bool:
    """Tell whether events can be those of a file: in every batch as many events, and lines, as its manifest says of those bytes.

    A manifest accounts for the bytes of a line that a truncation cut, and does not count it as a line: a gap record states it.

    Args:
        begin: Where the file would begin.
        seen: The events' offsets in it, by batch.
        steps: What manifests say of it, by batch.
        lost: Which bytes of it are stated as lost for certain.
        lines: Where all lines begin.
    """
    if seen.keys() != steps.keys():
        return False
    for batch, offsets in seen.items():
        step = steps[batch]
        start, end = step.from_offset or 0, step.to_offset or 0
        there = _between(lines, begin + start, begin + end)
        there -= sum(_between(lines, begin + first, begin + min(last, end)) for first, last in lost if start <= first < end)
        if len(offsets) != step.audit - step.quarantined or not start <= min(offsets) <= max(offsets) < end or there != step.lines:
            return False
    return True


def _between(lines: Sequence[int], start: int, end: int) -> int:
    """Count the lines that begin between two bytes."""
    return bisect_left(lines, end) - bisect_left(lines, start)


def _assign(fits: dict[int, list[str]]) -> dict[int, str]:
    """Give every beginning a file of its own among those that fit it (augmenting paths); where two fit alike, either may be it."""
    owner: dict[str, int] = {}

    def place(begin: int, tried: set[str]) -> bool:
        for one in fits[begin]:
            if one not in tried:
                tried.add(one)
                if one not in owner or place(owner[one], tried):
                    owner[one] = begin
                    return True
        return False

    for begin in sorted(fits):
        assert place(begin, set()), f"no file of the agent's begins at byte {begin} of what was written"
    return {begin: one for one, begin in owner.items()}


class Load:
    """Have a daemon write the lines of `loggen` to a site's log and logrotate rotate it, until the `with` block is left."""

    def __init__(
        self, agent: Agent, mode: str, *options: str, lines: int, seconds: float = 0.0, every_seconds: float = EVERY_SECONDS
    ) -> None:
        """Describe it; see `Logrotate`. `seconds` is the time over which the lines are spread, 0 is full speed."""
        site = agent.site
        self.site, self.lines, self._agent = site, lines, agent
        self._pid_file = site.folder / "writer.pid"
        self.logrotate = Logrotate(site, mode, self._pid_file, *options, every_seconds=every_seconds)
        pace = ["--pid-file", str(self._pid_file), "--seconds", str(seconds)]
        self._command = [*_WRITER, str(lines), "--file", str(site.log), *pace]
        self._patience = seconds + PATIENCE_SECONDS

    def __enter__(self) -> Self:
        """Write a first audit line, and once the running agent has seen the log with it, begin to write and to rotate."""
        self._agent.ready()
        with self.site.log.open("ab") as log:
            log.write(BEGIN)
        self._until(self.site.trails.event_ids, self._agent, "the first line in the store")
        self._writer = subprocess.Popen(self._command)
        until(lambda: self._pid_file.exists() and self._pid_file.read_text(encoding="ascii"), "a writer at work", step_seconds=0.002)
        self.logrotate.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self._writer.kill()
        self._writer.wait()
        self.logrotate.__exit__()

    def running(self) -> bool:
        """Tell whether the writer still writes."""
        return self._writer.poll() is None

    def finish(self) -> None:
        """Wait for the writer's end, rotate no more, and write a last audit line to what is the log now."""
        assert self._writer.wait(self._patience) == 0
        self.logrotate.__exit__()
        with self.site.log.open("ab") as log:
            log.write(END)

    def settle(self, agent: Agent) -> Account:
        """Wait until the agent has the last line in the store, so that all before it was read or given up; end it and account."""
        self._until(self._has_end, agent, "the last line in the store")
        assert agent.stop() == 0, agent.log
        found = account(self.site, self.lines)
        print(f"{self.logrotate.turns} rotations: {found}")  # noqa: T201 - shown when the test fails, or with -s
        return found

    def _until(self, condition: Callable[[], object], agent: Agent, what: str) -> None:
        until(lambda: agent.process.poll() is not None or condition(), what, step_seconds=0.2)
        assert agent.process.poll() is None, agent.log

    def _has_end(self) -> bool:
        end = json.loads(END)["event_id"]
        newest = self.site.trails.batches(_NEWEST)
        return any(record["kind"] == "event" and record["event"]["event_id"] == end for _, records in newest for record in records)
