"""Trace context: one trace goes on from message to message."""

from __future__ import annotations

import re

import pytest

from fulcrum.telemetry.trace import child_of, new_traceparent

FORM = re.compile(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")


def test_a_new_trace_is_well_formed_and_sampled() -> None:
    """A new traceparent has the W3C form and the sampled flag."""
    traceparent = new_traceparent()
    assert FORM.match(traceparent)
    assert traceparent.endswith("-01")


def test_two_traces_differ() -> None:
    """No two new traces share an id."""
    assert new_traceparent().split("-")[1] != new_traceparent().split("-")[1]


def test_a_child_keeps_trace_and_flags_and_gets_its_own_span() -> None:
    """A child span belongs to the parent's trace and differs from the parent."""
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    child = child_of(parent)
    version, trace, span, flags = child.split("-")
    assert (version, trace, flags) == ("00", "4bf92f3577b34da6a3ce929d0e0e4736", "00")
    assert span != "00f067aa0ba902b7"
    assert FORM.match(child)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "",
        "nonsense",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
    ],
)
def test_a_missing_or_broken_parent_begins_a_new_trace(broken: str | None) -> None:
    """A sender's bad header is dropped and never fails the work."""
    child = child_of(broken)
    assert FORM.match(child)
    assert "4bf92f3577b34da6a3ce929d0e0e4736" not in child
