from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from agent.errors import StateError
from agent.vitals import log
from agent.vitals.log import MAX_TEXT_CHARACTERS, Repeats, _FromLibraries, configure, dropped_lines, flush, get_logger

if TYPE_CHECKING:
    from pathlib import Path


PATIENCE_SECONDS = 30.0


class Written:
    """A log file that the fixture's logger writes to."""

    def __init__(self, path: Path) -> None:
        """Open it."""
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self) -> list[dict[str, Any]]:
        """Return the lines logged so far, once they are written."""
        assert log._line is None or log._line.writer.wait(PATIENCE_SECONDS)
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]


@pytest.fixture
def written(tmp_path):
    file = Written(tmp_path / "log")
    configure("debug", descriptor=file.descriptor)
    yield file
    structlog.reset_defaults()
    for handler in logging.getLogger().handlers[:]:
        if type(handler).__module__ == "agent.vitals.log":
            logging.getLogger().removeHandler(handler)
    file()
    os.close(file.descriptor)


def test_a_line_has_time_level_event_and_fields_in_this_order(written):
    get_logger(source="app").info("source.opened", path="/var/log/app/a.log", offset=17)
    [line] = written()
    assert list(line) == ["time", "level", "event", "source", "path", "offset"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line["time"]))
    assert (line["level"], line["event"], line["offset"]) == ("info", "source.opened", 17)


def test_the_level_is_the_least_that_is_written(written):
    configure("warning", descriptor=written.descriptor)
    logger = get_logger()
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    logger.error("d")
    assert [(line["event"], line["level"]) for line in written()] == [("c", "warning"), ("d", "error")]


def test_bytes_and_long_texts_are_never_shown(written):
    get_logger().info("x", line=b"secret", many=[b"secret", {"k": memoryview(b"secret")}], text="y" * 1000)
    [line] = written()
    assert (line["line"], line["many"]) == ("<6 bytes>", ["<6 bytes>", {"k": "<6 bytes>"}])
    assert line["text"] == "y" * MAX_TEXT_CHARACTERS + "… (1000 characters)"


def test_a_foreign_exception_shows_its_type_and_place_but_not_its_words(written):
    try:
        json.loads('{"password": "hunter2"')
    except json.JSONDecodeError as error:
        get_logger().error("decode.failed", error=error)
        get_logger().exception("decode.failed.again")
        logging.getLogger("aiohttp").exception("while reading %s", error.doc)
    first, second, third = written()
    for line in (first, second, third):
        assert line["error"]["type"] == "JSONDecodeError"
        assert any("test_log.py:" in place for place in line["error"]["at"])
        assert "hunter2" not in json.dumps(line)
        assert line["level"] == "error"
    assert third["detail"] == "while reading %s"


def test_a_task_that_asyncio_reports_shows_no_words_either(written):
    async def fail() -> None:
        raise ValueError("hunter2")

    async def forget() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(forget())
    [line] = written()
    assert (line["detail"], line["error"]["type"]) == ("Task exception was never retrieved", "ValueError")
    assert "hunter2" not in json.dumps(line)


def test_an_object_is_shown_by_its_type_alone(written):
    get_logger().info("x", value=Repeats(), at=PurePath("/x"), level_=logging.Formatter)
    [line] = written()
    assert (line["value"], line["at"], line["level_"]) == ("<Repeats>", "/x", "<type>")


def test_a_library_s_wrong_arguments_do_not_matter(written):
    _FromLibraries().handle(logging.LogRecord("x", logging.WARNING, "x.py", 1, "%d things", ("many",), None))
    assert written()[0]["detail"] == "%d things"


def test_our_own_errors_and_the_system_s_keep_their_words(written):
    get_logger().error("a", error=StateError("locked by another agent", hint="stop it"))
    get_logger().error("b", error=FileNotFoundError(2, "No such file or directory", "/x"))
    first, second = written()
    assert first["error"] == {"type": "StateError", "message": "locked by another agent", "hint": "stop it"}
    assert {**second["error"], "at": None} == {
        "type": "FileNotFoundError",
        "message": "No such file or directory",
        "errno": 2,
        "path": "/x",
        "at": None,
    }


@pytest.mark.parametrize("value", [2**70, "\udcff", "a\nb", float("nan"), object, None, True, {1: 2}])
def test_any_value_is_one_line_of_json(written, value):
    get_logger().info("x", value=value)
    assert len(written()) == 1


def test_repeated_messages_are_held_back_and_counted(written):
    now = [0.0]
    configure("info", descriptor=written.descriptor, repeats=Repeats(10, lambda: now[0]))
    logger = get_logger(store="main")
    for _ in range(5):
        logger.warning("store.refused", attempt=1)
    get_logger(store="other").warning("store.refused", attempt=1)
    logger.error("store.refused")
    now[0] = 10.0
    logger.warning("store.refused", attempt=6)
    assert [(line["store"], line["level"], line.get("repeated")) for line in written()] == [
        ("main", "warning", None),
        ("other", "warning", None),
        ("main", "error", None),
        ("main", "warning", 4),
    ]


def test_what_is_held_back_is_written_at_the_end(written):
    for attempt in range(3):
        get_logger().warning("store.refused", attempt=attempt)
    flush()
    flush()
    assert [(line["attempt"], line["level"], line.get("repeated")) for line in written()] == [(0, "warning", None), (2, "warning", 2)]


def test_remembering_messages_takes_bounded_memory():
    repeats = Repeats()
    for number in range(5000):
        repeats(None, "info", {"event": "x", "path": str(number)})
    assert len(repeats._seen) == 1000


def test_what_libraries_warn_of_is_one_of_our_lines(written):
    logging.getLogger("asyncio").warning("Executing %s took too long", "step")
    logging.getLogger("asyncio").info("not this")
    [line] = written()
    assert (line["event"], line["logger"], line["detail"], line["level"]) == (
        "library",
        "asyncio",
        "Executing step took too long",
        "warning",
    )


def test_a_log_that_nobody_reads_stops_nothing(written):
    reader, writer = os.pipe()
    os.close(reader)
    configure("info", descriptor=writer)
    get_logger().info("into the void")
    flush(PATIENCE_SECONDS)
    assert dropped_lines() == 1
    os.close(writer)
    configure("info", descriptor=written.descriptor)
    get_logger().info("still here")
    assert [line["event"] for line in written()] == ["still here"]


def test_configuring_twice_does_not_double_the_lines(written):
    configure("info", descriptor=written.descriptor)
    logging.getLogger("x").warning("once")
    assert len(written()) == 1
