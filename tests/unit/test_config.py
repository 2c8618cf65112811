from __future__ import annotations

import hashlib
import json
import re
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.config import (
    Address,
    Journal,
    Observability,
    Settings,
    Socket,
    Source,
    format_duration,
    format_size,
    load,
    require_sources,
    with_stream_source,
)
from agent.errors import ConfigError
from agent.events.classify import AllRule, FieldRule, PrefixRule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SMALLEST = """\
namespace: demo
service: payments
instance: host-1
state: /var/lib/trailseal
sources:
  - {id: app, file: "/var/log/app/*.log"}
stores:
  - {id: main, directory: /srv/trail}
"""


def load_text(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    path = folder / "trailseal.yaml"
    path.write_text(text, encoding="utf-8")
    return load(str(path), environ or {})


def test_the_smallest_file_gives_every_default(tmp_path):
    settings = load_text(tmp_path, SMALLEST)
    assert (settings.namespace, settings.service, settings.instance) == ("demo", "payments", "host-1")
    assert settings.sources == (Source(id="app", file=("/var/log/app/*.log",)),)
    assert settings.rule_for("app") == FieldRule("stream", "audit")
    assert settings.observability == Observability("stdout")
    assert (settings.seal.max_age_seconds, settings.seal.max_bytes, settings.seal.heartbeat_seconds) == (5.0, 4 << 20, 60.0)
    assert (settings.spool.max_bytes, settings.spool.when_full) == (1 << 30, "block")
    assert settings.stores[0].required is True
    assert settings.vitals.listen == Address("127.0.0.1", 9600)
    assert settings.limits.line_bytes == 256 << 10
    assert (settings.catalog, settings.enrolment_key, settings.ephemeral) == ((), None, False)
    assert (settings.shutdown_grace_seconds, settings.log.level) == (25.0, "info")
    assert settings.load_catalog().entries == ()


def test_the_issue_s_example_is_read_as_it_stands(tmp_path):
    (tmp_path / "catalog.yaml").write_text("format: 1\nactions:\n  role.grant: {category: authorization, sensitivity: high}\n")
    settings = load_text(
        tmp_path,
        """\
namespace: demo
service: payments
instance: ${HOSTNAME}
state: /var/lib/trailseal
sources:
  - {id: app, file: "/var/log/app/*.log"}            # or: pipe: stdin | command: [...]
audit: {field: stream, value: audit}                 # or {prefix: "AUDIT "}, or {all: true}
catalog: catalog.yaml
observability: stdout                                # none | {file: PATH}
seal: {max_age: 5s, max_bytes: 4MiB, heartbeat: 60s}
spool: {max_bytes: 1GiB, when_full: block}
stores:
  - {id: main, directory: /srv/trail}                # required: true is the default
vitals: {listen: "127.0.0.1:9600"}
""",
        {"HOSTNAME": "Pod-7"},
    )
    assert settings.instance == "pod-7"
    assert settings.catalog == (str(tmp_path / "catalog.yaml"),)
    assert [entry.action for entry in settings.load_catalog().entries] == ["role.grant"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("500ms", 0.5), ("2m", 120.0), ("7", 7.0), ('"1.5s"', 1.5), ("0.1", 0.1), ('"${AGE}"', 9.0), ("10 s", 10.0)],
)
def test_durations(tmp_path, text, seconds):
    assert load_text(tmp_path, f"{SMALLEST}seal: {{max_age: {text}}}\n", {"AGE": "9s"}).seal.max_age_seconds == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1MiB", 1 << 20),
        ("64KiB", 1 << 16),
        ("1MB", 10**6),
        ("100kB", 10**5),
        ("70000", 70000),
        ("1.5 MiB", 3 << 19),
        ('"${SIZE:-1MiB}"', 1 << 20),
    ],
)
def test_sizes(tmp_path, text, size):
    assert load_text(tmp_path, f"{SMALLEST}seal: {{max_bytes: {text}}}\n").seal.max_bytes == size


@pytest.mark.parametrize("seconds", [0.1, 0.5, 5.0, 60.0, 90.0, 3600.0])
def test_a_formatted_duration_reads_back(tmp_path, seconds):
    assert load_text(tmp_path, f"{SMALLEST}seal: {{heartbeat: {format_duration(max(seconds, 1))}}}\n").seal.heartbeat_seconds == max(
        seconds, 1
    )


