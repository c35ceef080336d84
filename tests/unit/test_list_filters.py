"""Filters of the list: which go together, what a cursor belongs to, and what is told when they do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from pydantic import ValidationError

from fulcrum.readmodel import lists
from fulcrum.readmodel.lists import Filter
from fulcrum.web import lists as listing
from fulcrum.web.bodies import WorkflowsQuery
from fulcrum.web.problem import Problem

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EACH = {
    "status": {"statuses": frozenset({"running"})},
    "step": {"step": "reserve_stock"},
    "tenant": {"tenant": "acme"},
    "definition": {"definition": "fulfillment.v1"},
    "sku": {"sku": "tea-01"},
}
SETS = [frozenset(names) for size in range(6) for names in combinations(EACH, size)]


def chosen(names: frozenset[str]) -> Filter:
    """A filter by ``names``."""
    given: dict[str, Any] = {}
    for name in names:
        given |= EACH[name]
    return Filter(**given)


@pytest.mark.parametrize("names", SETS, ids=lambda names: "+".join(sorted(names)) or "none")
def test_every_set_of_filters_has_an_index_or_a_way_out(names: frozenset[str]) -> None:
    """What is refused is told with sets that are allowed, and that keep as much of it as can be."""
    assert chosen(names).names == names
    if chosen(names).index is None:
        remedy = lists.remedy(chosen(names))
        named = [frozenset(part.split(" and ")) for part in remedy[10:].split(";")[0].split(", or only ")]
        assert named
        assert all(part in lists.INDEXES and part < names for part in named)


@pytest.mark.parametrize(
    ("given", "statuses"),
    [
        ({"status": "running"}, {"running"}),
        ({"paused": "true"}, {"paused"}),
        ({"attention": "true"}, {"needs_attention"}),
        ({"paused": "false", "attention": "false"}, lists.STATUSES - {"paused", "needs_attention"}),
        ({"status": "paused", "paused": "true"}, {"paused"}),
        ({}, lists.STATUSES),
    ],
)
def test_paused_and_attention_are_statuses(given: dict[str, str], statuses: set[str]) -> None:
    """Each flag takes its status in or out."""
    assert listing._filter(WorkflowsQuery(**given), NOW).statuses == statuses  # type: ignore[arg-type]


def test_flags_that_leave_nothing_are_refused() -> None:
    """No workflow has two statuses, so the question is a mistake."""
    with pytest.raises(Problem, match="exclude each other"):
        listing._filter(WorkflowsQuery(status="running", paused="true"), NOW)


@pytest.mark.parametrize(
    ("given", "before"),
    [
        ({"older_than": "90s"}, NOW - timedelta(seconds=90)),
        ({"older_than": "2d"}, NOW - timedelta(days=2)),
        ({"older_than": "1h", "started_before": "2026-03-01T10:00:00Z"}, NOW - timedelta(hours=2)),
        ({"older_than": "1h", "started_before": "2026-03-01T14:30:00+02:00"}, NOW - timedelta(hours=1)),
    ],
)
def test_age_is_a_start_time(given: dict[str, str], before: datetime) -> None:
    """Of two bounds the earlier one counts."""
    assert listing._filter(WorkflowsQuery(**given), NOW).before == before  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["2026-03-01", "2026-03-01T12:00:00", "2026-02-30T12:00:00Z", "0", "now"])
def test_time_without_zone_or_day_is_refused(text: str) -> None:
    """The remedy shows what a time looks like."""
    with pytest.raises(ValidationError, match="such as 2026-03-01T12:00:00Z"):
        WorkflowsQuery(started_after=text)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("0811-02-20T23:57:45.0+23:47", "0811-02-20T00:10:45+00:00"),
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_time_in_a_zone_that_postgres_does_not_know(text: str, utc: str) -> None:
    """It is taken to UTC, and in the first year there is as if it were UTC."""
    found = listing._filter(WorkflowsQuery(started_after=text), NOW).after  # type: ignore[arg-type]
    assert found is not None
    assert found.isoformat() == utc


def test_cursor_belongs_to_its_filter() -> None:
    """With the same filter it is a place in the list; with another one it is refused."""
    last = {"started_at": NOW.isoformat(), "workflow_id": "6f0c1d9e-1111-5222-8333-444455556666"}
    cursor = listing._cursor(last, "0123456789ab")
    found = listing._position(cursor, "0123456789ab")
    assert (found.started_at, found.workflow_id) == (NOW, last["workflow_id"])
    with pytest.raises(Problem, match="other filters"):
        listing._position(cursor, "ba9876543210")
    with pytest.raises(Problem, match="no next_cursor"):
        listing._position(cursor[:-40], "0123456789ab")


def test_fingerprint_tells_filters_apart() -> None:
    """The order of parameters does not matter; each name and each value does."""
    one = lists.fingerprint([("tenant", "acme"), ("status", "running")])
    assert one == lists.fingerprint([("status", "running"), ("tenant", "acme")])
    others = [[("tenant", "acme")], [("tenant", "running"), ("status", "acme")], []]
    assert one not in {lists.fingerprint(other) for other in others}
