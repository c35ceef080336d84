"""How much money is taken for what was packed?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fulcrum.saga.amounts import captured
from fulcrum.saga.messages import Line, LineTerms

ORDER = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 5000), st.integers(0, 20)), max_size=6)


def lines_of(order: list[tuple[int, int, int]]) -> tuple[tuple[Line, ...], tuple[LineTerms, ...], list[int]]:
    """Ordered lines, their terms, and how many units of each are missing."""
    lines = tuple(Line(f"sku-{n}", quantity) for n, (quantity, _, _) in enumerate(order))
    terms = tuple(LineTerms(unit, "cancel_line") for _, unit, _ in order)
    return lines, terms, [min(quantity, missing) for quantity, _, missing in order]


@given(ORDER, st.integers(0, 1000))
def test_what_is_missing_is_not_paid(order: list[tuple[int, int, int]], shipping: int) -> None:
    """The amount less the price of each missing unit."""
    lines, terms, missing = lines_of(order)
    amount = shipping + sum(each.unit_minor * line.quantity for each, line in zip(terms, lines, strict=True))
    packed = [Line(line.sku, line.quantity - n) for line, n in zip(lines, missing, strict=True)]
    due = amount - sum(each.unit_minor * n for each, n in zip(terms, missing, strict=True))
    assert captured(amount, lines, terms, packed) == due


@given(ORDER, st.integers(0, 100_000))
def test_it_is_never_negative_and_never_more_than_was_agreed(
    order: list[tuple[int, int, int]], amount: int
) -> None:
    """Also where the prices do not add up to the amount, or more was packed than was ordered."""
    lines, terms, missing = lines_of(order)
    packed = [Line(line.sku, n * 3) for line, n in zip(lines, missing, strict=True)]
    assert 0 <= captured(amount, lines, terms, packed) <= amount


@given(ORDER, st.integers(0, 100_000))
def test_an_order_that_is_packed_whole_is_paid_whole(order: list[tuple[int, int, int]], amount: int) -> None:
    """In whatever order the warehouse names the lines, and whether there are terms or not."""
    lines, terms, _ = lines_of(order)
    assert captured(amount, lines, terms, lines[::-1]) == amount
    assert captured(amount, lines, (), lines) == amount


def test_two_lines_of_one_sku_share_what_was_packed_of_it() -> None:
    """The first line is served first."""
    ordered = (Line("tea", 2), Line("tea", 2))
    terms = (LineTerms(100, "cancel_line"), LineTerms(70, "cancel_line"))
    assert captured(340, ordered, terms, [Line("tea", 3)]) == 270
