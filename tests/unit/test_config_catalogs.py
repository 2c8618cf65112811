"""Catalogs that include catalogs: what is read, what wins, what is an error, and what a reload sees."""

from __future__ import annotations

import os
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import strategies as st

from agent.config import load, read_catalogs, shipped_catalogs, shown_catalog
from agent.config.catalogs import MAX_BYTES, MAX_DEPTH, MAX_FILES
from agent.errors import ConfigError
from agent.reader.control.catalogs import load_catalog
from agent.reload import ChangeWatch, files_of, read_again, source_key

if TYPE_CHECKING:
    from agent.events.catalog import Catalog

GRANT = "role.grant: {category: authorization, sensitivity: high, required_context: [granted_role]}"
WEAK = "role.grant: {category: authorization, sensitivity: low}"
SETTINGS = """namespace: n
service: s
state: state
sources: [{id: app, file: /var/log/app.log}]
stores: [{id: main, directory: store}]
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name: str, *actions: str, include: str = "") -> str:
    """Write a catalog; `include` is YAML."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "format: 1\n" + (f"include: {include}\n" if include else "")
    path.write_text(text + "actions:" + ("".join(f"\n  {action}" for action in actions) or " {}") + "\n", encoding="utf-8")
    return name


def errors(*names: str) -> list[str]:
    return [str(error) for error in read_catalogs(names).errors]


def in_force(*names: str) -> dict[str, str]:
    reading = read_catalogs(names)
    assert reading.errors == ()
    return {placed.entry.action: str(placed.place) for placed in reading.merged.placed}


def demanded(catalog: Catalog) -> tuple[str, ...]:
    """The context that a grant must have."""
    entry = catalog.entry("role.grant")
    assert entry is not None
    return entry.required_context


class TestMerging:
    def test_a_file_s_own_entry_wins_over_those_it_includes_at_any_depth(self):
        write("deep/low.yaml", WEAK, "a: {category: system, sensitivity: low}")
        write("deep/mid.yaml", "b: {category: system, sensitivity: low}", include="low.yaml")
        write("c.yaml", GRANT, include="[deep/mid.yaml]")
        assert in_force("c.yaml") == {"role.grant": "c.yaml:4", "b": "deep/mid.yaml:4", "a": "deep/low.yaml:4"}
        assert demanded(load_catalog(Path("c.yaml"))) == ("granted_role",)

    def test_two_included_files_that_disagree_are_an_error_that_names_both_places(self):
        write("a.yaml", "x: {category: system, sensitivity: low}", GRANT)
        write("b.yaml", WEAK)
        write("c.yaml", include="[a.yaml, b.yaml]")
        assert errors("c.yaml") == ["c.yaml:2: include: role.grant is one thing in a.yaml:4 and another in b.yaml:3"]
        with pytest.raises(ConfigError, match="one thing in"):
            load_catalog(Path("c.yaml"))
        write("c.yaml", WEAK, include="[a.yaml, b.yaml]")
        assert in_force("c.yaml")["role.grant"] == "c.yaml:4"

    def test_a_file_above_cannot_decide_for_one_below(self):
        write("a.yaml", GRANT)
        write("b.yaml", WEAK)
        write("both.yaml", include="[a.yaml, b.yaml]")
        write("c.yaml", GRANT, include="both.yaml")
        assert errors("c.yaml") == ["both.yaml:2: include: role.grant is one thing in a.yaml:3 and another in b.yaml:3"]

    def test_one_file_by_two_ways_is_no_disagreement_and_is_read_once(self):
        write("low.yaml", GRANT)
        Path("link.yaml").symlink_to("low.yaml")
        write("a.yaml", include="low.yaml")
        write("x/b.yaml", include="[../low.yaml, ../link.yaml]")
        write("c.yaml", include="[a.yaml, x/b.yaml]")
        reading = read_catalogs(["c.yaml"])
        assert (reading.errors, reading.files) == ((), ("c.yaml", "a.yaml", "low.yaml", "x/b.yaml"))

    def test_of_a_list_a_later_catalog_wins(self):
        write("a.yaml", GRANT)
        write("b.yaml", WEAK)
        assert in_force("a.yaml", "b.yaml") == {"role.grant": "b.yaml:3"}
        assert in_force("b.yaml", "a.yaml") == {"role.grant": "a.yaml:3"}

    def test_a_shipped_catalog_is_included_by_its_name(self):
        write("c.yaml", include="shipped:trailseal")
        reading = read_catalogs(["c.yaml"])
        assert reading.catalog() == read_catalogs(["shipped:trailseal"]).catalog()
        assert [shown_catalog(file) for file in reading.files] == ["c.yaml", "shipped:trailseal"]


