"""The formats of a report.

Invariants: each has the same content. This module must not decide what is shown.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from .html import page
from .markdown import as_markdown
from .plain import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from .report import Report


def _json(report: Report) -> str:
    # ASCII only, so that no encoding of a terminal or a pipe can refuse it, and no character of it can drive a terminal.
    return json.dumps(as_json(report), indent=2) + "\n"


KINDS: Final[dict[str, Callable[[Report], str]]] = {"html": page, "markdown": as_markdown, "json": _json}
