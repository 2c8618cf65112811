"""The commands `view` and `grant`. Thin: everything is decided elsewhere."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from ...errors import ConfigError
from ..cli import DURATION, failing_clearly, reach_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..fetch import StoreReader
    from ..opening import Reach
    from .book import Book
    from .grants import Grant

_VIEW_HELP = """Serve the evidence in STORE as web pages: read-only, to those who were given a link.

STORE is what `trailseal verify` takes. An index of it is kept up to date beside the key of the links, in the state directory. Nothing
is shown without a link that `trailseal grant` made, and every page that is opened is an audit event in a trail of its own; what cannot
be recorded is not shown.

\b
Examples:
  trailseal view /srv/trail --trust trust.txt
  trailseal view /srv/trail --trust trust.txt --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem
  trailseal view s3://audit/production --trust trust.txt --catalog catalog.yaml --record-to s3://audit/viewers --behind-proxy

\b
Exit codes: 0 ended by SIGTERM or SIGINT; 1 the program failed; 2 usage, or a file or an address that cannot be used; 12 the store
cannot be read.
"""

_GRANT_HELP = """Make a link that shows a part of the evidence until it expires; list or revoke links.

A link carries a signed token behind a #, which browsers send to nobody. Whoever has the link has the access, so pass it on as you
would a password. The link is printed once and kept nowhere.

\b
Examples:
  trailseal grant --services payments --since 2026-03-01 --until 2026-06-01 --expires 7d --name "Jane Doe, auditor"
  trailseal grant --services 'acme/*' --expires 36h --url https://evidence.example.com
  trailseal grant --services '*' --expires 8h --name "on call"
  trailseal grant --list
  trailseal grant --revoke 6f1d0c2b9a8e7d54
"""


def _address(_: click.Context, __: click.Parameter, value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("write HOST:PORT, such as 127.0.0.1:8787; port 0 lets the system choose")
    return host.strip("[]"), int(port)


def _base_url(_: click.Context, __: click.Parameter, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.path not in {"", "/"}:
        raise click.BadParameter("write the page's address, such as https://evidence.example.com")
    return value.rstrip("/")


def _time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter("write a day or a time in UTC, such as 2026-03-01 or 2026-03-01T14:30Z") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where the key and the list of links are; else ~/.local/state/trailseal/view.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the command line of `view` says."""

    store: str
    reach: Reach
    listen: tuple[str, int]
    tls_cert: Path | None
    tls_key: Path | None
    behind_proxy: bool
    state: Path
    index_path: Path | None
    trust: Path | None
    catalog: Path | None
    refresh: timedelta
    record_to: str | None
    enrolment_key: Path | None
    allow_unlocked: bool


