"""Write container log files as runtimes and the kubelet do: envelopes, pieces, rotation, symbolic links; and tail them."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Literal, cast

from agent.events.classify import FieldRule
from agent.events.validate import Validator
from agent.separator import Separator
from agent.sources.container import container_source
from agent.sources.file import FileSource
from tests.support.joined_units import TagRule, UnitRecorder
from tests.support.tail_bench import AT_ONCE, Bench

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.events.classify import Rule
    from agent.events.mappings.joining import Joining
    from agent.sources.file import TailSettings

Format = Literal["cri", "json"]
UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
CONTAINER_ID = "c0ffee" * 10 + "beef"


def envelope(content: bytes, stream: str = "stdout", *, partial: bool = False, form: Format = "cri", tags: str = "") -> bytes:
    """Return one line of a runtime's log file."""
    if form == "cri":
        return b"2026-01-08T14:32:07.201934Z %b %b%b %b\n" % (stream.encode(), b"P" if partial else b"F", tags.encode(), content)
    text = content.decode() + ("" if partial else "\n")
    line = {"log": text, "stream": stream, "time": "2026-01-08T14:32:07.201934Z"}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def pieces(line: bytes, size: int, stream: str = "stdout", form: Format = "cri") -> list[bytes]:
    """Return the lines of a log file for one line of a service, cut as a runtime with buffers of `size` bytes does."""
    parts = [line[start : start + size] for start in range(0, len(line), size)] or [b""]
    return [envelope(part, stream, partial=number < len(parts), form=form) for number, part in enumerate(parts, 1)]


class ContainerLog:
    """Be the log of one container: `<pods>/<namespace>_<pod>_<uid>/<container>/0.log`, and a link to it."""

    def __init__(self, root: Path, pod: str = "web-1", container: str = "app", namespace: str = "shop", restart: int = 0) -> None:
        """Make the folders; the file begins empty."""
        self.folder = root / "pods" / f"{namespace}_{pod}_{UID}" / container
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{restart}.log"
        self.path.touch()
        self.link = root / "containers" / f"{pod}_{namespace}_{container}-{CONTAINER_ID}.log"
        self.link.parent.mkdir(exist_ok=True)
        if not self.link.is_symlink():
            self.link.symlink_to(self.path)
        # What is compressed away keeps its inode, or the next log might get it: that looks like a truncation, and is stated as one.
        self._kept = root / "kept"
        self._kept.mkdir(exist_ok=True)
        self._rotations = 0

    def write(self, *lines: bytes) -> None:
        """Append lines of the file."""
        with self.path.open("ab") as file:
            file.write(b"".join(lines))

    def rotate(self, *, pack: bool = False) -> None:
        """Do as the kubelet: compress what was rotated before (if told to), rename the log, let the runtime open a new one."""
        if pack:
            for old in sorted(self.folder.glob(f"{self.path.name}.*")):
                if old.suffix != ".gz":
                    unfinished = old.with_name(old.name + ".tmp")
                    unfinished.write_bytes(gzip.compress(old.read_bytes()))
                    unfinished.rename(old.with_name(old.name + ".gz"))
                    old.rename(self._kept / f"{self.folder.parent.name}-{old.name}")
        if not self.path.stat().st_size:
            # The kubelet rotates by size.
            return
        self._rotations += 1
        self.path.rename(self.path.with_name(f"{self.path.name}.20260108-{self._rotations:06d}"))
        self.path.touch()


class ContainerBench(Bench):
    """Run a container source over a tree of logs."""

    def __init__(
        self,
        folder: Path,
        settings: TailSettings = AT_ONCE,
        patterns: Sequence[str] = ("pods/*/*/*.log",),
        rule: Rule | None = None,
        joining: Joining | None = None,
    ) -> None:
        """Prepare a folder with one log, whose lines join to units if `joining` says so."""
        super().__init__(folder, settings, patterns)
        self.log = ContainerLog(folder)
        self.path = self.log.path
        self._rule = rule or (FieldRule() if joining is None else cast("Rule", TagRule()))
        self._joining = joining

    def source(self) -> FileSource:
        """Return the running source, a new one after a stop or crash."""
        if self._source is None:
            rule, joining = self._rule, self._joining
            made = container_source(
                "app",
                tuple(self.patterns),
                lambda: UnitRecorder(joining) if joining is not None else _separator(rule),
                self.intake,
                self.sink,
                self.clock,
                self.settings,
                rule=rule,
                problem=lambda path, text: self.problems.append((path, text)),
                joining=joining,
            )
            assert isinstance(made, FileSource)
            self._source = made
        return self._source


def _separator(rule: Rule) -> Separator:
    return Separator("app", rule, Validator(rule), keep_observability=True, has_offsets=True)
