"""Kill -9 at random moments while runtimes cut lines and the kubelet rotates and compresses: all of it is there once."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import PATIENCE_SECONDS, Site, until
from tests.support.container_logs import ContainerLog, envelope, pieces
from tests.support.memory_intake import audit_line

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.container_logs import Format

KILLS = 5
SEED = 20260108
PIECE_BYTES = 16 * 1024
PODS = (("web-1", "cri"), ("db-1", "json"))


class Runtime(threading.Thread):
    """Write one container's log: lines of both streams, some longer than a piece, pieces of one between those of the other."""

    def __init__(self, log: ContainerLog, form: Format, seed: int) -> None:
        """Prepare; nothing is written before `start`."""
        super().__init__()
        self.log = log
        self.written: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self.stop = threading.Event()
        self.may_rotate = threading.Event()
        self.bytes_before_rotation = 0
        self._bytes = 0
        self._dice = random.Random(seed)
        self._form = form
        self._buffers: dict[str, deque[bytes]] = {"stdout": deque(), "stderr": deque()}
        self._number = 0

    def run(self) -> None:
        while not self.stop.is_set():
            self.some_lines()
            self.write(self.some_pieces())
            if self.may_rotate.is_set() and self._dice.random() < 0.05:
                self.bytes_before_rotation = self._bytes
                self.log.rotate(pack=True)
                self.may_rotate.clear()
            self.stop.wait(0.02)
        self.write([piece for buffer in self._buffers.values() for piece in buffer])

    def write(self, lines: list[bytes]) -> None:
        self._bytes += sum(map(len, lines))
        self.log.write(*lines)

    def some_lines(self) -> None:
        """Let the service write lines."""
        for _ in range(self._dice.randrange(6)):
            stream = self._dice.choice(("stdout", "stderr"))
            self._number += 1
            if self._number % 3:
                self._buffers[stream].append(envelope(loggen.other_line(self._number).rstrip(b"\n"), stream, form=self._form))
                continue
            name = f"{self.log.folder.parent.name}-{self._number:06d}"
            self.written[stream].append(f"e{name}")
            line = audit_line(name, padding=self._dice.choice((0, 50, 17_000, 40_000)) if self._number % 5 == 0 else 0)
            self._buffers[stream].extend(pieces(line, PIECE_BYTES, stream, self._form))

    def some_pieces(self) -> list[bytes]:
        """Let the runtime write some of what it has, from whichever stream."""
        out = []
        for _ in range(self._dice.randrange(8)):
            buffer = self._buffers[self._dice.choice(("stdout", "stderr"))]
            if buffer:
                out.append(buffer.popleft())
        return out


def accounted(site: Site, size: int) -> bool:
    return site.trails.accounted_bytes() >= size


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_container_logs_survive_kills_rotation_and_compression_whole(tmp_path: Path):
    patterns = [str(tmp_path / "pods/*/*/*.log"), str(tmp_path / "containers/*.log")]
    site = Site(tmp_path, sources=[{"id": "pods", "container": patterns}])
    logs = [ContainerLog(tmp_path, pod) for pod, _ in PODS]
    dice = random.Random(SEED)
    for log, (_, form) in zip(logs, PODS, strict=True):
        log.write(*(envelope(b"begins", form="cri" if form == "cri" else "json") for _ in range(3)))
    started = time.monotonic()
    with site.run() as agent:
        agent.ready()
        begun = sum(log.path.stat().st_size for log in logs)
        site.wait_drained(begun)
        start_seconds = time.monotonic() - started
    runtimes = [
        Runtime(log, "cri" if form == "cri" else "json", seed) for seed, (log, (_, form)) in enumerate(zip(logs, PODS, strict=True))
    ]
    for runtime in runtimes:
        runtime.start()
    try:
        for number in range(KILLS):
            with site.run() as agent:
                if number % 2:
                    # As the kubelet does: a file is compressed with the next rotation, long after it was rotated itself.
                    mark = begun + sum(runtime.bytes_before_rotation for runtime in runtimes)
                    until(partial(accounted, site, mark), "what was rotated in the store")
                    for runtime in runtimes:
                        runtime.may_rotate.set()
                time.sleep(dice.uniform(0.1, 1.0) * (start_seconds + 0.5))
                agent.kill()
    finally:
        for runtime in runtimes:
            runtime.stop.set()
        for runtime in runtimes:
            runtime.join(PATIENCE_SECONDS)
    wanted = sum(len(ids) for runtime in runtimes for ids in runtime.written.values())
    assert wanted > 100
    with site.run() as agent:
        agent.ready()
        until(lambda: len(site.trails.event_ids()) >= wanted, "every event in the store")
        assert agent.stop() == 0, agent.log
    records = site.trails.records()
    for runtime, (pod, _) in zip(runtimes, PODS, strict=True):
        for stream, ids in runtime.written.items():
            mine = [r for r in records if r["kind"] == "event" and r["container"]["pod"] == pod and r["container"]["stream"] == stream]
            assert [record["event"]["event_id"] for record in mine] == ids
    assert [record for record in records if record["kind"] != "event"] == []
    assert len(site.trails.event_ids()) == wanted
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()
