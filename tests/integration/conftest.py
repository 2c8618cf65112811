"""What several files that look at pages share: a browser, and a view of a company's store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.browser import Chromium
    from tests.support.view_site import Site

CATALOG = Path(__file__).parents[2] / "config/catalog.yaml"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser for the tests of one file."""
    from tests.support.browser import browser

    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A view of a store of 2,000 events, with the shipped example of a catalog."""
    from agent.reader.control.catalogs import load_catalog
    from tests.support.evidence_store import write_store
    from tests.support.view_site import served

    folder = tmp_path_factory.mktemp("view")
    written = write_store(folder / "made", events=2000)
    with served(written.store, written.trust, folder, catalog=load_catalog(CATALOG)) as running:
        yield running
