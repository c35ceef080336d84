"""What becomes of an order of which some lines are short."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulcrum.workers.warehouse_policy import (
    POLICIES,
    PackAsIs,
    PackLine,
    Refuse,
    Verdict,
    WaitForGoods,
    judge,
)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_LATER = NOON + timedelta(hours=1)


def line(picked: int, on_short: str, requested: int = 2) -> PackLine:
    """A line of which so many units are picked."""
    return PackLine("tea", requested, picked, 100, on_short)


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([line(2, "cancel_order")], PackAsIs()),
        ([line(2, "wait"), line(2, "cancel_line")], PackAsIs()),
        ([line(1, "cancel_order")], Refuse("short")),
        ([line(0, "cancel_order"), line(2, "cancel_line")], Refuse("short")),
        ([line(1, "cancel_line")], PackAsIs()),
        ([line(0, "cancel_line"), line(2, "cancel_order")], PackAsIs()),
        ([line(0, "cancel_line"), line(0, "cancel_line")], Refuse("nothing_left")),
        ([line(1, "wait")], WaitForGoods()),
        ([line(0, "wait"), line(0, "cancel_line")], WaitForGoods()),
        ([line(0, "wait"), line(1, "cancel_order")], Refuse("short")),
        ([line(0, "cancel_line"), line(0, "wait"), line(0, "cancel_order")], Refuse("short")),
    ],
)
def test_the_strictest_short_line_decides(lines: list[PackLine], verdict: Verdict) -> None:
    """A line that is complete has no say, whatever its terms are."""
    assert judge(lines, NOON, None) == verdict


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (_LATER - timedelta(microseconds=1), WaitForGoods()),
        (_LATER, Refuse("backorder_expired")),
        (_LATER + timedelta(days=1), Refuse("backorder_expired")),
    ],
)
def test_a_wait_ends(now: datetime, verdict: Verdict) -> None:
    """Goods that come at the end of the wait or later are not waited for."""
    assert judge([line(0, "wait")], now, _LATER) == verdict


_LINES = st.lists(
    st.builds(line, st.integers(min_value=0, max_value=3), st.sampled_from(POLICIES), st.just(3)),
    min_size=1,
    max_size=6,
)


@given(_LINES, st.sampled_from([None, NOON, _LATER]))
def test_packing_breaks_no_promise(lines: list[PackLine], waits_until: datetime | None) -> None:
    """What is packed lacks units only of lines that allow it, is not empty, and is never given up in vain."""
    verdict = judge(lines, NOON, waits_until)
    allowed = all(each.on_short == "cancel_line" for each in lines if each.short)
    assert (verdict == PackAsIs()) == (allowed and any(each.picked for each in lines))
    if not any(each.short for each in lines):
        assert verdict == PackAsIs()


@given(_LINES, st.sampled_from([None, NOON, _LATER]))
def test_the_order_of_the_lines_does_not_matter(lines: list[PackLine], waits_until: datetime | None) -> None:
    """The verdict is about the lines, not about their places."""
    assert judge(reversed(lines), NOON, waits_until) == judge(lines, NOON, waits_until)


@given(_LINES)
def test_only_a_waiting_line_waits(lines: list[PackLine]) -> None:
    """Nothing waits for goods unless a short line says so, and none that is short cancels the order."""
    terms = {each.on_short for each in lines if each.short}
    assert (judge(lines, NOON, None) == WaitForGoods()) == ("wait" in terms and "cancel_order" not in terms)
