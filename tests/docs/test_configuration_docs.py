"""docs/configuration.md and config/trailseal.yaml name every key there is, with its default, and no other."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.config import Audit, Document, format_duration, format_size, load
from agent.config.document import Node, read_document
from agent.config.sections import Section, Sections, reader_of
from agent.config.values import Duration, Size, Word
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "config" / "trailseal.yaml"

# Their defaults are not values of a field: the rule's own, the host's name, another setting.
OTHER_DEFAULTS = {"audit.field": "stream", "audit.value": "audit", "instance": "${HOSTNAME}", "sources[].audit": "as audit"}


def keys(struct: type[msgspec.Struct] = Document, above: str = "") -> Iterator[tuple[str, Any]]:
    """Walk all keys; a source's own `audit` is not walked again."""
    for field in msgspec.structs.fields(struct):
        key = above + field.encode_name
        yield key, field
        reader = reader_of(field.type)
        if isinstance(reader, Section) and key != "sources[].audit":
            yield from keys(reader.struct, f"{key}.")
        elif isinstance(reader, Sections):
            yield from keys(reader.struct, f"{key}[].")
        elif key == "observability":
            yield "observability.file", None


KEYS = dict(keys())
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.partition("## Keys")[2].partition("## Types")[0].splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split(" |")]]
}


def test_the_page_has_every_key_and_no_other():
    assert PAGE.count("\n| `") == len(ROWS), "a key stands there twice"
    assert set(ROWS) == set(KEYS)


@pytest.mark.parametrize("key", [key for key, field in KEYS.items() if field is not None])
def test_the_page_has_its_default(key, tmp_path):
    field, stated = KEYS[key], ROWS[key][1].replace("`", "")
    if key in OTHER_DEFAULTS:
        assert stated == OTHER_DEFAULTS[key]
    elif field.required:
        assert stated == "required"
    elif key == "audit":
        assert stated == "{field: stream, value: audit}"
        assert Audit().rule() == Audit(field="stream", value="audit").rule()
    elif isinstance(field.default, msgspec.Struct) and isinstance(reader_of(field.type), Section):
        assert stated == ""
    elif field.default is None:
        assert stated == "-"
    elif field.default == ():
        assert stated == "empty"
    else:
        (tmp_path / "t.yaml").write_text(f'value: "{stated}"\n', encoding="utf-8")
        [(_, node)] = read_document(str(tmp_path / "t.yaml"), {}).pairs()
        assert reader_of(field.type).read(node) == field.default


@pytest.mark.parametrize("key", [key for key, field in KEYS.items() if field is not None])
def test_the_page_has_its_bounds_and_words(key):
    reader, (kind, _, meaning) = reader_of(KEYS[key].type), ROWS[key]
    if isinstance(reader, Duration):
        assert kind == "duration"
        assert f"{format_duration(reader.least)} to {format_duration(reader.most)}" in meaning
    elif isinstance(reader, Size):
        assert kind == "size"
        assert f"{format_size(reader.least)} to {format_size(reader.most)}" in meaning
    elif isinstance(reader, Word):
        assert set(re.findall(r"`(\w+)`", kind)) == set(reader.words)


def nodes(node: Node) -> Iterator[str]:
    """Walk the keys of a file, list positions left out."""
    if node.key:
        yield re.sub(r"\[\d+\]", "[]", node.key)
    if node.kind == "mapping":
        for _, child in node.pairs():
            yield from nodes(child)
    elif node.kind == "list":
        for child in node.elements():
            yield from nodes(child)


def test_the_example_shows_every_key_and_no_other(tmp_path):
    text = re.sub(r"^(\s*)#(?=\S)", r"\1", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    shown = {key for key in nodes(read_document(str(tmp_path / "t.yaml"), {})) if not key.endswith("[]")}
    shown = {key.replace("sources[].audit.", "audit.") for key in shown if "redaction.rules[]" not in key} | {"observability.file"}
    assert "{file: " in text.partition("observability:")[0].rpartition("\n\n")[2]
    assert shown == set(KEYS)


def test_the_example_loads_with_the_defaults_it_shows(tmp_path):
    for name in ("trailseal.yaml", "catalog.yaml"):
        shutil.copy(ROOT / "config" / name, tmp_path)
    settings = load(str(tmp_path / "trailseal.yaml"), {"HOSTNAME": "web-1"})
    assert settings.load_catalog().entries
    for key, field in KEYS.items():
        if field is not None and "." not in key and not field.required and key not in {"audit", "catalog", "sources", "instance"}:
            assert getattr(settings, field.name) == field.default
    assert (settings.instance, settings.rule_for("app")) == ("web-1", Audit().rule())


def test_the_smallest_file_of_the_page_loads(tmp_path):
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    assert load(str(tmp_path / "t.yaml"), os.environ).service == "payments"


def test_the_error_of_the_page_is_the_one_that_is_printed(tmp_path, monkeypatch):
    [line] = re.findall(r"```text\n(.*?)\n```", PAGE, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    text = "namespace: n\nservice: s\nstate: /s\nstores:\n  - {id: main, directory: /t}\n\n\n\n\n\nseal:\n  max_age: soon\n"
    Path("trailseal.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load("trailseal.yaml", {})
    assert str(caught.value) == line
