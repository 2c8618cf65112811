"""A company's store with its index, and an index to fill by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.reader.control.catalogs import load_catalog, with_own_actions
from agent.reader.fetch import DirectoryReader
from agent.reader.index import open_index, refresh
from agent.reader.trustfile import TrustFile
from tests.support.evidence_store import write_store
from tests.unit.reader.ask.made import Made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.events.catalog import Catalog
    from agent.reader.index import Index
    from tests.support.evidence_facts import Written

CATALOG_FILE = Path(__file__).parents[4] / "config/catalog.yaml"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@dataclass
class Company:
    """A store, what is in it, and its index."""

    written: Written
    index: Index


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """A store with a gap, a silence and quarantined lines."""
    folder = tmp_path_factory.mktemp("company")
    written = write_store(folder, events=2000, clean=False)
    path = folder / "index.duckdb"
    refresh(DirectoryReader(written.store), path, trust=TrustFile.load(written.trust), now=NOW)
    with open_index(path) as index:
        yield Company(written, index)


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return with_own_actions(load_catalog(CATALOG_FILE))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path / "index.duckdb")
    yield made
    made.close()
