"""What holds for every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take the signals back that a shell makes its background jobs ignore; the programs under test inherit what we have."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
