"""Log lines: one event a line, with the message at hand on each, in one form whoever wrote it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from fulcrum.settings import Settings
from fulcrum.telemetry.logs import bound, configure_logging

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    """Logging is global: put it back as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def _configured(**changes: str) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(Settings.model_validate({"instance": "2", **changes}), "payment", stream)
    return stream


@pytest.fixture
def lines() -> Lines:
    """What was logged as JSON, line by line."""
    stream = _configured()
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_event_level_time_and_process(lines: Lines) -> None:
    """Every line says what happened, how bad it is, when, and which process says so."""
    structlog.get_logger().warning("command.retried", attempt=2)
    [line] = lines()
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "command.retried",
        "level": "warning",
        "role": "payment",
        "instance": "2",
        "attempt": 2,
    }


def test_bound_keys_are_on_every_line_inside_and_on_none_outside(lines: Lines) -> None:
    """The message at hand is named once; inner keys come on top, None is left out."""
    log = structlog.get_logger()
    with bound(workflow_id="w1", message_id="m1", step=None):
        log.info("outer")
        with bound(step="reserve_stock", message_id="m2"):
            log.info("inner")
        log.info("outer")
    log.info("outside")
    seen = [{k: v for k, v in line.items() if k.endswith("_id") or k == "step"} for line in lines()]
    outer = {"workflow_id": "w1", "message_id": "m1"}
    assert seen == [outer, {"workflow_id": "w1", "message_id": "m2", "step": "reserve_stock"}, outer, {}]


async def test_messages_handled_at_once_keep_their_keys_apart(lines: Lines) -> None:
    """Tasks that interleave do not log under each other's workflow; a thread has its caller's."""
    log = structlog.get_logger()

    async def handle(workflow: str) -> None:
        with bound(workflow_id=workflow):
            for _ in range(3):
                await asyncio.sleep(0)
                log.info("handled", about=workflow)
            await asyncio.to_thread(log.info, "handled", about=workflow)

    await asyncio.gather(*(handle(f"w{n}") for n in range(4)))
    assert len(lines()) == 16
    assert all(line["workflow_id"] == line["about"] for line in lines())


def test_a_librarys_line_has_the_same_form(lines: Lines) -> None:
    """What logs through the standard library comes out as JSON, with its logger and the message at hand."""
    with bound(workflow_id="w1"):
        logging.getLogger("some.library").warning("lost %d of %s", 3, "them")
    [line] = lines()
    line.pop("at")
    assert line == {
        "event": "library.logged",
        "logger": "some.library",
        "message": "lost 3 of them",
        "level": "warning",
        "role": "payment",
        "instance": "2",
        "workflow_id": "w1",
    }


@pytest.mark.parametrize(
    "name", ["faust.transport", "aiokafka.consumer", "aio_pika", "httpx2", "mode.worker"]
)
def test_the_commentary_of_libraries_is_left_out_and_their_warnings_are_not(lines: Lines, name: str) -> None:
    """A line an event is enough; a library's info would bury it."""
    logging.getLogger(name).info("still here")
    logging.getLogger(name).error("gone")
    assert [line["message"] for line in lines()] == ["gone"]


@pytest.mark.parametrize("library", [False, True])
def test_an_exception_is_on_its_line(lines: Lines, library: bool) -> None:
    """A traceback belongs to its event and does not break into lines of its own."""
    try:
        raise ValueError("no such sku")
    except ValueError:
        (logging.getLogger("x") if library else structlog.get_logger()).exception("handler.failed")
    [line] = lines()
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback (most recent call last)")
    assert line["exception"].endswith("ValueError: no such sku")


def test_a_value_that_json_does_not_know_is_logged_as_text(lines: Lines) -> None:
    """A log line never raises because of what it is about."""
    structlog.get_logger().info("failed", error=ValueError("no"), at_once={1})
    assert lines()[0]["error"] == "no"


def test_the_level_cuts_ours_and_the_libraries() -> None:
    """FULCRUM_LOG_LEVEL decides for every line."""
    stream = _configured(log_level="error")
    structlog.get_logger().warning("ours")
    logging.getLogger("library").warning("theirs")
    structlog.get_logger().error("kept")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["kept"]


def test_debug_lets_the_libraries_keep_quiet() -> None:
    """Our debug lines do not bring a library's commentary along."""
    stream = _configured(log_level="debug")
    structlog.get_logger().debug("ours")
    logging.getLogger("faust").info("theirs")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["ours"]


def test_lines_for_people_are_short_and_without_colour_codes_in_a_file() -> None:
    """The human form shows level, event and facts; a file gets no escape sequences."""
    stream = _configured(log_format="human")
    with bound(workflow_id="w1"):
        structlog.get_logger().info("command.handled", type="ReserveStock")
        logging.getLogger("library").warning("careful")
    ours, theirs = stream.getvalue().splitlines()
    assert "[info     ] command.handled" in ours
    assert "type=ReserveStock" in ours
    assert "workflow_id=w1" in ours
    assert "careful" in theirs
    assert "\x1b" not in ours + theirs
