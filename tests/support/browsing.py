"""Open a page of a view in a browser, as somebody with a link does; for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from agent.reader.view.grants import Grant
    from tests.support.browser import Chromium, Visit
    from tests.support.view_site import Site


def home(view: Site) -> str:
    return str(view.server.make_url("/"))


def enter(chromium: Chromium, view: Site, grant: Grant, **more: Any) -> Any:
    """Open a grant's link, as an auditor does."""
    return chromium.visit(f"{home(view)}enter#{view.token(grant)}", **more)


def at_home(visit: Visit, view: Site) -> Page:
    visit.page.wait_for_url(home(view))
    return visit.page
