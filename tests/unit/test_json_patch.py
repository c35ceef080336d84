"""What a JSON Patch makes of a message, and how a message is read back from its JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulcrum.commands.parker import jsonable
from fulcrum.errors import Rejected
from fulcrum.operations.editing import from_jsonable
from fulcrum.operations.json_patch import patched
from fulcrum.saga.messages import Line, ReserveStock

DOCUMENT = {"a": 1, "lines": [{"sku": "x"}, {"sku": "y"}], "odd/name~": None}
COMMAND = ReserveStock(
    command_id="c-1",
    workflow_id="w-1",
    step="ReserveStock",
    attempt=1,
    issued_at=datetime(2026, 3, 1, tzinfo=UTC),
    lines=(Line("tea", 2),),
)


@pytest.mark.parametrize(
    ("step", "path", "found"),
    [
        ({"op": "replace", "path": "/a", "value": 2}, ("a",), 2),
        ({"op": "add", "path": "/b", "value": []}, ("b",), []),
        ({"op": "add", "path": "/lines/1", "value": "z"}, ("lines",), [{"sku": "x"}, "z", {"sku": "y"}]),
        ({"op": "add", "path": "/lines/-", "value": "z"}, ("lines", 2), "z"),
        ({"op": "remove", "path": "/lines/0"}, ("lines",), [{"sku": "y"}]),
        ({"op": "replace", "path": "/lines/1/sku", "value": "q"}, ("lines", 1, "sku"), "q"),
        ({"op": "replace", "path": "/odd~1name~0", "value": 1}, ("odd/name~",), 1),
        ({"op": "test", "path": "/a", "value": 1}, ("a",), 1),
    ],
)
def test_step_changes_what_it_names(step: dict[str, Any], path: tuple[Any, ...], found: object) -> None:
    """Objects and arrays are changed at the pointer; the document that was given stays as it is."""
    before = repr(DOCUMENT)
    value: Any = patched(DOCUMENT, [step])
    for part in path:
        value = value[part]
    assert value == found
    assert repr(DOCUMENT) == before


@pytest.mark.parametrize(
    "step",
    [
        {"op": "remove", "path": "/nothing"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "replace", "path": "/lines/2", "value": 1},
        {"op": "replace", "path": "/lines/x", "value": 1},
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "move", "path": "/a", "value": 2},
        {"op": "replace", "path": "a", "value": 2},
        {"op": "replace"},
    ],
)
def test_step_that_does_not_fit_is_named(step: dict[str, Any]) -> None:
    """The error says which step it was."""
    with pytest.raises(Rejected, match=r"patch\[1\]"):
        patched(DOCUMENT, [{"op": "test", "path": "/a", "value": 1}, step])


@given(st.text(max_size=20), st.integers(-(2**40), 2**40), st.integers(1, 9))
def test_message_is_read_back_from_its_json(sku: str, quantity: int, lines: int) -> None:
    """What ``jsonable`` writes of a command is read back as the same command."""
    sku = sku.replace("\x00", "").encode("utf-8", "ignore").decode()
    command = ReserveStock(
        command_id="c", workflow_id="w", step="s", attempt=1,
        issued_at=COMMAND.issued_at, lines=(Line(sku, quantity),) * lines,
    )  # fmt: skip
    assert from_jsonable(ReserveStock, jsonable(command), "") == command


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"attempt": True}, "/attempt is True: give an integer"),
        ({"attempt": 1.0}, "/attempt is 1.0"),
        ({"step": None}, "/step is None: give text"),
        ({"issued_at": "yesterday"}, "/issued_at is 'yesterday': give a time"),
        ({"issued_at": "2026-03-01T00:00:00"}, "/issued_at is"),
        ({"lines": [{"sku": "tea"}]}, "/lines/0/quantity is missing"),
        ({"lines": [1]}, "/lines/0 is 1: give an object"),
        ({"lines": "tea"}, "/lines is 'tea'"),
        ({"colour": "red"}, "/colour is unknown"),
    ],
)
def test_field_at_fault_is_named(changes: dict[str, Any], told: str) -> None:
    """Nothing is converted, nothing unknown is let through, and the pointer says where."""
    with pytest.raises(Rejected) as caught:
        from_jsonable(ReserveStock, {**jsonable(COMMAND), **changes}, "")
    assert told in str(caught.value)
