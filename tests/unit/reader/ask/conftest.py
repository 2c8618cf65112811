"""An index to fill by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.reader.ask.made import Made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path / "index.duckdb")
    yield made
    made.close()
