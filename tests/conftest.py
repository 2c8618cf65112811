"""What holds for every test."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# How long an example takes is no property. The same examples every time in CI, where a failure has to be repeatable; new
# ones on every developer's machine, where it is wanted.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_configure() -> None:
    """Take the signals back that a shell makes its background jobs ignore; the programs under test inherit what we have."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
