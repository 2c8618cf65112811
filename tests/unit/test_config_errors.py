"""Every way a configuration can be wrong, with the exact line that is printed."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from agent.config import load
from agent.errors import ConfigError

HEAD = """\
namespace: demo
service: payments
state: /var/lib/trailseal
"""
SOURCES = """\
sources:
  - {id: app, file: "/var/log/app/*.log"}
"""
STORES = """\
stores:
  - {id: main, directory: /srv/trail}
"""
BASE = HEAD + SOURCES + STORES  # seven lines

KINDS = "file, container, pipe, command, journal and socket"
ONE_KIND = f"a source has exactly one of {KINDS}, and this one has"
REACHABLE = (
    "can be reached from other machines, and whoever reaches it can write audit events; "
    "listen on 127.0.0.1 or [::1], or set allow_remote: true"
)
WHICH = "say which entries: units, identifiers or both; or all: true alone"
ID = "is not an id: 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first and last"


def of_source(text: str) -> str:
    """Return a file whose second source, in line 6, is of this kind."""
    return f"{HEAD}{SOURCES}  - {{id: two, {text}}}\n{STORES}"


def error_of(folder: Path, content: str | bytes, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str] | None = None) -> ConfigError:
    monkeypatch.chdir(folder)
    Path("t.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load("t.yaml", environ or {})
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value) + caught.value.hint
    return caught.value


SOURCE_KEYS = "id, file, container, pipe, command, journal, socket, audit, mapping, zone and redaction"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # keys
        (BASE + "spol: {}\n", "t.yaml:8: spol: unknown key"),
        (BASE + "seal:\n  max_age: 5s\n  heartbeet: 5s\n", "t.yaml:10: seal.heartbeet: unknown key"),
        (BASE + "service: again\n", "t.yaml:8: service: this key stands here twice; first in line 2"),
        (BASE + "seal: {max_age: 5s, max_age: 6s}\n", "t.yaml:8: seal.max_age: this key stands here twice; first in line 8"),
        (BASE + "? [a, b]\n: 1\n", "t.yaml:8: a key must be a plain word"),
        (BASE + "seal: {<<: {max_age: 5s}}\n", "t.yaml:8: seal: merge keys (<<) are not supported"),
        (SOURCES + STORES, "t.yaml:1: namespace: this key is missing"),
        (HEAD + SOURCES, "t.yaml:1: stores: this key is missing"),
        (HEAD + SOURCES + "stores:\n  - directory: /x\n", "t.yaml:7: stores[0].id: this key is missing"),
        # types
        (BASE.replace("payments", "true"), "t.yaml:2: service: must be a text, not the boolean true"),
        (BASE.replace("/var/lib/trailseal", "17"), "t.yaml:3: state: must be a text, not the number 17"),
        (BASE.replace("/var/lib/trailseal", ""), "t.yaml:3: state: must be a text, not nothing"),
        (BASE.replace("/var/lib/trailseal", '""'), "t.yaml:3: state: must not be empty"),
        (BASE.replace("/var/lib/trailseal", r'"a\0b"'), "t.yaml:3: state: must not contain a NUL character"),
        (BASE.replace("payments", "[a]"), "t.yaml:2: service: must be a text, not a list"),
        (BASE + "seal: 5s\n", 't.yaml:8: seal: must be a mapping with max_age, max_bytes and heartbeat, not "5s"'),
        (HEAD + "sources: app\n" + STORES, 't.yaml:4: sources: must be a list, not "app"'),
        (
            HEAD + "sources: [app]\n" + STORES,
            f't.yaml:4: sources[0]: must be a mapping with {SOURCE_KEYS}, not "app"',
        ),
        (BASE + "ephemeral: yes\n", 't.yaml:8: ephemeral: must be true or false, not "yes"'),
        (BASE + "ephemeral: 1\n", 't.yaml:8: ephemeral: must be true or false, not "1"'),
        (BASE + "spool: {when_full: drop}\n", 't.yaml:8: spool.when_full: must be block or gap, not "drop"'),
        (BASE + "log: {level: warn}\n", 't.yaml:8: log.level: must be debug, info, warning or error, not "warn"'),
        (BASE + "state2: !!python/object x\n", "t.yaml:8: state2: unknown key"),
        (BASE + "catalog: !secret x\n", "t.yaml:8: catalog: the YAML tag !secret has no meaning here"),
        # durations and sizes
        (BASE + "seal: {max_age: soon}\n", 't.yaml:8: seal.max_age: must be a duration such as 500ms, 5s, 2m or 1h, not "soon"'),
        (BASE + "seal: {max_age: 5d}\n", 't.yaml:8: seal.max_age: must be a duration such as 500ms, 5s, 2m or 1h, not "5d"'),
        (BASE + "seal: {max_age: -5s}\n", 't.yaml:8: seal.max_age: must be a duration such as 500ms, 5s, 2m or 1h, not "-5s"'),
        (BASE + "seal: {max_age: .inf}\n", 't.yaml:8: seal.max_age: must be a duration such as 500ms, 5s, 2m or 1h, not ".inf"'),
        (BASE + "seal: {max_age: 1ms}\n", 't.yaml:8: seal.max_age: must be between 100ms and 10m, not "1ms"'),
        (BASE + "seal: {heartbeat: 500ms}\n", 't.yaml:8: seal.heartbeat: must be between 1s and 1h, not "500ms"'),
        (BASE + "shutdown_grace: 2h\n", 't.yaml:8: shutdown_grace: must be between 1s and 1h, not "2h"'),
        (BASE + "seal: {max_bytes: lots}\n", 't.yaml:8: seal.max_bytes: must be a size such as 64KiB, 4MiB, 1GiB or 10MB, not "lots"'),
        (BASE + "seal: {max_bytes: 8MiB}\n", 't.yaml:8: seal.max_bytes: must be between 64KiB and 4MiB, not "8MiB"'),
        (BASE + "spool: {max_bytes: 1MiB}\n", 't.yaml:8: spool.max_bytes: must be between 16MiB and 1024GiB, not "1MiB"'),
        (BASE + "limits: {line_bytes: 1MiB}\n", 't.yaml:8: limits.line_bytes: must be between 1KiB and 1020KiB, not "1MiB"'),
        # ids
        (BASE.replace("id: app", "id: My App"), f't.yaml:5: sources[0].id: "My App" {ID}'),
        (BASE.replace("id: main", "id: ../x"), f't.yaml:7: stores[0].id: "../x" {ID}'),
        (BASE.replace("id: main", f"id: {'x' * 64}"), f't.yaml:7: stores[0].id: "{"x" * 60}…" {ID}'),
        (HEAD + SOURCES + "  - {id: app, file: /y}\n" + STORES, 't.yaml:6: sources[1]: the id "app" is taken; first in line 5'),
        (BASE + "  - {id: main, directory: /y}\n", 't.yaml:8: stores[1]: the id "main" is taken; first in line 7'),
        # sources
        (HEAD + "sources:\n  - {id: app}\n" + STORES, f"t.yaml:5: sources[0]: {ONE_KIND} none of {KINDS}"),
        (HEAD + "sources:\n  - {id: a, file: /x, pipe: stdin}\n" + STORES, f"t.yaml:5: sources[0]: {ONE_KIND} file and pipe"),
        (HEAD + "sources:\n  - {id: a, pipe: stdout}\n" + STORES, 't.yaml:5: sources[0].pipe: must be stdin, not "stdout"'),
        (HEAD + "sources:\n  - {id: a, command: ls -l}\n" + STORES, 't.yaml:5: sources[0].command: must be a list of words, not "ls -l"'),
        (HEAD + "sources:\n  - {id: a, command: []}\n" + STORES, "t.yaml:5: sources[0].command: must begin with the program to run"),
        (HEAD + "sources:\n  - {id: a, command: [x, 80]}\n" + STORES, "t.yaml:5: sources[0].command[1]: must be a text, not the number 80"),
        (HEAD + "sources:\n  - {id: a, file: []}\n" + STORES, "t.yaml:5: sources[0].file: must name at least one file pattern"),
        (HEAD + "sources:\n  - id: a\n    file:\n      - /x\n      - /y/\n" + STORES, 't.yaml:8: sources[0].file[1]: "/y/" names a folder'),
        (
            HEAD + "sources:\n  - {id: a, pipe: stdin}\n  - {id: b, command: [x]}\n" + STORES,
            "t.yaml:6: sources[1]: only one source can be a pipe or a command, and a is one already",
        ),
        (
            HEAD + SOURCES + '  - {id: b, file: "/var/log/app/*.log"}\n' + STORES,
            "t.yaml:6: sources[1].file: /var/log/app/*.log is read by the source app already",
        ),
        (
            BASE + "observability: {file: /var/log/app/other.log}\n",
            "t.yaml:5: sources[0].file: /var/log/app/*.log would read the file observability writes, /var/log/app/other.log, without end",
        ),
        (
            of_source('container: "/var/log/app/*.log"'),
            "t.yaml:6: sources[1].container: /var/log/app/*.log is read by the source app already",
        ),
        (of_source("journal: {}"), f"t.yaml:6: sources[1].journal: {WHICH}"),
        (of_source("journal: {all: true, units: [a]}"), f"t.yaml:6: sources[1].journal: {WHICH}"),
        (of_source("journal: {units: []}"), "t.yaml:6: sources[1].journal.units: must name at least one"),
        (of_source("journal: {units: [a, b, a]}"), 't.yaml:6: sources[1].journal.units[2]: "a" stands here twice'),
        (
            of_source("journal: {all: true}"),
            "t.yaml:6: sources[1].journal: under systemd this would read what the agent passes on to stdout, without end",
        ),
        (of_source("socket: {}"), "t.yaml:6: sources[1].socket: a socket needs listen, path or both"),
        (of_source("socket: {listen: none}"), "t.yaml:6: sources[1].socket: a socket needs listen, path or both"),
        (of_source('socket: {listen: "0.0.0.0:80"}'), f"t.yaml:6: sources[1].socket: 0.0.0.0:80 {REACHABLE}"),
        (of_source('socket: {listen: "[::]:80"}'), f"t.yaml:6: sources[1].socket: [::]:80 {REACHABLE}"),
        (of_source('socket: {listen: "localhost.example:80"}'), f"t.yaml:6: sources[1].socket: localhost.example:80 {REACHABLE}"),
        (of_source('socket: {path: /s, mode: "rw"}'), 't.yaml:6: sources[1].socket.mode: must be permission bits in octal, not "rw"'),
        (
            of_source(f"socket: {{path: /{'x' * 107}}}"),
            f"t.yaml:6: sources[1].socket: a socket's path has at most 107 bytes, and /{'x' * 107} is longer",
        ),
        (of_source('socket: {listen: "127.0.0.1:9600"}'), "t.yaml:6: sources[1].socket.listen: 127.0.0.1:9600 is taken by vitals"),
        (
            of_source("socket: {path: /var/lib/trailseal/agent.sock}"),
            "t.yaml:6: sources[1].socket.path: /var/lib/trailseal/agent.sock is taken by the agent itself",
        ),
        (
            HEAD + "sources:\n  - {id: a, socket: {path: /s}}\n  - {id: b, socket: {path: /s}}\n" + STORES,
            "t.yaml:6: sources[1].socket.path: /s is taken by the source a",
        ),
        # rules
        (BASE + "audit: {prefix: x, all: true}\n", "t.yaml:8: audit: choose one of: field and value, prefix, all"),
        (BASE + "audit: {field: x, prefix: y}\n", "t.yaml:8: audit: choose one of: field and value, prefix, all"),
        (
            BASE + "audit: {value: 'a\"b'}\n",
            't.yaml:8: audit: value: must be one or more printable ASCII characters other than the quote ("), backslash and slash',
        ),
        (BASE.replace('.log"}', '.log", audit: {all: maybe}}'), 't.yaml:5: sources[0].audit.all: must be true or false, not "maybe"'),
        # ways out
        (BASE + "observability: stderr\n", 't.yaml:8: observability: must be stdout or none, not "stderr"'),
        (BASE + "observability: {path: /x}\n", "t.yaml:8: observability: must be stdout, none or {file: PATH}"),
        (BASE + "vitals: {listen: 9600}\n", "t.yaml:8: vitals.listen: must be a text, not the number 9600"),
        (BASE + "vitals: {listen: localhost}\n", 't.yaml:8: vitals.listen: must be host:port or none, not "localhost"'),
        (BASE + 'vitals: {listen: "h:65536"}\n', 't.yaml:8: vitals.listen: must be host:port or none, not "h:65536"'),
        # stores
        (HEAD + SOURCES + "stores: []\n", "t.yaml:6: stores: no store is required, so nothing would say when a batch is safe"),
        (
            BASE.replace("/srv/trail", "/srv/trail, required: false"),
            "t.yaml:6: stores: no store is required, so nothing would say when a batch is safe",
        ),
        (
            BASE.replace("/srv/trail", "/var/lib/trailseal/store"),
            "t.yaml:7: stores[0].directory: /var/lib/trailseal/store lies in one tree with state (/var/lib/trailseal)",
        ),
        (
            BASE + "  - {id: two, directory: /srv}\n",
            "t.yaml:8: stores[1].directory: /srv lies in one tree with the store main (/srv/trail)",
        ),
        # environment
        (BASE.replace("payments", "${SERVICE}"), "t.yaml:2: service: the environment variable SERVICE is not set"),
        (BASE.replace("payments", "${a b}"), "t.yaml:2: service: this ${ begins no substitution"),
        (BASE.replace("payments", "${A:-${B}}"), "t.yaml:2: service: this ${ begins no substitution"),
        (BASE.replace("payments", '"${EMPTY:-}"'), "t.yaml:2: service: must not be empty"),
        # files
        (BASE + "catalog: nowhere.yaml\n", "t.yaml:8: catalog: there is no file {folder}/nowhere.yaml"),
        (BASE + "enrolment_key: /nowhere/key\n", "t.yaml:8: enrolment_key: there is no file /nowhere/key"),
        # YAML
        ("", "t.yaml:1: the file is empty"),
        ("# nothing\n\n", "t.yaml:1: the file is empty"),
        ("- a\n- b\n", "t.yaml:1: the file must be a mapping of keys to values"),
        ("just words\n", "t.yaml:1: the file must be a mapping of keys to values"),
        (BASE + "seal:\n\tmax_age: 5s\n", "t.yaml:9: not YAML: found character '\\t' that cannot start any token"),
        (BASE + "a: b: c\n", "t.yaml:8: not YAML: mapping values are not allowed here"),
        (BASE + "seal: {max_age: 5s\n", "t.yaml:9: not YAML: expected ',' or '}', but got '<stream end>'"),
        (BASE + "state: 'x\n", "t.yaml:9: not YAML: found unexpected end of stream"),
        (BASE + "log: *nobody\n", "t.yaml:8: not YAML: found undefined alias 'nobody'"),
        (BASE + "---\na: 1\n", "t.yaml:8: not YAML: but found another document"),
        (BASE + "log: \x01\n", "t.yaml:8: a control character is not allowed in YAML"),
        (b"service: x\nstate: \xff\n", "t.yaml:2: the file is not UTF-8 text"),
    ],
)
def test_the_line_that_is_printed(tmp_path, monkeypatch, text, line):
    assert str(error_of(tmp_path, text, monkeypatch, {"EMPTY": ""})) == line.replace("{folder}", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (BASE + "spol: {}\n", "Did you mean spool?"),
        (BASE + "seal: {max_bites: 1}\n", "Did you mean max_bytes?"),
        (BASE + "xyzzy: 1\n", "Known here: namespace, service, instance, where,"),
        (BASE.replace("id: app", "id: My App"), "Try my-app."),
        (BASE + "log: {level: warn}\n", "Did you mean warning?"),
        (BASE + "seal:\n\tmax_age: 5s\n", "Indent with spaces"),
        (BASE.replace("payments", "${SERVICE}"), "Set it, or write ${SERVICE:-default}."),
        (BASE + "seal: {max_age: ${AGE}}\n", 'Inside { } and [ ], put "${NAME}" in quotes.'),
        (BASE.replace("/var/lib/trailseal", "2026"), 'Put it in quotes: "2026".'),
    ],
)
def test_the_hint_says_what_to_do(tmp_path, monkeypatch, text, hint):
    assert hint in error_of(tmp_path, text, monkeypatch).hint


def test_a_file_that_is_not_there():
    with pytest.raises(ConfigError) as caught:
        load("/nowhere/t.yaml", {})
    assert str(caught.value) == "/nowhere/t.yaml: cannot read this file: No such file or directory"
    assert caught.value.exit_code == 2


def test_a_file_that_is_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="cannot read this file: Is a directory"):
        load(str(tmp_path), {})


def test_what_a_variable_holds_is_never_printed(tmp_path, monkeypatch):
    error = error_of(tmp_path, BASE + "seal: {max_age: '${SECRET}'}\n", monkeypatch, {"SECRET": "hunter2"})
    assert "hunter2" not in str(error) + error.hint
    assert str(error).endswith('not "${SECRET}"')


def test_a_variable_cannot_add_keys(tmp_path, monkeypatch):
    environ = {"VALUE": "5s, max_bytes: 1KiB}\nephemeral: true"}
    error = error_of(tmp_path, BASE + "seal: {max_age: '${VALUE}'}\n", monkeypatch, environ)
    assert str(error).startswith("t.yaml:8: seal.max_age: must be a duration")


@pytest.mark.parametrize(
    ("catalog", "line"),
    [
        ("format: 2\nactions: {}\n", "c.yaml:1: format: must be 1"),
        (
            "format: 1\nactions:\n  role.grant: {category: authorization, sensitivity: huge}\n",
            "c.yaml:3: actions.role.grant.sensitivity: must be one of low, medium, high",
        ),
        (
            "format: 1\nactions:\n  role.grant:\n    sensitivity: low\n    kategory: x\n",
            "c.yaml:5: actions.role.grant.kategory: is not a known key",
        ),
        ("format: 1\nactions:\n  a: {}\n  a: {}\n", "c.yaml:4: actions.a: this key stands here twice; first in line 3"),
        ("format: 0x\nactions: [\n", "c.yaml:3: not YAML: expected the node content, but found '<stream end>'"),
        ("format: 1\nactions: {a: 0x1f}\n", 'c.yaml:2: actions.a: "0x1f" is not a decimal number'),
    ],
)
def test_an_error_in_the_catalog_names_the_catalog(tmp_path, monkeypatch, catalog, line):
    monkeypatch.chdir(tmp_path)
    Path("t.yaml").write_text(BASE + "catalog: c.yaml\n")
    Path("c.yaml").write_text(catalog)
    settings = load("t.yaml", {})
    with pytest.raises(ConfigError) as caught:
        settings.load_catalog()
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(line)


def test_aliases_inside_aliases_do_not_grow_without_bound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    levels = "\n".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    Path("c.yaml").write_text(f"format: 1\nactions:\n  a0: &a0 [x]\n{levels}\n")
    Path("t.yaml").write_text(BASE + "catalog: c.yaml\n")
    with pytest.raises(ConfigError, match="more than 200000 values"):
        load("t.yaml", {}).load_catalog()


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(
    where=st.lists(st.integers(0, len(BASE) - 1), min_size=1, max_size=3),
    what=st.sampled_from(
        [
            *"{}[]:'\"&*!|>?@`#~\t\r\n\0\x85",
            "- ",
            "---\n",
            "...\n",
            "%YAML 1.1\n",
            "${",
            "$$",
            "!!int ",
            "!x ",
            "<<: ",
            "9" * 400,
            "\u0663s",
        ]
    ),
)
def test_no_text_is_answered_with_anything_but_settings_or_one_line(where, what):
    text = BASE
    for place in where:
        text = text[:place] + what + text[place:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.yaml"
        path.write_bytes(text.encode())
        try:
            answer = load(str(path), {}).config_sha256
        except ConfigError as error:
            answer = str(error)
    assert re.fullmatch(rf"[0-9a-f]{{64}}|{re.escape(str(path))}:[0-9]+: [^\r\n\x85]+", answer)


def test_a_file_without_permission(tmp_path, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError) as caught:
        load("t.yaml", {})
    assert str(caught.value) == "t.yaml: cannot read this file: Permission denied"
    assert "must be able to read it" in caught.value.hint
