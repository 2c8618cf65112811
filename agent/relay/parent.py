"""The parent's life: start the worker, start the commands, move bytes, forward signals, reap, drain, exit.

Invariants:
    - A worker that dies is started anew for as long as the streams live, after 0.1 s to 5 s. Each one gets every byte
      that no worker has acknowledged.
    - The service's exit code is ours; 128 + n when signal n ended it; 126 or 127 when it could not be started.
    - A service is started once a worker is at work, or five seconds have passed; if the first worker ends with exit
      code 2 (configuration) before that, the service is never started and 2 is the exit code.
    - The end: every pipe at its end (or held by a grandchild for `linger_seconds` after its command), then the worker
      has `grace_seconds` to seal and ship, then SIGTERM, a second one, SIGKILL. What it made durable stays in its state.
    - Nobody waits for room beyond the grace: shortly before it is over the worker is ordered to state what finds none, so a
      service that `block` holds in a write can end. A service that just does not end is its manager's business.

What the worker must do: ignore no stream before its end. SIGTERM asks it to stop its other sources; a stream goes on until
END, because a service manager may send SIGTERM to parent, worker and service at once while the service still has lines to
write. (With systemd, `KillMode=mixed` spares the service the second SIGTERM that forwarding makes.)

Signals a key on the terminal sends reach the service from the kernel, so they are not forwarded. A standard input that is
read as a stream is closed by SIGTERM, SIGINT or SIGQUIT after what it holds was read; by a first Ctrl-C it is not, because
that ends the program that writes to it.

The module must not import asyncio or anything the worker is made of.
"""

from __future__ import annotations

import json
import os
import socket
import time
from functools import partial
from select import POLLIN, poll
from signal import SIGHUP, SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Final

from ..trail.ulid import RANDOM_BYTES, new_ulid
from .command import LAST_CALL_BYTES, Command
from .processes import FORWARDED, STOPPING, Signals, keep_standard_descriptors_taken, log, readable, reap, spawn_apart, tell
from .settings import EXIT_RELOAD, Feed, Limits
from .stream import Stream
from .wire import ENVIRONMENT_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXIT_CONFIGURATION: Final = 2
_HURRY_SECONDS: Final = 3.0
_SECOND_TERM_SECONDS: Final = 0.5
_STATE_SECONDS: Final = 5.0
_LAST_WORDS_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05


