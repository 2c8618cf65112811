"""The options that say which events are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import ConfigError
from agent.reader.ask.cli import query_command
from agent.reader.ask.filters import Filter
from agent.reader.ask.options import asking_options, taken_filter
from agent.reader.evidence.cli import export_command

if TYPE_CHECKING:
    import click

PARTS = {"actor": (), "action": (), "target": (), "outcome": (), "service": (), "category": (), "text": None, "since": None, "until": None}


def options_of(command: click.Command) -> dict[str, dict[str, object]]:
    context = command.make_context("x", ["store", "--pack", "p"], resilient_parsing=True)
    return {str(one.name): one.to_info_dict() for one in command.get_params(context)}


def test_query_and_export_mean_the_same_by_them() -> None:
    @asking_options
    def alone() -> None: ...

    names = {str(one.name) for one in alone.__click_params__}  # type: ignore[attr-defined]
    assert names >= {*PARTS, "catalog", "correlate", "counterpart"}
    query, export = options_of(query_command), options_of(export_command)
    assert {name: query[name] for name in names} == {name: export[name] for name in names}


def test_a_filter_is_taken_out_of_the_options_and_the_others_stay() -> None:
    options = {**PARTS, "actor": ("alice",), "text": "x", "limit": 3}
    assert taken_filter(options) == Filter(actor=("alice",), text="x")
    assert options == {"limit": 3}


def test_a_filter_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        taken_filter({**PARTS, "service": ("a/b/c",)})
