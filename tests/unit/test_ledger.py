"""Up to which offset may be committed?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fulcrum.agents.ledger import OffsetLedger

TP = ("topic", 0)


def ledger(position: int | None = 0, delivered: int = 5) -> OffsetLedger[tuple[str, int]]:
    """A ledger that has handed out ``delivered`` offsets from ``position``."""
    book: OffsetLedger[tuple[str, int]] = OffsetLedger()
    book.reset(TP, position)
    for offset in range(position or 0, (position or 0) + delivered):
        book.delivered(TP, offset)
    return book


def test_nothing_is_committable_before_the_lowest_is_finished() -> None:
    """Later events may finish first; the lowest unfinished one holds the mark."""
    book = ledger()
    book.finished(TP, 1)
    book.finished(TP, 2)

    assert book.committable(TP) is None

    book.finished(TP, 0)
    assert book.committable(TP) == 3


def test_a_failed_commit_advances_nothing() -> None:
    """Only what the broker stored counts as committed."""
    book = ledger()
    book.finished(TP, 0)
    assert book.committable(TP) == 1
    assert book.committable(TP) == 1

    book.committed(TP, 1)
    assert book.committable(TP) is None


def test_a_hole_that_the_broker_has_does_not_stop_the_mark() -> None:
    """Order of delivery counts, not consecutive numbers: segments may be gone."""
    book: OffsetLedger[tuple[str, int]] = OffsetLedger()
    book.reset(TP, 3)
    for offset in (3, 10, 11):
        book.delivered(TP, offset)
        book.finished(TP, offset)

    assert book.committable(TP) == 12


def test_an_event_of_an_earlier_assignment_changes_nothing() -> None:
    """After a reset, a late acknowledgement from before must not move the mark."""
    book = ledger(position=4, delivered=2)
    book.finished(TP, 1)

    assert book.committable(TP) is None


@given(st.permutations(range(20)))
def test_the_mark_is_always_below_every_unfinished_event(order: list[int]) -> None:
    """In whatever order events finish, the mark equals the lowest unfinished offset."""
    book = ledger(delivered=20)
    unfinished = set(range(20))
    for offset in order:
        book.finished(TP, offset)
        unfinished.discard(offset)
        mark = book.committable(TP)
        lowest = min(unfinished, default=20)
        assert (mark if mark is not None else 0) == lowest
        assert book.unfinished() == len(unfinished)
