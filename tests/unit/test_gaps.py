"""What the relay remembers of ids that it passed over: nothing that may still commit is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fulcrum.store.gaps import Gaps


def _ranges(gaps: Gaps) -> list[tuple[int, int]]:
    return list(zip(*gaps.ranges(), strict=True))


def test_dense_ids_leave_no_gap() -> None:
    """Ids that follow each other from 1 leave nothing to look for."""
    gaps = Gaps()
    gaps.passed([1, 2, 3])
    gaps.passed([4])
    assert (gaps.last, bool(gaps), gaps.unsettled) == (4, False, False)


def test_what_lies_between_seen_ids_is_a_gap() -> None:
    """Also below the first id: whoever holds a lower one may not have committed yet."""
    gaps = Gaps()
    gaps.passed([4, 5, 8])
    gaps.passed([11])
    assert _ranges(gaps) == [(1, 3), (6, 7), (9, 10)]
    assert 7 in gaps
    assert 8 not in gaps


def test_a_row_in_a_gap_leaves_what_is_around_it() -> None:
    """Seen ids leave a gap from its ends and from its middle, and the last one closes it."""
    gaps = Gaps()
    gaps.passed([7])
    gaps.filled([3])
    assert _ranges(gaps) == [(1, 2), (4, 6)]
    gaps.filled([1, 2, 6])
    assert _ranges(gaps) == [(4, 5)]
    gaps.filled([4, 5])
    assert not gaps


def test_gap_is_open_while_one_of_its_writers_is() -> None:
    """A gap waits for those that wrote when it was looked at, and for nobody who came later."""
    gaps = Gaps()
    gaps.passed([3])
    gaps.looked(frozenset({"a", "b"}))
    gaps.looked(frozenset({"b", "c"}))
    gaps.close_settled()
    assert _ranges(gaps) == [(1, 2)]
    gaps.looked(frozenset({"c"}))
    assert not gaps.unsettled
    gaps.close_settled()
    assert not gaps


def test_a_gap_that_nobody_looked_at_is_not_closed() -> None:
    """A new gap stays although an older one is settled, and a part of one knows the writers of the whole."""
    gaps = Gaps()
    gaps.passed([4])
    gaps.looked(frozenset({"a"}))
    gaps.passed([6])
    gaps.filled([2])
    gaps.looked(frozenset({"b"}))
    gaps.close_settled()
    assert _ranges(gaps) == [(5, 5)]


_KEYS = 3


def _committed(order: list[int]) -> list[int]:
    """``order`` with the ids of each key (the id's remainder) in ascending order: rows of a key commit so."""
    keys = [sorted(row for row in order if row % _KEYS == key) for key in range(_KEYS)]
    return [keys[row % _KEYS].pop(0) for row in order]


@given(st.permutations(range(1, 10)), st.lists(st.integers(0, 3), max_size=12))
def test_every_row_comes_out_once_and_each_key_in_order(order: list[int], steps: list[int]) -> None:
    """Whatever the order of commits and however many fall between and into the two halves of a read."""
    gaps, visible, found = Gaps(), set[int](), list[int]()
    waiting, commits = _committed(order), iter(steps)

    def commit() -> None:
        for _ in range(next(commits, len(order))):
            visible.update([waiting.pop(0)] if waiting else [])

    for _ in range(len(steps) + 3):
        commit()
        behind = sorted(row for row in visible if row > gaps.last)
        commit()
        late = sorted(row for row in visible if row in gaps)
        gaps.close_settled()
        gaps.filled(late)
        gaps.passed(behind)
        gaps.looked(frozenset(map(str, waiting)))  # each row's transaction goes by its id
        found += [*late, *behind]
    assert sorted(found) == sorted(order)
    for key in range(_KEYS):
        mine = [row for row in found if row % _KEYS == key]
        assert mine == sorted(mine)
