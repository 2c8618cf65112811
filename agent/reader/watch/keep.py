"""Keep looking at a store: tell Prometheus, and a dead man's switch as long as all is well.

Invariants: a look that fails, for whatever reason, changes nothing of what the one before showed but its age, so the time of the last
success is what to alert on, and the next look is made all the same; the switch is told of a look only if everything was fine. This
module must not judge.
"""

from __future__ import annotations

import http.client
import time
import urllib.request
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.registry import Collector

from ...errors import TrailsealError
from .show import metrics

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from prometheus_client.core import Metric

    from .judge import Report

PING_SECONDS: Final = 10.0
_PREFIX: Final = "trailseal_watch_"


class Board(Collector):
    """Show the newest look to Prometheus."""

    def __init__(self) -> None:
        """Show that nobody has looked yet."""
        self.registry = CollectorRegistry()
        self._report: Report | None = None
        self.last_success = Gauge(
            f"{_PREFIX}last_success_timestamp_seconds", "When the store was last looked at, 0 before.", registry=self.registry
        )
        self.look_seconds = Gauge(f"{_PREFIX}look_seconds", "How long the last look took.", registry=self.registry)
        self.failures = Counter(f"{_PREFIX}failed_looks_total", "Looks that the store did not allow.", registry=self.registry)
        self.pings = Counter(f"{_PREFIX}pings_total", "Pings of the dead man's switch, by outcome.", ("outcome",), registry=self.registry)
        for outcome in ("sent", "failed"):
            self.pings.labels(outcome)
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Yield what the newest look showed."""
        return () if self._report is None else metrics(self._report)

    def show(self, report: Report, seconds: float) -> None:
        """Show a look, and how long it took."""
        self._report = report
        self.look_seconds.set(seconds)
        self.last_success.set(report.at.timestamp())


def ping(url: str) -> None:
    """Tell a dead man's switch that all is well (HTTP GET).

    Raises:
        OSError: It did not answer, or with something else than success.
    """
    try:
        with urllib.request.urlopen(url, timeout=PING_SECONDS) as answer:  # noqa: S310  the command line allows http and https only
            answer.read(1024)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"no answer that could be understood: {error!r}") from error


def keep_looking(
    look: Callable[[], Report],
    board: Board,
    *,
    every_seconds: float,
    stop: threading.Event,
    say: Callable[[Report], object],
    complain: Callable[[str], object],
    ping_url: str | None = None,
) -> None:
    """Look until told to stop.

    Args:
        look: Looks once; raises where it cannot, TrailsealError if the reason is known.
        board: Is shown what was seen.
        every_seconds: From the beginning of one look to that of the next.
        stop: Ends it.
        say: Told of every look.
        complain: Told of looks and pings that failed.
        ping_url: What to ping after a look in which everything was fine.
    """
    while not stop.is_set():
        began = time.monotonic()
        try:
            report = look()
        except TrailsealError as error:
            board.failures.inc()
            complain(f"the store could not be looked at: {error.message}")
        except Exception as error:  # noqa: BLE001 -- a watcher that ends sees nothing any more; that it sees nothing now is counted
            board.failures.inc()
            complain(f"a look failed: {type(error).__name__}: {error}")
        else:
            board.show(report, time.monotonic() - began)
            say(report)
            if ping_url is not None and report.fine:
                try:
                    ping(ping_url)
                except OSError as error:
                    board.pings.labels("failed").inc()
                    complain(f"the dead man's switch was not reached: {error}")
                else:
                    board.pings.labels("sent").inc()
        stop.wait(max(0.0, every_seconds - (time.monotonic() - began)))