def test_a_formatted_size_is_what_a_person_writes():
    assert [format_size(size) for size in (1 << 30, 4 << 20, 3 << 10, 1000)] == ["1GiB", "4MiB", "3KiB", "1000"]


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("false", False), ("${FLAG}", True), ("${OFF:-False}", False)])
def test_booleans(tmp_path, text, expected):
    assert load_text(tmp_path, f"{SMALLEST}ephemeral: {text}\n", {"FLAG": "true"}).ephemeral is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", None),
        ('"${NOWHERE:-none}"', None),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),  # noqa: S104 - what a user may write
        ('"[::1]:9600"', Address("::1", 9600)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_addresses(tmp_path, text, expected):
    address = load_text(tmp_path, f"{SMALLEST}vitals: {{listen: {text}}}\n").vitals.listen
    assert address == expected
    assert address is None or str(address) in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("none", Observability("none")), ("stdout", Observability("stdout")), ("{file: /var/x}", Observability("file", "/var/x"))],
)
def test_observability(tmp_path, text, expected):
    assert load_text(tmp_path, f"{SMALLEST}observability: {text}\n").observability == expected


def test_each_source_may_have_its_own_rule(tmp_path):
    text = SMALLEST.replace(
        "stores:",
        '  - {id: all, pipe: stdin, audit: {all: true}}\n  - {id: old, file: /x.log, audit: {prefix: "AUDIT "}}\n'
        "  - {id: tag, file: /y.log, audit: {value: security}}\nstores:",
    )
    settings = load_text(tmp_path, f"{text}audit: {{field: kind}}\n")
    assert settings.rule_for("app") == FieldRule("kind", "audit")
    assert settings.rule_for("all") == AllRule()
    assert settings.rule_for(settings.source("old")) == PrefixRule("AUDIT ")
    assert settings.rule_for("tag") == FieldRule("stream", "security")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('container: "/var/log/pods/*/*/*.log"', {"container": ("/var/log/pods/*/*/*.log",)}),
        ("journal: {units: app}", {"journal": Journal(units=("app",))}),
        ("journal: {units: [a, b], identifiers: c}", {"journal": Journal(units=("a", "b"), identifiers=("c",))}),
        ("journal: {all: true, directory: /j}", {"journal": Journal(all=True, directory="/j")}),
        ('socket: {listen: "127.0.0.1:9700"}', {"socket": Socket(listen=Address("127.0.0.1", 9700))}),
        ('socket: {listen: "localhost:0"}', {"socket": Socket(listen=Address("localhost", 0))}),
        ('socket: {listen: "[::1]:1", path: /s}', {"socket": Socket(listen=Address("::1", 1), path="/s")}),
        ("socket: {path: /s, mode: 0600}", {"socket": Socket(path="/s", mode=0o600)}),
        ('socket: {listen: "10.1.2.3:80", allow_remote: true}', {"socket": Socket(listen=Address("10.1.2.3", 80), allow_remote=True)}),
    ],
)
def test_every_kind_of_source(tmp_path, text, expected):
    settings = load_text(tmp_path, SMALLEST.replace('file: "/var/log/app/*.log"', text))
    [source] = settings.sources
    assert source == Source(id="app", **expected)
    assert {source.kind} == set(expected)
    assert source.is_stream is False
    assert settings.rule_for(source) == (AllRule() if source.kind == "socket" else FieldRule("stream", "audit"))


def test_a_socket_s_own_rule_comes_before_its_default(tmp_path):
    text = SMALLEST.replace('file: "/var/log/app/*.log"', "socket: {path: /s}, audit: {value: security}")
    assert load_text(tmp_path, text).rule_for("app") == FieldRule("stream", "security")


def test_relative_paths_begin_at_the_file_s_folder(tmp_path):
    folder = tmp_path / "odd [name]"
    folder.mkdir()
    text = SMALLEST.replace("/var/lib/trailseal", "state").replace("/srv/trail", "store").replace("/var/log/app/*.log", "logs/*.log")
    settings = load_text(folder, text)
    assert settings.state == str(folder / "state")
    assert settings.stores[0].directory == str(folder / "store")
    assert settings.sources[0].file == (str(tmp_path / "odd [[]name]/logs/*.log"),)


def test_variables_are_substituted_in_values_after_parsing(tmp_path):
    text = SMALLEST.replace("/srv/trail", "'/srv/${NAME:-x}/$$${NAME}/$HOME/${EMPTY:-d}'")
    settings = load_text(tmp_path, text, {"NAME": "a: b, {c} # d", "EMPTY": "", "HOME": "/root"})
    assert settings.stores[0].directory == "/srv/a: b, {c} # d/$a: b, {c} # d/$HOME/d"


def test_the_host_s_name_stands_in_for_an_unset_hostname(tmp_path):
    given = load_text(tmp_path, SMALLEST.replace("host-1", "x-${HOSTNAME}"), {})
    assert given.instance == load_text(tmp_path, SMALLEST.replace("host-1", f"x-{socket.gethostname()}"), {}).instance
    without = SMALLEST.replace("instance: host-1\n", "")
    assert load_text(tmp_path, without, {"HOSTNAME": "Web_1"}).instance == "web_1"
    assert load_text(tmp_path, without, {}).instance == load_text(tmp_path, SMALLEST.replace("host-1", socket.gethostname()), {}).instance