class TestErrors:
    def test_a_circle_is_an_error_where_it_closes(self):
        write("a.yaml", include="b.yaml")
        write("b.yaml", include="[./x/../a.yaml]")
        write("self.yaml", include="self.yaml")
        Path("x").mkdir()
        assert errors("a.yaml") == ["b.yaml:2: include[0]: the catalog ./x/../a.yaml leads in a circle"]
        assert errors("self.yaml") == ["self.yaml:2: include: the catalog self.yaml leads in a circle"]

    def test_a_chain_that_is_too_deep_is_an_error(self):
        for number in range(MAX_DEPTH + 1):
            write(f"{number}.yaml", include=f"{number + 1}.yaml")
        write(f"{MAX_DEPTH}.yaml")
        last = MAX_DEPTH - 1
        assert errors("0.yaml") == [f"{last}.yaml:2: include: the catalog {MAX_DEPTH}.yaml leads more than {MAX_DEPTH} files deep"]
        assert errors("1.yaml") == []

    def test_too_many_files_are_an_error(self):
        names = [write(f"{number}.yaml") for number in range(MAX_FILES)]
        write("all.yaml", include=f"[{', '.join(names)}]")
        [error] = errors("all.yaml")
        assert error == f"all.yaml:2: include[{MAX_FILES - 1}]: the catalog {names[-1]} leads more than {MAX_FILES} files"

    def test_all_files_together_are_bounded(self):
        filler = f"# {'x' * (MAX_BYTES // 2)}"
        for name in ("a.yaml", "b.yaml"):
            write(name, filler, "x: {category: system, sensitivity: low}")
        write("c.yaml", include="[a.yaml, b.yaml]")
        assert errors("a.yaml") == []
        [error] = errors("c.yaml")
        assert error.startswith("c.yaml:2: include[1]: the catalog b.yaml is too large")

    def test_what_is_no_file_is_not_opened(self):
        os.mkfifo("pipe.yaml")
        Path("folder").mkdir()
        write("c.yaml", include="[pipe.yaml, folder, /dev/zero, gone.yaml]")
        assert [error.partition(": the catalog ")[2] for error in errors("c.yaml")] == [
            "pipe.yaml is not a file",
            "folder is not a file",
            "/dev/zero is not a file",
            "gone.yaml cannot be read: No such file or directory",
        ]
        assert errors("pipe.yaml") == ["pipe.yaml: the catalog is not a file"]

    @pytest.mark.parametrize("name", ["shipped:kubernets", "shipped:../../../config/catalog", "shipped:"])
    def test_only_what_is_shipped_can_be_named_so(self, name):
        write("c.yaml", include=f'["{name}"]')
        assert errors("c.yaml") == [f"c.yaml:2: include[0]: no catalog {name} is shipped"]
        assert errors(name) == [f"no catalog {name} is shipped"]

    def test_errors_of_all_files_are_found_each_with_its_own_place(self):
        write("a.yaml", "x: {category: sistem, sensitivity: low}", "y: {category: system, sensitivity: lo}")
        Path("b.yaml").write_text("format: 1\nactions: [\n", encoding="utf-8")
        write("c.yaml", "z: 1", include="[a.yaml, b.yaml]")
        found = errors("c.yaml")
        assert [error.partition(": ")[0] for error in found] == ["c.yaml:4", "a.yaml:3", "a.yaml:4", "b.yaml:3"]
        assert "actions.z" in found[0]
        assert "actions.x.category" in found[1]

    @hypothesis.settings(max_examples=150, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
    @hypothesis.given(
        st.one_of(
            st.binary(max_size=60),
            st.lists(st.sampled_from(["include", ": ", "[", "]", "{", "a.yaml", '"\\ud800"', '"\\0"', "actions", "\n", "format: 1\n"])).map(
                lambda parts: "".join(parts).encode()
            ),
        )
    )
    def test_no_content_raises(self, content):
        Path("a.yaml").write_bytes(content)
        reading = read_catalogs(["a.yaml"])
        assert reading.sha256 == sha256(content).hexdigest()
        assert all(isinstance(error, ConfigError) for error in reading.errors)


class TestSettings:
    def load(self, catalog: str):
        Path("t.yaml").write_text(f"{SETTINGS}catalog: {catalog}\n", encoding="utf-8")
        return load("t.yaml", {})

    def test_a_list_is_read_from_the_configuration_s_folder(self, tmp_path):
        write("a.yaml", GRANT)
        settings = self.load("[a.yaml, shipped:trailseal]")
        assert settings.catalog == (str(tmp_path / "a.yaml"), "shipped:trailseal")
        entries = settings.load_catalog().entries
        assert [entry.action for entry in entries][:2] == ["role.grant", "review.sign"]

    @pytest.mark.parametrize(
        ("catalog", "error"),
        [
            ("[a.yaml, b.yaml]", "t.yaml:6: catalog[1]: there is no file {folder}/b.yaml"),
            ("[a.yaml, ./a.yaml]", 't.yaml:6: catalog[1]: "./a.yaml" stands here twice'),
            ("[]", "t.yaml:6: catalog: must name at least one catalog"),
            ("{a.yaml: 1}", "t.yaml:6: catalog: must be a text, not a mapping"),
            ("shipped:nonesuch", "t.yaml:6: catalog: no catalog shipped:nonesuch is shipped"),
        ],
    )
    def test_a_wrong_name_is_an_error_of_the_configuration(self, tmp_path, catalog, error):
        write("a.yaml")
        with pytest.raises(ConfigError) as caught:
            self.load(catalog)
        assert str(caught.value) == error.format(folder=tmp_path)

    def test_a_wrong_included_file_is_an_error_when_the_catalog_is_wanted(self, tmp_path):
        write("a.yaml", include="gone.yaml")
        settings = self.load("a.yaml")
        with pytest.raises(ConfigError, match=r"a\.yaml:2: include: the catalog .*gone\.yaml cannot be read"):
            settings.load_catalog()
        assert files_of(settings) == ("t.yaml", str(tmp_path / "a.yaml"), str(tmp_path / "gone.yaml"))

    def test_the_hash_of_one_file_is_its_own_and_of_several_that_of_their_hashes(self):
        write("a.yaml", GRANT, include="b.yaml")
        write("b.yaml", WEAK)
        hashes = [sha256(Path(name).read_bytes()).hexdigest() for name in ("a.yaml", "b.yaml")]
        assert self.load("b.yaml").catalog_sha256 == hashes[1]
        assert self.load("a.yaml").catalog_sha256 == sha256(f"{hashes[0]}\n{hashes[1]}\n".encode()).hexdigest()

    def test_a_change_of_an_included_file_alone_is_seen_and_stated(self):
        write("a.yaml", include="b.yaml")
        write("b.yaml", WEAK)
        running = self.load("a.yaml")
        watch = ChangeWatch(files_of(running))
        watch.accept(files_of(running))
        write("b.yaml", GRANT)
        assert [watch.look(), watch.look()] == [False, True]
        wanted = read_again(partial(load, "t.yaml", {}), running)
        assert wanted.config_sha256 != running.config_sha256
        assert source_key(wanted, wanted.sources[0]) != source_key(running, running.sources[0])
        assert demanded(wanted.load_catalog()) == ("granted_role",)

    def test_what_judges_is_what_was_hashed_even_if_the_file_changes_meanwhile(self):
        write("a.yaml", GRANT)
        settings = self.load("a.yaml")
        write("a.yaml", WEAK)
        assert demanded(settings.load_catalog()) == ("granted_role",)


def test_shipped_catalogs_are_named_in_order():
    names = shipped_catalogs()
    assert "kubernetes" in names
    assert list(names) == sorted(names)