class _Parent:
    """Everything the parent knows; `run` is its life."""

    def __init__(self, feeds: Sequence[Feed], worker_argv: Sequence[str], limits: Limits, *, keep_running: bool) -> None:
        self._worker_argv = list(worker_argv)
        self._limits = limits
        self._keep_running = keep_running
        self._streams: list[Stream] = []
        self._commands: list[Command] = []
        self._stdin: Stream | None = None
        for feed in feeds:
            if feed.argv is None:
                self._stdin = self._new_stream(feed.source, "stdin", 0)
            else:
                streams = [self._new_stream(feed.source, channel, None) for channel in ("stdout", "stderr")]
                self._commands.append(Command(feed.argv, streams))
        self._signals = Signals()
        self._worker_pid: int | None = None
        self._worker_code: int | None = None
        self._worker_progress = False
        self._told_to_stop = False
        self._respawns = 0
        self._backoff_seconds = limits.backoff_min_seconds
        self._spawn_at: float | None = None
        self._launched = False
        self._launch_by = time.monotonic() + limits.start_seconds
        self._stop_signal: int | None = None
        self._stop_at = 0.0
        self._last_call_end: int | None = None
        self._hurried = False
        self._hurry_by: float | None = None
        self._drain_by: float | None = None
        self._term_again_at: float | None = None
        self._kill_by: float | None = None
        self._drain_deaths = 0
        self._done = False
        self._result: int | None = None

    def _new_stream(self, source: str, channel: str, fd: int | None) -> Stream:
        limits = self._limits
        stream = Stream(
            new_ulid(time.time_ns() // 1_000_000, os.urandom(RANDOM_BYTES)),
            source,
            channel,
            fd,
            limit_bytes=limits.buffer_bytes,
            patience_seconds=limits.patience_seconds if limits.when_full == "gap" else None,
        )
        self._streams.append(stream)
        return stream

    def run(self) -> int:
        self._spawn_worker()
        while not self._done:
            self._turn()
        return self._exit_code()

    def _exit_code(self) -> int:
        if self._result is not None:
            return self._result
        codes = [command.exit_code for command in self._commands if command.exit_code is not None]
        if self._commands:
            return next((code for code in codes if code), 0) if codes else 128 + (self._stop_signal or 0)
        return self._worker_code or 0

    def _turn(self) -> None:
        now = time.monotonic()
        poller = poll()
        act: dict[int, Callable[[], object]] = {self._signals.fd: self._take_signals}
        poller.register(self._signals.fd, POLLIN)
        for stream in self._streams:
            if stream.fd is not None and stream.wants_read(now):
                poller.register(stream.fd, POLLIN)
                act[stream.fd] = stream.read
            if stream.link is not None:
                poller.register(stream.link, stream.interest())
                act[stream.link.fileno()] = partial(self._serve, stream)
        moments = [moment for moment in self._moments(now) if moment is not None]
        timeout = max(0.0, min(moments) - now) * 1000 + 1 if moments else None
        for fd, _ in poller.poll(timeout):
            act[fd]()
        for stream in self._streams:
            if stream.wants_write():
                stream.send()
        self._tick(time.monotonic())

    def _serve(self, stream: Stream) -> None:
        if stream.receive():
            self._worker_progress = True
        stream.send()

    def _moments(self, now: float) -> list[float | None]:
        """Return when, on the monotonic clock, something is due without any event."""
        linger = self._limits.linger_seconds
        return [
            self._spawn_at,
            None if self._launched else self._launch_by,
            self._hurry_at(),
            self._drain_by,
            self._term_again_at,
            self._kill_by,
            *(stream.patience_ends(now) for stream in self._streams),
            # A pipe that must be closed may only be waiting for room, or be at its end already.
            *(now + _LOOK_SECONDS if command.overtime else command.ended_at + linger for command in self._commands if command.outlived),
            now + _LOOK_SECONDS if self._last_call_end is not None else None,
        ]

    def _tick(self, now: float) -> None:
        if self._spawn_at is not None and now >= self._spawn_at:
            self._spawn_worker()
        if not self._launched and (now >= self._launch_by or any(stream.heard for stream in self._streams)):
            self._launch()
        for command in self._commands:
            command.close_lingering(now, self._limits.linger_seconds)
        self._last_call(now)
        self._hurry_when_due(now)
        ended = self._launched and all(stream.fd is None for stream in self._streams) and all(c.pid is None for c in self._commands)
        if ended and self._drain_by is None and (self._stop_signal is not None or not self._keep_running):
            self._begin_drain(now)
        if self._drain_by is not None:
            self._drain(now)

    # -- the worker ---------------------------------------------------------------------------------------------------

    def _spawn_worker(self) -> None:
        self._spawn_at = None
        pairs = [socket.socketpair() for _ in self._streams]
        orders = [os.pipe() for _ in self._streams]
        passed = [(theirs.fileno(), reading) for (_, theirs), (reading, _) in zip(pairs, orders, strict=True)]
        told = [
            {"source": stream.source, "channel": stream.channel, "fd": fd, "orders_fd": orders_fd}
            for stream, (fd, orders_fd) in zip(self._streams, passed, strict=True)
        ]
        environ = {**os.environ, ENVIRONMENT_KEY: json.dumps(told)}
        try:
            self._worker_pid = spawn_apart(self._worker_argv, environ, self._signals.inherited_mask, [fd for both in passed for fd in both])
        except OSError as error:
            for ours, _ in pairs:
                ours.close()
            for _, writing in orders:
                os.close(writing)
            log("error", "the worker could not be started", cause=str(error))
            self._schedule_worker()
            return
        finally:
            for _, theirs in pairs:
                theirs.close()
            for reading, _ in orders:
                os.close(reading)
        self._worker_progress = False
        self._told_to_stop = False
        for stream, (ours, _), (_, writing) in zip(self._streams, pairs, orders, strict=True):
            stream.attach(ours, writing, self._respawns)

    def _schedule_worker(self) -> None:
        self._respawns += 1
        self._backoff_seconds = (
            self._limits.backoff_min_seconds if self._worker_progress else min(self._backoff_seconds * 2, self._limits.backoff_max_seconds)
        )
        self._spawn_at = time.monotonic() + self._backoff_seconds

    def _worker_ended(self, code: int) -> None:
        self._worker_pid, self._worker_code = None, code
        for stream in self._streams:
            if stream.link is not None and stream.receive():
                self._worker_progress = True
            stream.detach()
        never_heard = not any(stream.heard for stream in self._streams)
        if code == _EXIT_CONFIGURATION and never_heard and not (self._launched and self._commands):
            self._result, self._done = code, True
            return
        if code == EXIT_RELOAD and self._drain_by is None:
            log("info", "the worker ended for one with another configuration")
            self._spawn_worker()
            return
        if self._drain_by is not None:
            # What is confirmed is durable; a worker with sources of its own ships the rest at its next start.
            if self._all_confirmed() and (code == 0 or self._keep_running):
                self._done = True
                return
            self._drain_deaths += 1
            if self._kill_by is not None or (self._drain_deaths >= 3 and self._all_confirmed()):
                self._give_up()
                return
        unacknowledged = sum(stream.backlog.end - stream.backlog.acknowledged for stream in self._streams)
        self._schedule_worker()
        log("warning", "the worker ended", exit_code=code, respawns=self._respawns, unacknowledged_bytes=unacknowledged)

    def _all_confirmed(self) -> bool:
        return all(stream.confirmed for stream in self._streams)

    # -- the commands -------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        self._launched = True
        if self._stop_signal is not None:
            for command in self._commands:
                for stream in command.streams:
                    stream.finish()
            return
        for command in self._commands:
            command.start(self._signals.inherited_mask)

    def _last_call(self, now: float) -> None:
        """End a standard input that must stop, once what it held is read or the grace is over."""
        stream = self._stdin
        if self._last_call_end is None or stream is None:
            return
        if stream.fd is not None:
            pending = readable(stream.fd)
            if pending and stream.backlog.end < self._last_call_end and now < self._stop_at + self._limits.grace_seconds:
                return
            stream.finish(cut=pending)
        self._last_call_end = None

    # -- signals and the end ------------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        for received in self._signals.read():
            if received.number in FORWARDED:
                self._forward(received.number, from_terminal=received.from_terminal)
        for pid, code in reap().items():
            if pid == self._worker_pid:
                self._worker_ended(code)
            for command in self._commands:
                if pid == command.pid:
                    command.ended(code)

    def _forward(self, number: int, *, from_terminal: bool) -> None:
        running = [command.pid for command in self._commands if command.pid is not None]
        if not from_terminal:
            for pid in running:
                tell(pid, number)
        if number == SIGHUP and self._worker_pid is not None and (self._keep_running or not self._commands):
            tell(self._worker_pid, SIGHUP)
        if number not in STOPPING:
            return
        now = time.monotonic()
        if self._stop_signal is None:
            self._stop_signal, self._stop_at = number, now
            self._launch_by = min(self._launch_by, now)
            if self._stdin is not None and not from_terminal:
                self._last_call_end = self._stdin.backlog.end + LAST_CALL_BYTES
        else:
            self._hurry_by = now
            if self._drain_by is not None:
                self._drain_by = min(self._drain_by, now + self._last_words_seconds())
            elif self._stdin is not None and self._last_call_end is None:
                self._last_call_end = self._stdin.backlog.end + LAST_CALL_BYTES

    def _begin_drain(self, now: float) -> None:
        grace = self._limits.grace_seconds
        since = self._stop_at if self._stop_signal is not None else now
        # A service that took all of the grace to end must still leave the worker the time to make its last lines durable.
        self._drain_by = max(since + grace, now + min(5.0, grace))
        if self._hurry_by is not None:
            # A second signal has come: what finds no room is still to be stated, the stores are not waited for.
            self._drain_by = min(self._drain_by, now + self._last_words_seconds())
        self._backoff_seconds = self._limits.backoff_min_seconds
        if self._spawn_at is not None:
            self._spawn_at = min(self._spawn_at, now + self._backoff_seconds)

    def _state_seconds(self) -> float:
        """Return how much of the grace is kept for stating what finds no room."""
        return min(_STATE_SECONDS, self._limits.grace_seconds / 2)

    def _last_words_seconds(self) -> float:
        """Return how long the worker may take after a second signal."""
        return 0.0 if self._all_confirmed() else min(_LAST_WORDS_SECONDS, self._state_seconds())

    def _hurry_at(self) -> float | None:
        """Return when room is waited for no longer; None while that is for ever, or was ordered already."""
        if self._hurried:
            return None
        if self._hurry_by is not None:
            return self._hurry_by
        if self._drain_by is not None:
            return self._drain_by - self._state_seconds()
        over = None
        if self._stop_signal is not None:
            over = self._stop_at
        elif self._commands and not self._keep_running and all(c.exit_code is not None for c in self._commands):
            over = max(c.ended_at for c in self._commands)
        return None if over is None else over + self._limits.grace_seconds - self._state_seconds()

    def _hurry_when_due(self, now: float) -> None:
        due = self._hurry_at()
        if due is not None and now >= due:
            self._hurried = True
            for stream in self._streams:
                stream.hurry()

    def _drain(self, now: float) -> None:
        assert self._drain_by is not None  # noqa: S101 - the caller asks
        if self._worker_pid is None:
            if now >= self._drain_by or (self._keep_running and self._all_confirmed()):
                self._give_up()
        elif self._keep_running and not self._told_to_stop and self._all_confirmed():
            # Its streams have ended, so it listens; the sources of its own are what is left to stop.
            self._told_to_stop = True
            tell(self._worker_pid, SIGTERM)
        elif self._kill_by is None and now >= self._drain_by:
            log("warning", "the worker's grace is over", grace_seconds=self._limits.grace_seconds)
            tell(self._worker_pid, SIGTERM)
            self._drain_by = self._kill_by = now + _HURRY_SECONDS
            self._term_again_at = now + _SECOND_TERM_SECONDS
        elif self._term_again_at is not None and now >= self._term_again_at:
            # The first one asks the worker to end in order, the second one not to wait for the stores.
            self._term_again_at = None
            tell(self._worker_pid, SIGTERM)
        elif self._kill_by is not None and now >= self._kill_by:
            tell(self._worker_pid, SIGKILL)
            self._drain_by = self._kill_by = now + _HURRY_SECONDS

    def _give_up(self) -> None:
        if self._all_confirmed() and self._keep_running:
            self._done = True
            return
        unacknowledged = sum(stream.backlog.end - stream.backlog.acknowledged for stream in self._streams)
        log("error", "the drain was not finished", exit_code=self._worker_code, unacknowledged_bytes=unacknowledged)
        if not self._commands:
            self._result = self._worker_code or 1
        self._done = True


def supervise(feeds: Sequence[Feed], worker_argv: Sequence[str], limits: Limits | None = None, *, keep_running: bool = False) -> int:
    """Run the relay to its end and return the exit code; call it once, in a process that does nothing else.

    Args:
        feeds: The streams; at most one reads standard input.
        worker_argv: The worker's program and arguments. It finds its streams by `agent.sources.stream.inherited_streams`.
        limits: The bounds; the defaults if None.
        keep_running: The worker has sources of its own: it goes on when the streams have ended, until a stopping signal.

    Returns:
        The exit code of the (first failed) command; without commands the worker's.
    """
    keep_standard_descriptors_taken()
    return _Parent(feeds, worker_argv, limits or Limits(), keep_running=keep_running).run()