def test_other_names_are_folded_not_refused(tmp_path):
    settings = load_text(tmp_path, SMALLEST.replace("payments", "Zahlungen & Co"))
    assert re.fullmatch(r"zahlungen-co-[0-9a-f]{16}", settings.service)


def test_the_hash_is_over_the_effective_settings_and_nothing_else(tmp_path):
    settings = load_text(tmp_path, SMALLEST)
    assert re.fullmatch(r"[0-9a-f]{64}", settings.config_sha256)
    spelled_out = load_text(tmp_path, f"# a comment\n{SMALLEST}seal: {{max_age: 5000ms, heartbeat: 1m}}\nlog: {{level: info}}\n")
    assert spelled_out.config_sha256 == settings.config_sha256
    assert load_text(tmp_path, f"{SMALLEST}seal: {{max_age: 6s}}\n").config_sha256 != settings.config_sha256
    plain = msgspec.to_builtins(settings)
    del plain["file"], plain["lines"], plain["catalog_reading"], plain["mapping_readings"]
    assert hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest() == settings.config_sha256


def test_the_hash_covers_the_catalog(tmp_path):
    (tmp_path / "catalog.yaml").write_text("format: 1\nactions: {}\n")
    first = load_text(tmp_path, f"{SMALLEST}catalog: catalog.yaml\n")
    (tmp_path / "catalog.yaml").write_text("format: 1\nactions: {}\n# changed\n")
    assert load_text(tmp_path, f"{SMALLEST}catalog: catalog.yaml\n").config_sha256 != first.config_sha256


class TestStreams:
    def test_a_stream_source_is_added_where_the_file_has_none(self, tmp_path):
        settings = load_text(tmp_path, SMALLEST)
        assert with_stream_source(settings, "pipe").sources[-1] == Source(id="stdin", pipe="stdin")
        added = with_stream_source(settings, "command", ["sh", "-c", "true"])
        assert added.sources == (*settings.sources, Source(id="command", command=("sh", "-c", "true")))
        assert added.config_sha256 != settings.config_sha256

    def test_its_id_is_one_that_is_free(self, tmp_path):
        settings = load_text(tmp_path, SMALLEST.replace("id: app", "id: stdin"))
        assert with_stream_source(settings, "pipe").sources[-1].id == "stdin-2"

    def test_the_command_line_replaces_the_file_s_command_and_keeps_the_rest(self, tmp_path):
        text = SMALLEST.replace('{id: app, file: "/var/log/app/*.log"}', "{id: app, command: [one], audit: {all: true}}")
        settings = load_text(tmp_path, text)
        changed = with_stream_source(settings, "command", ["two", "3"]).sources[0]
        assert (changed.id, changed.command) == ("app", ("two", "3"))
        assert with_stream_source(settings, "command", ["two"]).rule_for("app") == AllRule()
        assert with_stream_source(settings, "command") == settings

    def test_there_must_be_a_command(self, tmp_path):
        with pytest.raises(ConfigError, match=r"trailseal\.yaml:5: sources: there is no command to run"):
            with_stream_source(load_text(tmp_path, SMALLEST), "command")

    def test_a_command_and_a_pipe_exclude_each_other(self, tmp_path):
        settings = load_text(tmp_path, SMALLEST.replace('file: "/var/log/app/*.log"', "command: [x]"))
        with pytest.raises(ConfigError, match=r"yaml:5: sources: the source app is a command, so no pipe can be added"):
            with_stream_source(settings, "pipe")

    def test_sources_may_be_left_out_but_run_needs_one(self, tmp_path):
        text = re.sub(r"sources:\n.*\n", "", SMALLEST)
        settings = load_text(tmp_path, text)
        assert with_stream_source(settings, "pipe").sources[0].kind == "pipe"
        with pytest.raises(ConfigError, match="sources: there is no source"):
            require_sources(settings)
        require_sources(load_text(tmp_path, SMALLEST))


def test_a_later_error_names_the_nearest_key_in_the_file(tmp_path):
    settings = load_text(tmp_path, SMALLEST)
    assert str(settings.error("stores[0].directory", "is full")) == f"{tmp_path}/trailseal.yaml:8: stores[0].directory: is full"
    assert settings.error("stores[0].other", "x").line == 8
    assert settings.error("vitals.listen", "x").line == 1


def test_aliases_are_followed(tmp_path):
    text = SMALLEST.replace("/srv/trail}", "/srv/trail, required: &yes true}") + "ephemeral: *yes\n"
    assert load_text(tmp_path, text).ephemeral is True
