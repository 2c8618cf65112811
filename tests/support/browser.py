"""A real Chromium for tests of pages, by playwright: what a page says on its console and asks of the network is watched.

Invariants: a page that logs an error, throws, or is refused something by its own policy fails the test that opened it, unless the
test says that it expects that; with `offline` nothing but files can be loaded. The synchronous interface keeps an event loop running
in this thread while a browser is open, so a module that uses it must have no `async def` tests: run servers in a process or a thread
of their own.

    @pytest.fixture(scope="module")
    def chromium() -> Iterator[Chromium]:
        with browser() as opened:
            yield opened

    def test_a_page_says_so(chromium):
        with chromium.visit("http://127.0.0.1:8080/") as visit:
            assert visit.page.locator("h1").inner_text() == "Trail"
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, Route

EXECUTABLE: Final = Path("/usr/bin/chromium")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
)
TIMEOUT_MILLISECONDS: Final = 20_000


@dataclass
class Visit:
    """One page, watched.

    Attributes:
        page: Playwright's page.
        response: The answer to the first request; None for a file.
        errors: What the page logged as an error or a warning, threw, or was refused.
        requests: The URL of everything it asked for, the page itself included.
    """

    page: Page
    response: Response | None = None
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        """Keep what a console shows as wrong."""
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.type}: {message.text}")

    def ask(self, request: Request) -> None:
        """Keep what was asked for."""
        self.requests.append(request.url)


class Chromium:
    """A running browser; made by `browser`."""

    def __init__(self, running: Browser) -> None:
        """Use a browser that playwright started."""
        self._running = running
        self.version = running.version

    @contextmanager
    def visit(self, url: str, *, offline: bool = False, errors: bool = False, before: str | None = None, **context: Any) -> Iterator[Visit]:
        """Open a page in a context of its own: no cookies, no storage, no cache of another.

        Args:
            url: Where it lies; ``file://`` too.
            offline: Cut the network off, and refuse every request that is no file.
            errors: Whether errors are expected; else any fails the test in the end.
            before: JavaScript to run before the page's own, for example to take something away from the browser.
            **context: Options of playwright's ``new_context``, for example ``color_scheme="dark"``, ``extra_http_headers``.

        Yields:
            The page, loaded.
        """
        opened = self._running.new_context(**context)
        try:
            opened.set_default_timeout(TIMEOUT_MILLISECONDS)
            if before is not None:
                opened.add_init_script(before)
            if offline:
                opened.set_offline(offline=True)
                opened.route("**/*", _files_only)
            visit = Visit(opened.new_page())
            visit.page.on("console", visit.note)
            visit.page.on("pageerror", lambda error: visit.errors.append(f"thrown: {error}"))
            visit.page.on("request", visit.ask)
            visit.response = visit.page.goto(url)
            yield visit
            assert errors or visit.errors == [], visit.errors
        finally:
            opened.close()


def _files_only(route: Route) -> None:
    if route.request.url.startswith("file://"):
        route.continue_()
    else:
        route.abort()


@contextmanager
def browser() -> Iterator[Chromium]:
    """Start Debian's Chromium, and end it."""
    if not EXECUTABLE.exists():
        message = f"{EXECUTABLE} is not there: apt-get install -y chromium (tests/debian-packages.txt)"
        raise FileNotFoundError(message)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(ARGUMENTS))
        try:
            yield Chromium(running)
        finally:
            running.close()
