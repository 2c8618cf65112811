"""Tell once what cannot be read, and once that it can be again.

Invariants: a trouble is told when it begins and when it changes, not each time it is met. This module must not decide what
happens to a file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..base import ProblemReport

_LOG = logging.getLogger(__name__)


class Troubles:
    """Know what is in trouble: files, and paths of which it is not clear what has become of them."""

    def __init__(self, report: ProblemReport | None) -> None:
        """Begin with none.

        Args:
            report: Told of every beginning and end.
        """
        self._report = report
        self._known: dict[Hashable, tuple[str, str]] = {}

    @property
    def any(self) -> bool:
        """Whether there is something that cannot be read now."""
        return bool(self._known)

    def met(self, what: Hashable, path: str, error: OSError) -> None:
        """Note that something cannot be read.

        Args:
            what: What is in trouble.
            path: Its name for people.
            error: Why.
        """
        trouble = (path, error.strerror or str(error))
        if self._known.get(what) != trouble:
            self.cured(what)
            self._known[what] = trouble
            _LOG.warning("%s cannot be read: %s", *trouble)
            if self._report is not None:
                self._report(*trouble)

    def cured(self, what: Hashable) -> None:
        """Note that something can be read again, or need not be any more."""
        trouble = self._known.pop(what, None)
        if trouble is not None and self._report is not None:
            self._report(trouble[0], None)
