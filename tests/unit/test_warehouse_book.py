"""What the simulated warehouse floor does with a task, and what it remembers."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packing import NOON, FloorInMemory

from fulcrum.errors import Misconfigured
from fulcrum.workers.effect_log import EffectLog
from fulcrum.workers.warehouse_book import Book, Effect, KeyReused, NoSuchTask
from fulcrum.workers.warehouse_tokens import LONG

_PACE = timedelta(seconds=1)
_LONG = _PACE * (LONG + 10)


def offered(*lines: tuple[str, int]) -> Book:
    """A floor that was offered one task, ``t``, at noon."""
    book = Book(_PACE)
    book.offer("t", "flow", "1 Road", lines, NOON)
    return book


def seen(book: Book, after: timedelta) -> tuple[str, list[int]]:
    """State and picked units, so long after noon."""
    body = book.body("t", NOON + after)
    return body["state"], [line["picked"] for line in body["lines"]]


def test_a_task_is_assigned_picked_and_packed() -> None:
    """Line by line, each in its time; ten units fit into a parcel."""
    book = offered(("tea", 10), ("pot", 1))
    assert seen(book, timedelta(0)) == ("assigned", [0, 0])
    assert seen(book, _PACE) == ("picking", [0, 0])
    assert seen(book, _PACE * 2) == ("picking", [10, 0])
    assert seen(book, _PACE * 3) == ("packed", [10, 1])
    assert book.body("t", NOON + _PACE * 3)["parcels"] == 2
    assert book.hand_over("t", "N1", NOON + _PACE * 4)
    assert [effect.kind for effect in book.effects] == ["offer", "pick", "pick", "pack", "hand_over"]


@pytest.mark.parametrize(
    ("sku", "first", "later"),
    [
        ("tea", ("packed", 3), None),
        ("shortbread", ("packed", 3), None),
        ("short1-tea", ("short", 2), ("short", 2)),
        ("short-tea", ("short", 0), ("short", 0)),
        ("later1-tea", ("short", 2), ("packed", 3)),
        ("later-tea", ("short", 0), ("packed", 3)),
        ("broken-tea", ("short", 2), ("short", 2)),
    ],
)
def test_tokens(sku: str, first: tuple[str, int], later: tuple[str, int] | None) -> None:
    """What is found at first, and when it is tried again much later."""
    book = offered((sku, 3))
    state, picked = seen(book, _PACE * 2)
    assert (state, picked[0]) == first
    if later is not None:
        assert book.pick_again("t", NOON + _LONG)
        state, picked = seen(book, _LONG + _PACE)
        assert (state, picked[0]) == later


def test_a_broken_unit_is_damaged_once() -> None:
    """It is of no use, is not put back, and does not break again when the line is tried again."""
    book = offered(("broken-tea", 3))
    book.pick_again("t", NOON + _LONG)
    assert book.body("t", NOON + _LONG * 2)["lines"][0]["damaged"] == 1
    assert book.cancel("t", NOON + _LONG * 2)
    units = [(effect.kind, effect.quantity) for effect in book.effects if effect.line is not None]
    assert units == [("damage", 1), ("pick", 2), ("miss", 0), ("put_back", 2)]


def test_a_slow_line_takes_long() -> None:
    """Nothing else about it is different."""
    book = offered(("slow-tea", 3))
    assert seen(book, _PACE * 2) == ("picking", [0])
    assert seen(book, _LONG) == ("packed", [3])


def test_a_short_task_is_packed_as_it_is_when_told_so() -> None:
    """And not before; with nothing picked there is nothing to pack."""
    book = offered(("short1-tea", 3), ("short-pot", 1))
    assert not book.pack("t", NOON)
    assert book.pack("t", NOON + _LONG)
    assert seen(book, _LONG) == ("packed", [2, 0])
    empty = offered(("short-tea", 3))
    assert not empty.pack("t", NOON + _LONG)


def test_what_is_picked_is_put_back_once() -> None:
    """A second cancellation finds nothing, and the task cannot be packed or handed over any more."""
    book = offered(("tea", 3), ("slow-pot", 2))
    at = NOON + _PACE * 3
    assert book.cancel("t", at)
    assert book.cancel("t", at)
    assert [e.quantity for e in book.effects if e.kind == "put_back"] == [3]
    assert not book.pack("t", at + _LONG)
    assert not book.hand_over("t", "N1", at + _LONG)
    assert not book.pick_again("t", at + _LONG)
    assert book.body("t", at + _LONG)["state"] == "cancelled"


def test_what_left_is_not_put_back() -> None:
    """The courier has it; a hand-over that is asked for again is the same one."""
    book = offered(("tea", 3))
    assert book.hand_over("t", "N1", NOON + _LONG)
    assert book.hand_over("t", "N1", NOON + _LONG)
    assert not book.cancel("t", NOON + _LONG)
    assert [e.kind for e in book.effects].count("hand_over") == 1


def test_a_cancellation_before_the_offer_is_a_fence() -> None:
    """The offer that comes late finds a cancelled task."""
    book = Book(_PACE)
    assert book.cancel("t", NOON)
    book.offer("t", "flow", "1 Road", (("tea", 1),), NOON)
    assert book.body("t", NOON + _LONG)["state"] == "cancelled"
    assert [e.kind for e in book.effects] == ["cancel"]


def test_a_key_stands_for_one_order() -> None:
    """The same order again is the same task; another one is told so, and an unknown key too."""
    book = offered(("tea", 1))
    book.offer("t", "flow", "1 Road", (("tea", 1),), NOON)
    assert len(book.effects) == 1
    with pytest.raises(KeyReused):
        book.offer("t", "flow", "1 Road", (("tea", 2),), NOON)
    with pytest.raises(NoSuchTask):
        book.body("u", NOON)


_SKUS = st.sampled_from(["tea", "short1-a", "short-b", "later1-c", "later-d", "broken-e", "slow-f"])
_ACTS = st.lists(
    st.tuples(st.sampled_from(["look", "pick", "pack", "cancel", "hand_over"]), st.integers(0, 40)),
    max_size=12,
)


@given(st.lists(st.tuples(_SKUS, st.integers(1, 4)), min_size=1, max_size=4), _ACTS)
def test_a_kill_forgets_nothing(lines: list[tuple[str, int]], acts: list[tuple[str, int]]) -> None:
    """A book read from the effects says the same, and no unit is in two places, whatever was asked when."""
    floor = FloorInMemory(_PACE)
    book, now = floor.book, NOON
    book.offer("t", "flow", "1 Road", tuple(lines), now)
    for act, seconds in acts:
        now += timedelta(seconds=seconds)
        match act:
            case "pick":
                book.pick_again("t", now)
            case "pack":
                book.pack("t", now)
            case "cancel":
                book.cancel("t", now)
            case "hand_over":
                book.hand_over("t", "N1", now)
        again = Book(_PACE, [Effect(**json.loads(json.dumps(asdict(e)))) for e in book.effects])
        body = book.body("t", now)
        assert again.body("t", now) == body
    units = floor.units()
    left = sum(line["picked"] for line in body["lines"]) if acts else 0
    if acts:
        assert units.get("pick", 0) - units.get("put_back", 0) == left
        assert all(line["picked"] + line["damaged"] <= line["quantity"] for line in body["lines"])
    assert units.get("pack", 0) <= 1
    assert units.get("hand_over", 0) <= 1


def test_the_log_drops_a_torn_line_and_names_a_bad_one(tmp_path: Path) -> None:
    """What was cut off by a kill was told to nobody; a file of something else is not touched."""
    path = tmp_path / "effects.log"
    log = EffectLog(path, "warehouse_log", Effect)
    assert log.open() == []
    kept = offered(("tea", 1)).effects
    log.append(*kept)
    log.close()
    with path.open("a") as file:
        file.write('{"id": 2')
    assert EffectLog(path, "warehouse_log", Effect).open() == kept
    path.write_text('{"colour": "red"}\n')
    with pytest.raises(Misconfigured, match=r"line 1 is no effect.*FULCRUM_WAREHOUSE_LOG"):
        EffectLog(path, "warehouse_log", Effect).open()
