"""The formats of a report, and how a file of it is written.

Invariants: a file is whole or not there, and its owner's alone (0600) until they share it. This module must not decide what is shown.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError
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


def write(path: Path, text: str) -> None:
    """Write a file whole, in place of one that may be there.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="Check the folder and its permissions.") from error
