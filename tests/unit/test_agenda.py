"""Which key is due first?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fulcrum.agents.agenda import Agenda

START = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = st.sampled_from([b"a", b"b", b"c"])
MOVES = st.one_of(
    st.tuples(st.just("set"), KEYS, st.none() | st.integers(0, 20)),
    st.tuples(st.just("take"), st.integers(0, 20), st.integers(1, 3)),
)


def at(seconds: int) -> datetime:
    """So many seconds after the start."""
    return START + timedelta(seconds=seconds)


@given(st.lists(MOVES, max_size=60))
def test_an_agenda_does_what_a_plain_table_would(moves: list[tuple[str, object, object]]) -> None:
    """What is due comes out once, the longest overdue first, and never what was replaced or dropped."""
    agenda, table = Agenda(), {}
    for what, first, second in moves:
        if what == "set":
            assert isinstance(first, bytes)
            due = None if second is None else at(int(str(second)))
            agenda.set(first, due)
            table.pop(first, None)
            if due is not None:
                table[first] = due
        else:
            now, most = at(int(str(first))), int(str(second))
            taken = agenda.take(now, most)
            due_now = sorted((due, key) for key, due in table.items() if due <= now)
            assert taken == [key for _, key in due_now[:most]]
            for key in taken:
                del table[key]
        assert len(agenda) == len(table)


def test_replaced_times_do_not_pile_up() -> None:
    """A run changes many times before it ends; its old times must not fill the memory."""
    agenda = Agenda()
    for number in range(100_000):
        agenda.set(b"a", at(number))
    assert len(agenda._heap) < 2_000
