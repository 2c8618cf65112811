"""The options of a command that say which events are meant: those of `trailseal query`.

Invariants: an option means here what it means to `query`. This module must not open an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..ask.filters import CATEGORIES, OUTCOMES, Filter
from ..ask.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...events.catalog import Catalog

_SEVERAL: Final = "Any of several may match."


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for.

    Attributes:
        filter: The filter.
        catalog: The event catalog, if one was named.
    """

    filter: Filter
    catalog: Catalog | None


class _Time(click.ParamType["datetime"]):
    """A point in time: RFC 3339, a date, or a duration (so long ago)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the option's text (a usage error if it has another form)."""
        try:
            return parse_time(str(value), datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a filter; it takes them as one argument, ``asked``."""

    @click.option("--actor", multiple=True, metavar="GLOB", help=f"The actor's id. {_SEVERAL}")
    @click.option("--action", multiple=True, metavar="GLOB", help=f"The action. {_SEVERAL}")
    @click.option("--target", multiple=True, metavar="GLOB", help=f"The target's id, or type/id. {_SEVERAL}")
    @click.option("--outcome", multiple=True, type=click.Choice(OUTCOMES), help="How it ended.")
    @click.option("--service", multiple=True, metavar="GLOB", help=f"The service, or namespace/service. {_SEVERAL}")
    @click.option("--category", multiple=True, type=click.Choice(CATEGORIES), help="The action's category in the catalog; needs --catalog.")
    @click.option("--text", metavar="TEXT", help="Any text of the event holds this, whatever its case.")
    @click.option("--since", type=_Time(), metavar="TIME", help="Occurred then or later: 2026-03-01, RFC 3339, or 90d for so long ago.")
    @click.option("--until", type=_Time(), metavar="TIME", help="Occurred before then.")
    @click.option("--catalog", type=click.Path(path_type=Path), metavar="FILE", help="The event catalog.")
    @wraps(command)
    def asking(*, catalog: Path | None, **options: Any) -> None:
        given = {name: options.pop(name) for name in Filter.__dataclass_fields__}
        command(asked=Asked(Filter(**given), _catalog(catalog)), **options)

    return asking


def _catalog(path: Path | None) -> Catalog | None:
    if path is None:
        return None
    from ..control.catalogs import load_catalog  # noqa: PLC0415 -- most questions need none

    return load_catalog(path)
