"""Every state of a reservation and every command: what leaves, what comes back, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from test_stockroom import (
    NOON,
    TTL,
    confirm,
    consume,
    hold,
    release,
    reserve,
    restock,
    workflow,
)

from fulcrum.errors import Rejected
from fulcrum.saga.messages import (
    Command,
    Line,
    StockConsumed,
    StockNotConsumed,
    StockReleased,
    StockRestocked,
)
from fulcrum.workers.handlers import INVENTORY_HANDLERS
from fulcrum.workers.stockroom import Stock, Stockroom

#: What brings a reservation of two apples and a pear into each state.
_HISTORY: Mapping[str, tuple[Command, ...]] = {
    "none": (),
    "held": (reserve(("apple", 2), ("pear", 1)),),
    "confirmed": (reserve(("apple", 2), ("pear", 1)), confirm()),
    "rejected": (reserve(("apple", 99)),),
    "expired": (hold(("apple", 2), ("pear", 1)),),
    "released": (reserve(("apple", 2), ("pear", 1)), release()),
    "consumed": (reserve(("apple", 2), ("pear", 1)), consume(("apple", 2), ("pear", 1), attempt=90)),
    "short": (reserve(("apple", 2), ("pear", 1)), consume(("apple", 1), attempt=90)),
    "restocked": (
        reserve(("apple", 2), ("pear", 1)),
        consume(("apple", 2), ("pear", 1), attempt=90),
        restock(attempt=90),
    ),
    "written off": (
        reserve(("apple", 2), ("pear", 1)),
        consume(("apple", 2), ("pear", 1), attempt=90),
        restock(undamaged=False, attempt=90),
    ),
    "fenced, none": (restock(attempt=90),),
    "fenced, held": (reserve(("apple", 2), ("pear", 1)), restock(attempt=90)),
    "held behind the fence": (restock(attempt=90), reserve(("apple", 2), ("pear", 1))),
}
_COMMANDS: Mapping[str, Command] = {
    "reserve": reserve(("apple", 2), ("pear", 1), attempt=91),
    "release": release(attempt=91),
    "confirm": confirm(attempt=91),
    "consume": consume(("apple", 2), ("pear", 1), attempt=91),
    "restock": restock(attempt=91),
    "write off": restock(undamaged=False, attempt=91),
}
#: The state before, the command: the answer's type, the state after, and what the answer says.
_EXPECTED = """
none                  | consume   | StockNotConsumed  | rejected    | not_reserved
none                  | restock   | StockRestocked    | rejected    |
none                  | write off | StockRestocked    | rejected    |
held                  | consume   | StockConsumed     | consumed    | apple 2 pear 1
held                  | restock   | StockRestocked    | held        |
held                  | write off | StockRestocked    | held        |
confirmed             | consume   | StockConsumed     | consumed    | apple 2 pear 1
confirmed             | restock   | StockRestocked    | confirmed   |
rejected              | consume   | StockNotConsumed  | rejected    | rejected
rejected              | restock   | StockRestocked    | rejected    |
expired               | consume   | StockNotConsumed  | expired     | expired
expired               | restock   | StockRestocked    | expired     |
released              | consume   | StockNotConsumed  | released    | released
released              | restock   | StockRestocked    | released    |
consumed              | reserve   | StockRejected     | consumed    | consumed
consumed              | release   | StockReleased     | consumed    |
consumed              | confirm   | StockNotConfirmed | consumed    | consumed
consumed              | consume   | StockConsumed     | consumed    | apple 2 pear 1
consumed              | restock   | StockRestocked    | restocked   | apple 2 pear 1
consumed              | write off | StockRestocked    | written_off |
short                 | consume   | StockNotConsumed  | consumed    | consumed
short                 | restock   | StockRestocked    | restocked   | apple 1
short                 | release   | StockReleased     | consumed    |
restocked             | reserve   | StockRejected     | restocked   | fenced
restocked             | release   | StockReleased     | restocked   |
restocked             | confirm   | StockNotConfirmed | restocked   | restocked
restocked             | consume   | StockNotConsumed  | restocked   | restocked
restocked             | restock   | StockRestocked    | restocked   |
restocked             | write off | StockRestocked    | restocked   |
written off           | reserve   | StockRejected     | written_off | fenced
written off           | release   | StockReleased     | written_off |
written off           | confirm   | StockNotConfirmed | written_off | written_off
written off           | consume   | StockNotConsumed  | written_off | written_off
written off           | restock   | StockRestocked    | restocked   | apple 2 pear 1
written off           | write off | StockRestocked    | written_off |
fenced, none          | consume   | StockNotConsumed  | rejected    | rejected
fenced, none          | reserve   | StockReserved     | held        | apple 2 pear 1
fenced, held          | consume   | StockNotConsumed  | held        | fenced
fenced, held          | release   | StockReleased     | released    | apple 2 pear 1
fenced, held          | confirm   | StockConfirmed    | confirmed   | apple 2 pear 1
fenced, held          | restock   | StockRestocked    | held        |
held behind the fence | consume   | StockNotConsumed  | held        | fenced
held behind the fence | release   | StockReleased     | released    | apple 2 pear 1
"""
_CASES = [[cell.strip() for cell in line.split("|")] for line in _EXPECTED.strip().splitlines()]


def stockroom(before: str) -> Stockroom:
    """Nine apples and three pears, and a reservation in the state."""
    store = Stockroom([Stock("apple", 9, version=3), Stock("pear", 3, version=3)], (), NOON, TTL)
    for command in _HISTORY[before]:
        INVENTORY_HANDLERS[type(command)](store, command)
    if before == "expired":
        store.expire(workflow())
    return store


@pytest.mark.parametrize(("before", "name", "answer", "after", "says"), _CASES)
def test_each_state_has_an_answer_to_each_command(
    before: str, name: str, answer: str, after: str, says: str
) -> None:
    """The table of what left and came back; no unit is lost or made."""
    store = stockroom(before)
    sequence = store.reservations[workflow()].sequence if before != "none" else 0
    command = _COMMANDS[name]
    event = INVENTORY_HANDLERS[type(command)](store, command)
    said = getattr(event, "reason", None) or " ".join(f"{e.sku} {e.quantity}" for e in event.lines)
    kept = store.reservations[workflow()]
    assert (type(event).__name__, kept.state, said) == (answer, after, says)
    assert (event.sequence, kept.sequence) == (sequence + 1, sequence + 1)
    assert {sku: s.available + s.reserved + s.consumed for sku, s in store.stock.items()} == {
        "apple": 9,
        "pear": 3,
    }


def test_table_has_every_new_state_and_command() -> None:
    """What can be consumed or restocked is tried from every state."""
    tried = {(before, name) for before, name, *_ in _CASES}
    assert {(before, name) for before in _HISTORY for name in ("consume", "restock")} <= tried | {
        ("fenced, none", "restock"),
        ("held behind the fence", "restock"),
    }


# --- what leaves ----------------------------------------------------------------------------------


def test_consumption_moves_what_left_and_releases_the_rest() -> None:
    """Of each line its own part; a line that did not leave at all is released, in one entry each."""
    store = stockroom("held")
    event = store.consume(consume(("apple", 1)))
    assert isinstance(event, StockConsumed)
    assert event.lines == (Line("apple", 1),)
    assert event.released == (Line("apple", 1), Line("pear", 1))
    assert store.stock["apple"] == Stock("apple", 8, 0, 1, version=3)
    assert store.stock["pear"] == Stock("pear", 3, 0, 0, version=3)
    entries = [(e.sku, e.kind, e.available, e.reserved, e.consumed) for e in store.entries[-2:]]
    assert entries == [("apple", "consume", 1, -2, 1), ("pear", "release", 1, -1, 0)]


@pytest.mark.parametrize("lines", [[("apple", 3)], [("plum", 1)], [("apple", 2), ("apple", 1)]])
def test_more_than_is_held_does_not_leave(lines: list[tuple[str, int]]) -> None:
    """The hold stays as it is."""
    store = stockroom("held")
    event = store.consume(consume(*lines))
    assert isinstance(event, StockNotConsumed)
    assert event.reason == "short"
    assert store.reservations[workflow()].state == "held"
    assert len(store.entries) == 2


@pytest.mark.parametrize("lines", [[], [("apple", 0)]])
def test_consumption_of_nothing_is_rejected(lines: list[tuple[str, int]]) -> None:
    """It makes no sense, and would move stock the wrong way."""
    with pytest.raises(Rejected, match=r"lines|quantity"):
        stockroom("held").consume(consume(*lines))


def test_what_left_does_not_lapse() -> None:
    """The sweeper looks for a time, and there is none any more."""
    store = Stockroom([Stock("apple", 9, version=3)], (), NOON, TTL)
    store.reserve(hold(("apple", 2)))
    store.consume(consume(("apple", 2)))
    assert store.reservations[workflow()].expires_at is None


def test_undoing_all_leaves_everything_available() -> None:
    """The restock brings back what left; the release that follows finds nothing held."""
    store = stockroom("short")
    back = store.restock(restock(attempt=91))
    given = store.release(release(attempt=91))
    assert isinstance(back, StockRestocked)
    assert isinstance(given, StockReleased)
    assert (back.lines, given.lines) == ((Line("apple", 1),), ())
    assert store.stock["apple"] == Stock("apple", 9, version=3)
    assert store.stock["pear"] == Stock("pear", 3, version=3)