@click.command("view", help=_VIEW_HELP)
@click.argument("store")
@click.option("--listen", callback=_address, default="127.0.0.1:8787", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--tls-cert", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Its key, PEM.")
@click.option("--behind-proxy", is_flag=True, help="A proxy with TLS stands before it; the last X-Forwarded-For is believed.")
@click.option("--trust", type=click.Path(path_type=Path), metavar="FILE", help="Whom to believe: lines of `<origin pattern> <vkey>`.")
@click.option("--catalog", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The event catalog.")
@click.option("--refresh", type=DURATION, default="60s", show_default=True, metavar="DURATION", help="How often the store is looked at.")
@click.option("--record-to", metavar="STORE", help="The store for the trail of who looked at what; else STORE itself.")
@click.option("--enrolment-key", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Certifies that trail's key.")
@click.option("--allow-unlocked", is_flag=True, help="Record to a bucket without a retention lock, too.")
@click.option(
    "--index",
    "index_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The index; else one in the state folder.",
)
@_STATE
@reach_options
def view_command(*, state: Path | None, **others: Any) -> None:  # noqa: D103 -- click shows the help text
    with failing_clearly():
        from ..index.cli import require_duckdb
        from .book import default_state

        require_duckdb()
        _require_jinja()
        _view(_Asked(state=state or default_state(), **others))


def _require_jinja() -> None:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "this command needs Jinja, which is not installed", hint="Install it with its extra: pip install 'trailseal[evidence]'."
        ) from error


def _view(asked: _Asked) -> None:
    import asyncio
    import logging

    from ..control.catalogs import load_catalog, with_own_actions
    from ..index.cli import bring_up_to_date, close_store, named_store
    from ..index.reading import default_path, open_index
    from ..trustfile import TrustFile
    from .book import Book
    from .pages.export import remove_leftovers
    from .serving import Listening

    where = Listening(
        host=asked.listen[0], port=asked.listen[1], certificate=asked.tls_cert, key=asked.tls_key, behind_proxy=asked.behind_proxy
    )
    where.check()
    where.context()
    # The index that is kept open makes its log anew now and then, and everything in the state folder is for its owner only.
    umask = os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    trust = TrustFile.load(asked.trust) if asked.trust else TrustFile()
    catalog = with_own_actions(load_catalog(asked.catalog)) if asked.catalog else None
    book = Book(asked.state)
    key = book.key(make=True)
    store = named_store(asked.store, asked.reach)
    try:
        path = asked.index_path or asked.state / default_path(store.name).name
        bring_up_to_date(store, path, trust)
        with open_index(path, writable=True) as index:
            remove_leftovers(path)
            asyncio.run(
                _serve(asked, where, umask, {"index": index, "store": store, "trust": trust, "catalog": catalog, "book": book, "key": key})
            )
    finally:
        close_store(store)


async def _serve(asked: _Asked, where: Any, umask: int, parts: dict[str, Any]) -> None:
    from ..index.reading import default_path
    from ..own_trail import OwnTrail, Recorder
    from .desk import Desk
    from .serving import run_until_stopped

    record_to = asked.record_to or asked.store
    trail = OwnTrail(
        store=record_to,
        service="view",
        # One for each store, because a trail that is spread over two verifies in neither; short, because a socket lies in it.
        folder=asked.state / f"trail-{default_path(_name(record_to, asked.reach)).stem[:8]}",
        reach=asked.reach,
        allow_unlocked=asked.allow_unlocked,
        enrolment_key=asked.enrolment_key,
        # Its trail may lie in a store that others read.
        umask=umask,
    )
    async with Recorder(trail) as recorder:
        desk = Desk(
            recorder=recorder,
            trail_folder=trail.home,
            secure=where.certificate is not None or where.behind_proxy,
            behind_proxy=where.behind_proxy,
            **parts,
        )
        try:
            await run_until_stopped(
                desk,
                where,
                partial(_open_again, asked.store, asked.reach),
                refresh_seconds=asked.refresh.total_seconds() or None,
                ready=partial(_ready, where),
            )
        finally:
            desk.close()


def _name(record_to: str, reach: Reach) -> str:
    """Return the name of a store that need not be there yet: the agent makes a folder."""
    from ..opening import store_name

    return store_name(record_to, reach) if "://" in record_to else str(Path(record_to).resolve())


def _ready(where: Any, port: int) -> None:
    scheme = "http" if where.certificate is None else "https"
    host = f"[{where.host}]" if ":" in where.host else where.host
    click.echo(f"trailseal: evidence at {scheme}://{host}:{port}/ for those who have a link (`trailseal grant`)", err=True)


@contextmanager
def _open_again(where: str, reach: Reach) -> Iterator[StoreReader]:
    """Open the store for a refresh, with a reader of its own."""
    from ..index.cli import close_store, named_store

    store = named_store(where, reach)
    try:
        yield store
    finally:
        close_store(store)


@click.command("grant", help=_GRANT_HELP)
@click.option(
    "--services", multiple=True, metavar="GLOB", help="What it shows: service or namespace/service; '*' is everything. Repeatable."
)
@click.option("--since", callback=_time, metavar="TIME", help="Nothing that occurred before.")
@click.option("--until", callback=_time, metavar="TIME", help="Nothing that occurred then or later.")
@click.option("--expires", type=DURATION, metavar="DURATION", help="For how long the link works.")
@click.option("--name", default="", metavar="TEXT", help="Whom it is for; shown on the pages and recorded.")
@click.option("--url", callback=_base_url, default="http://127.0.0.1:8787", show_default=True, metavar="URL", help="The page's address.")
@click.option("--list", "listing", is_flag=True, help="Show the links that were made; no tokens.")
@click.option("--revoke", metavar="ID", help="Make a link useless, at once.")
@_STATE
def grant_command(  # noqa: D103, PLR0913 -- click shows the help text; one argument for every option
    *,
    services: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    expires: timedelta | None,
    name: str,
    url: str,
    listing: bool,
    revoke: str | None,
    state: Path | None,
) -> None:
    with failing_clearly():
        from .book import Book, default_state

        book = Book(state or default_state())
        making = bool(services) or expires is not None
        if making + listing + (revoke is not None) != 1:
            raise click.UsageError("give --services and --expires, or --list, or --revoke")
        if listing:
            _list(book)
        elif revoke is not None:
            gone = book.revoke(revoke, datetime.now(UTC))
            click.echo(f"revoked {gone.id}{_for(gone)}")
        else:
            if expires is None or not services:
                raise click.UsageError("give both --services and --expires")
            _make(book, services, since, until, expires, name, url)


def _make(
    book: Book, services: tuple[str, ...], since: datetime | None, until: datetime | None, expires: timedelta, name: str, url: str, /
) -> None:
    import secrets

    from .grants import issue, make_grant, service_globs

    now = datetime.now(UTC)
    try:
        end = now + expires
    except OverflowError as error:
        raise click.UsageError("--expires is too long") from error
    grant = make_grant(
        identifier=secrets.token_hex(8), name=name, services=service_globs(services), since=since, until=until, expires=end, now=now
    )
    token = issue(grant, book.key(make=True))
    book.add(grant)
    click.echo(f"{url}/enter#{token}")
    click.echo(f"grant {grant.id}{_for(grant)}: {_scope(grant)}; expires {grant.expires:%Y-%m-%d %H:%M} UTC", err=True)


def _list(book: Book) -> None:
    entries = book.entries()
    now = datetime.now(UTC)
    if not entries.grants:
        click.echo("No links were made.", err=True)
    for grant in entries.grants.values():
        revoked = entries.revoked.get(grant.id)
        state = f"revoked {revoked:%Y-%m-%d %H:%M} UTC" if revoked else "expired" if grant.expires <= now else "valid"
        click.echo(f"{grant.id}  {state}  until {grant.expires:%Y-%m-%d %H:%M} UTC  {_scope(grant)}{_for(grant)}")


def _for(grant: Grant) -> str:
    from ..report import printable

    return f" for {printable(grant.name)}" if grant.name else ""


def _scope(grant: Grant) -> str:
    since = f" from {grant.since:%Y-%m-%dT%H:%MZ}" if grant.since else ""
    until = f" before {grant.until:%Y-%m-%dT%H:%MZ}" if grant.until else ""
    return f"{', '.join(grant.services)}{since}{until}"
