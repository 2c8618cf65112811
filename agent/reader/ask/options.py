"""The options of a command line that say which events are meant: one set, so that every command that has them means the same by them.

Invariants: an option has the same name, form and words in each command. This module must not open anything.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .filters import CATEGORIES, OUTCOMES, Filter
from .times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...events.catalog import Catalog


class _Time(click.ParamType["datetime"]):
    """A point in time: RFC 3339, a date, or a duration ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the option's text (a usage error if it is no time)."""
        try:
            return parse_time(str(value), datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


TIME: Final = _Time()
_OPTIONS: Final = (
    click.option("--actor", multiple=True, metavar="GLOB", help="Who: the actor's id."),
    click.option("--action", multiple=True, metavar="GLOB", help="What was done."),
    click.option("--target", multiple=True, metavar="GLOB", help="What it was done to: the target's id, or type/id."),
    click.option("--outcome", multiple=True, type=click.Choice(OUTCOMES), help="How it ended."),
    click.option("--service", multiple=True, metavar="GLOB", help="Where: a service, or namespace/service."),
    click.option(
        "--category", multiple=True, type=click.Choice(CATEGORIES), metavar="NAME", help="A category of --catalog, or uncatalogued."
    ),
    click.option(
        "--pseudonym-key",
        "pseudonym_keys",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Also find --actor and --target by their pseudonyms under the key in FILE.",
    ),
    click.option("--text", metavar="TEXT", help="Anywhere in the event, whatever its case."),
    click.option("--since", type=TIME, metavar="TIME", help="Occurred at this time or later."),
    click.option("--until", type=TIME, metavar="TIME", help="Occurred before this time."),
    click.option("--catalog", type=click.Path(path_type=Path), metavar="FILE", help="The event catalog that gives actions their category."),
    click.option("--correlate", metavar="PATH", help="Put other events beside each that carry the same value there: context.approval_id."),
    click.option(
        "--counterpart", multiple=True, metavar="GLOB", help="The actions that count with --correlate; else all but the event's own."
    ),
)


def asking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a filter, ``--catalog``, ``--correlate`` and ``--counterpart``; it takes each by its name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def taken_filter(options: dict[str, Any]) -> Filter:
    """Take the parts of a filter out of a command's options.

    Args:
        options: The options by name; those of the filter, and the files of pseudonym keys, are removed.

    Raises:
        ConfigError: A part is malformed, the parts contradict each other, or a key cannot be used.
    """
    paths = options.pop("pseudonym_keys", ())
    asked = Filter(**{name: options.pop(name) for name in Filter.__dataclass_fields__})
    if not paths:
        return asked
    from .pseudonyms import read_keys, with_pseudonyms  # noqa: PLC0415 -- few questions name a key

    return with_pseudonyms(asked, read_keys(paths))


def given_catalog(path: Path | None) -> Catalog | None:
    """Return the catalog that a command line names, with our own actions, as the report counts; None if it names none.

    Raises:
        ConfigError: The file cannot be read, or is no catalog.
    """
    if path is None:
        return None
    from ..control.catalogs import load_catalog, with_own_actions  # noqa: PLC0415 -- it is wanted with a catalog only

    return with_own_actions(load_catalog(path))
