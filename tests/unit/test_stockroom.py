"""The stockroom: all or nothing, never more than there is, and every unit accounted for.

Long, because one model of the stock stands beside every command and every copy of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulcrum.errors import Rejected
from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    Command,
    ConfirmStock,
    ConsumeStock,
    HoldStock,
    Line,
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    RestockStock,
    ShortLine,
    StockConfirmed,
    StockRejected,
    StockReleased,
    StockReserved,
)
from fulcrum.workers.handlers import INVENTORY_HANDLERS
from fulcrum.workers.stockroom import GONE, Reservation, Stock, Stockroom

TTL = timedelta(hours=1)
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_NAMES = UUID("0b9f5b3e-5c1e-5d0a-9a55-0d4e6f7a8b90")


def workflow(number: int = 1) -> str:
    """The id of a workflow."""
    return str(uuid5(_NAMES, f"workflow {number}"))


def reserve(*lines: tuple[str, int], flow: int = 1, attempt: int = 1) -> ReserveStock:
    """Hold these quantities."""
    return ReserveStock(
        command_id=identity.command_id(workflow(flow), "reserve_stock", "ReserveStock", attempt),
        workflow_id=workflow(flow),
        step="reserve_stock",
        attempt=attempt,
        issued_at=NOON,
        lines=tuple(Line(sku, quantity) for sku, quantity in lines),
    )


def release(flow: int = 1, attempt: int = 1) -> ReleaseStock:
    """Give back what the workflow holds."""
    return ReleaseStock(
        command_id=identity.command_id(workflow(flow), "release_stock", "ReleaseStock", attempt),
        workflow_id=workflow(flow),
        step="release_stock",
        attempt=attempt,
        issued_at=NOON,
    )


def hold(*lines: tuple[str, int], flow: int = 1, attempt: int = 1) -> HoldStock:
    """Hold these quantities until they are confirmed, or lapse."""
    held = reserve(*lines, flow=flow, attempt=attempt)
    return HoldStock(
        command_id=identity.command_id(workflow(flow), "reserve_stock", "HoldStock", attempt),
        workflow_id=held.workflow_id,
        step=held.step,
        attempt=attempt,
        issued_at=NOON,
        lines=held.lines,
    )


def confirm(flow: int = 1, attempt: int = 1) -> ConfirmStock:
    """Keep what the workflow holds."""
    return ConfirmStock(
        command_id=identity.command_id(workflow(flow), "confirm_stock", "ConfirmStock", attempt),
        workflow_id=workflow(flow),
        step="confirm_stock",
        attempt=attempt,
        issued_at=NOON,
    )


def consume(*lines: tuple[str, int], flow: int = 1, attempt: int = 1) -> ConsumeStock:
    """Let these quantities leave."""
    return ConsumeStock(
        command_id=identity.command_id(workflow(flow), "consume_stock", "ConsumeStock", attempt),
        workflow_id=workflow(flow),
        step="consume_stock",
        attempt=attempt,
        issued_at=NOON,
        lines=tuple(Line(sku, quantity) for sku, quantity in lines),
    )


def restock(undamaged: bool = True, flow: int = 1, attempt: int = 1) -> RestockStock:
    """Take back what left, or write it off."""
    return RestockStock(
        command_id=identity.command_id(workflow(flow), "consume_stock", "RestockStock", attempt),
        workflow_id=workflow(flow),
        step="consume_stock",
        attempt=attempt,
        issued_at=NOON,
        undamaged=undamaged,
    )


def command_of(held: Reservation) -> HoldStock:
    """The command that made the hold, as far as its answer tells."""
    return replace(hold(("apple", 1)), command_id=held.command_id, workflow_id=held.workflow_id)


def receive(sku: str, quantity: int, key: str = "delivery") -> ReceiveStock:
    """Goods arrive."""
    return ReceiveStock(
        command_id=identity.receipt_id(sku, key), sku=sku, quantity=quantity, reference=key, issued_at=NOON
    )


def room(*reservations: Reservation, **stock: int) -> Stockroom:
    """A stockroom with so much of each SKU available."""
    return Stockroom([Stock(sku, units, version=3) for sku, units in stock.items()], reservations, NOON)


def counts(stockroom: Stockroom) -> Mapping[str, tuple[int, int]]:
    """What is available and what is reserved, by SKU."""
    return {sku: (stock.available, stock.reserved) for sku, stock in stockroom.stock.items()}


# --- reserve --------------------------------------------------------------------------------------


def test_reservation_moves_units_from_available_to_reserved() -> None:
    """What is held is no longer available, and the answer names it."""
    store = room(apple=5, pear=2)
    command = reserve(("pear", 2), ("apple", 1))
    assert store.reserve(command) == StockReserved(
        event_id=identity.event_id(command.command_id, "StockReserved"),
        workflow_id=workflow(),
        sequence=1,
        occurred_at=NOON,
        command_id=command.command_id,
        lines=(Line("apple", 1), Line("pear", 2)),
        expires_at=None,
    )
    assert counts(store) == {"apple": (4, 1), "pear": (0, 2)}


def test_reservation_holds_every_line_or_none() -> None:
    """One line that is short leaves the others untouched."""
    store = room(apple=5, pear=2)
    answer = store.reserve(reserve(("apple", 1), ("pear", 3)))
    assert isinstance(answer, StockRejected)
    assert counts(store) == {"apple": (5, 0), "pear": (2, 0)}
    assert not store.changed_stock
    assert not store.entries
    assert not store.new_holds


def test_out_of_stock_names_the_short_lines_and_no_others() -> None:
    """The answer says what was asked for and what was there, also for a SKU that nobody knows."""
    answer = room(apple=5, pear=2).reserve(reserve(("apple", 5), ("pear", 3), ("quince", 1)))
    assert isinstance(answer, StockRejected)
    assert answer.reason == "out_of_stock"
    assert answer.short == (ShortLine("pear", 3, 2), ShortLine("quince", 1, 0))


def test_unknown_sku_gets_no_row_by_being_asked_for() -> None:
    """A refusal creates no stock row."""
    store = room()
    store.reserve(reserve(("quince", 1)))
    assert not store.stock


def test_lines_of_the_same_sku_count_with_their_sum() -> None:
    """Two lines of 2 hold 4, as one line and one ledger entry."""
    store = room(apple=4)
    answer = store.reserve(reserve(("apple", 2), ("apple", 2)))
    assert isinstance(answer, StockReserved)
    assert answer.lines == (Line("apple", 4),)
    assert counts(store) == {"apple": (0, 4)}
    assert [(entry.sku, entry.available, entry.reserved) for entry in store.entries] == [("apple", -4, 4)]


def test_lines_of_the_same_sku_are_short_together() -> None:
    """Lines that would each be covered are refused when their sum is not."""
    answer = room(apple=3).reserve(reserve(("apple", 2), ("apple", 2)))
    assert isinstance(answer, StockRejected)
    assert answer.short == (ShortLine("apple", 4, 3),)


def test_new_attempt_of_a_held_reservation_holds_nothing_more() -> None:
    """Another command for what is held already is told what is held, and moves nothing."""
    store = room(apple=5)
    store.reserve(reserve(("apple", 2)))
    store.new_holds.clear()
    answer = store.reserve(reserve(("apple", 2), attempt=2))
    assert isinstance(answer, StockReserved)
    assert (answer.sequence, answer.lines) == (2, (Line("apple", 2),))
    assert counts(store) == {"apple": (3, 2)}
    assert not store.new_holds


def test_rejected_reservation_can_be_tried_again() -> None:
    """A new attempt after a receipt gets what the first one could not."""
    store = room(apple=1)
    assert isinstance(store.reserve(reserve(("apple", 2))), StockRejected)
    store.receive(receive("apple", 1))
    answer = store.reserve(reserve(("apple", 2), attempt=2))
    assert isinstance(answer, StockReserved)
    assert answer.sequence == 2
    assert store.reservations[workflow()].reason is None


def test_attempt_that_a_newer_one_overtook_holds_nothing() -> None:
    """Nobody waits for it any more, so what it held would never be given back."""
    store = room(apple=5)
    store.reserve(reserve(("apple", 6), attempt=2))
    late = store.reserve(reserve(("apple", 2)))
    assert isinstance(late, StockRejected)
    assert (late.reason, late.sequence) == ("superseded", 2)
    assert not store.entries
    assert store.reservations[workflow()].attempt == 2


def test_other_lines_than_those_held_are_rejected() -> None:
    """A yes would promise what nobody holds; the hold that is there stays as it is."""
    store = room(apple=9)
    store.reserve(reserve(("apple", 2)))
    with pytest.raises(Rejected, match="already holds"):
        store.reserve(reserve(("apple", 3), attempt=2))
    assert counts(store) == {"apple": (7, 2)}
    assert store.reservations[workflow()].sequence == 1


@pytest.mark.parametrize("lines", [[], [("apple", 0)], [("apple", 3), ("apple", -1)]])
def test_lines_that_make_no_sense_are_rejected(lines: list[tuple[str, int]]) -> None:
    """No lines, or a quantity below 1, would move stock the wrong way."""
    with pytest.raises(Rejected, match=r"lines|quantity"):
        room(apple=5).reserve(reserve(*lines))


def test_receipt_of_nothing_is_rejected() -> None:
    """A quantity below 1 is no receipt."""
    with pytest.raises(Rejected, match="quantity 0 of apple"):
        room().receive(receive("apple", 0))


def test_reservation_remembers_where_it_was_read() -> None:
    """Whoever writes it back must know whether there is a row, however often it moves in the batch."""
    held = Reservation(
        workflow(), "held", 4, "c0ffee00-0000-5000-8000-000000000001", 1, {"apple": 2}, stored=4
    )
    store = Stockroom([Stock("apple", reserved=2, version=3)], [held], NOON)
    store.release(release())
    store.reserve(reserve(("apple", 1), attempt=2))
    store.reserve(reserve(("apple", 1), flow=2))
    store.release(release(flow=2))
    kept = store.reservations[workflow()], store.reservations[workflow(2)]
    assert [(each.stored, each.sequence) for each in kept] == [(4, 6), (0, 2)]


# --- release and its fence ------------------------------------------------------------------------


def test_release_gives_back_what_was_held() -> None:
    """Reserved units are available again, and the answer names them."""
    store = room(apple=5)
    store.reserve(reserve(("apple", 2)))
    answer = store.release(release())
    assert isinstance(answer, StockReleased)
    assert (answer.sequence, answer.lines) == (2, (Line("apple", 2),))
    assert counts(store) == {"apple": (5, 0)}


def test_release_gives_back_what_an_earlier_batch_held() -> None:
    """The lines of a reservation that was read, not made in this batch, are given back too."""
    held = Reservation(workflow(), "held", 1, reserve().command_id, 1, {"apple": 2})
    store = Stockroom([Stock("apple", 3, 2, version=7)], [held], NOON)
    store.release(release())
    assert counts(store) == {"apple": (5, 0)}
    assert store.stock["apple"].version == 7


def test_second_release_gives_back_nothing() -> None:
    """Another release command is answered, and no unit moves twice."""
    store = room(apple=5)
    store.reserve(reserve(("apple", 2)))
    store.release(release())
    answer = store.release(release(attempt=2))
    assert isinstance(answer, StockReleased)
    assert (answer.sequence, answer.lines) == (3, ())
    assert counts(store) == {"apple": (5, 0)}


def test_release_before_the_reservation_is_answered() -> None:
    """Where nothing is held, nothing is given back, and the workflow is released all the same."""
    store = room(apple=5)
    answer = store.release(release())
    assert isinstance(answer, StockReleased)
    assert answer.lines == ()
    assert store.reservations[workflow()].state == "released"


@pytest.mark.parametrize("held_before", [False, True])
def test_reservation_after_a_release_is_fenced(held_before: bool) -> None:
    """What comes late holds nothing, for good: the fence stays when it is run into."""
    store = room(apple=5)
    if held_before:
        store.reserve(reserve(("apple", 2)))
    store.release(release())
    for attempt in (2, 3):
        answer = store.reserve(reserve(("apple", 2), attempt=attempt))
        assert isinstance(answer, StockRejected)
        assert (answer.reason, answer.short) == ("fenced", ())
    assert counts(store) == {"apple": (5, 0)}
    assert store.reservations[workflow()].state == "released"


# --- what lapses ----------------------------------------------------------------------------------


def test_only_a_hold_lapses() -> None:
    """A reservation is for good; without a time to live a hold is too."""
    store = Stockroom([Stock("apple", 9, version=3)], (), NOON, TTL)
    held, reserved = store.reserve(hold(("apple", 1))), store.reserve(reserve(("apple", 1), flow=2))
    assert (held.expires_at, reserved.expires_at) == (NOON + TTL, None)  # type: ignore[attr-defined]
    assert room(apple=9).reserve(hold(("apple", 1))).expires_at is None  # type: ignore[attr-defined]


def test_another_attempt_holds_no_longer_than_the_first() -> None:
    """Whoever repeats itself does not keep stock from others for ever."""
    first = Stockroom([Stock("apple", 9, version=3)], (), NOON, TTL)
    first.reserve(hold(("apple", 1)))
    later = Stockroom(first.stock.values(), first.reservations.values(), NOON + TTL / 2, TTL)
    again = later.reserve(hold(("apple", 1), attempt=2))
    assert again.expires_at == NOON + TTL  # type: ignore[attr-defined]


def test_expiry_gives_back_and_names_the_command_that_held() -> None:
    """Its ledger entry is its own, beside the one of that command."""
    store = Stockroom([Stock("apple", 5, version=3)], (), NOON, TTL)
    command = hold(("apple", 2))
    store.reserve(command)
    event = store.expire(workflow())
    assert (event.command_id, event.sequence, event.expires_at) == (command.command_id, 2, NOON + TTL)
    assert event.event_id == identity.event_id(command.command_id, "StockExpired")
    assert counts(store) == {"apple": (5, 0)}
    assert [(e.kind, e.available, e.reserved) for e in store.entries] == [
        ("reserve", -2, 2),
        ("expire", 2, -2),
    ]
    late = store.reserve(hold(("apple", 1), attempt=2))
    assert isinstance(late, StockRejected)
    assert late.reason == "expired"


def test_confirmation_is_answered_as_often_as_it_is_asked_for() -> None:
    """What is confirmed stays confirmed, also for a reservation that would not have lapsed."""
    store = room(apple=5)
    store.reserve(reserve(("apple", 2)))
    for attempt in (1, 2):
        answer = store.confirm(confirm(attempt=attempt))
        assert isinstance(answer, StockConfirmed)
        assert answer.lines == (Line("apple", 2),)
    assert store.reservations[workflow()].attempt == 1, "the attempt is the reservation's"


# --- receive --------------------------------------------------------------------------------------


def test_receipt_adds_to_a_sku_or_creates_it() -> None:
    """Goods are available at once; a SKU not seen before has version 0 until it is written."""
    store = room(apple=5)
    store.receive(receive("apple", 2))
    store.receive(receive("quince", 4))
    assert counts(store) == {"apple": (7, 0), "quince": (4, 0)}
    assert (store.stock["apple"].version, store.stock["quince"].version) == (3, 0)
    assert [(entry.kind, entry.workflow_id, entry.reference) for entry in store.entries] == [
        ("receive", None, "delivery")
    ] * 2


# --- batches --------------------------------------------------------------------------------------


def test_hot_sku_is_given_out_in_order_of_arrival() -> None:
    """Fifty reservations of one SKU with 30 units: the first 30 get it, and it is one changed row."""
    store = room(hot=30)
    answers = [store.reserve(reserve(("hot", 1), flow=number)) for number in range(50)]
    assert [type(answer) for answer in answers] == [StockReserved] * 30 + [StockRejected] * 20
    assert counts(store) == {"hot": (0, 30)}
    assert store.changed_stock == {"hot"}
    assert store.stock["hot"].version == 3


_flows = st.integers(0, 3)
_quantities = st.integers(1, 6)
_skus = st.sampled_from(["apple", "pear", "plum"])
_commands = st.lists(
    st.one_of(
        st.builds(
            lambda lines, flow: ("reserve", flow, lines),
            st.lists(st.tuples(_skus, _quantities), min_size=1, max_size=4),
            _flows,
        ),
        st.builds(
            lambda lines, flow: ("hold", flow, lines),
            st.lists(st.tuples(_skus, _quantities), min_size=1, max_size=4),
            _flows,
        ),
        st.builds(lambda flow: ("release", flow, None), _flows),
        st.builds(lambda flow: ("confirm", flow, None), _flows),
        st.builds(lambda flow: ("expire", flow, None), _flows),
        st.builds(
            lambda lines, flow: ("consume", flow, lines),
            st.lists(st.tuples(_skus, st.integers(1, 2)), min_size=1, max_size=2),
            _flows,
        ),
        st.builds(lambda flow: ("consume all", flow, None), _flows),
        st.builds(lambda undamaged, flow: ("restock", flow, undamaged), st.booleans(), _flows),
        st.builds(lambda sku, quantity: ("receive", sku, quantity), _skus, _quantities),
    ),
    max_size=30,
)


def carried_out(script: list[tuple[str, object, object]]) -> tuple[Stockroom, list[tuple[Command, object]]]:
    """Every command of ``script`` with its answer, each one a command of its own; those that are rejected
    are left out, as parking would."""
    store = Stockroom([Stock("apple", 8, version=3), Stock("pear", 3, version=3)], (), NOON, TTL)
    done: list[tuple[Command, object]] = []
    for number, (kind, subject, what) in enumerate(script, start=1):
        command: Command
        if kind == "expire":
            known = store.reservations.get(workflow(subject))  # type: ignore[arg-type]
            if known is not None and known.expires_at is not None:
                done.append((command_of(known), store.expire(known.workflow_id)))
            continue
        if kind == "consume all":
            known = store.reservations.get(workflow(subject))  # type: ignore[arg-type]
            kind, what = "consume", list(known.holds.items()) if known is not None else []
        if kind == "reserve":
            command = reserve(*what, flow=subject, attempt=number)  # type: ignore[misc, arg-type]
        elif kind == "hold":
            command = hold(*what, flow=subject, attempt=number)  # type: ignore[misc, arg-type]
        elif kind == "confirm":
            command = confirm(flow=subject, attempt=number)  # type: ignore[arg-type]
        elif kind == "consume":
            command = consume(*what, flow=subject, attempt=number)  # type: ignore[misc, arg-type]
        elif kind == "restock":
            command = restock(what, flow=subject, attempt=number)  # type: ignore[arg-type]
        elif kind == "release":
            command = release(flow=subject, attempt=number)  # type: ignore[arg-type]
        else:
            command = receive(subject, what, key=str(number))  # type: ignore[arg-type]
        with suppress(Rejected):
            done.append((command, INVENTORY_HANDLERS[type(command)](store, command)))
    return store, done


@settings(deadline=None)
@given(_commands)
def test_no_unit_is_lost_or_made(script: list[tuple[str, object, object]]) -> None:
    """Ledger sums are the stock, what is held is what is reserved, and nothing is below zero."""
    store, done = carried_out(script)
    available, reserved = Counter({"apple": 8, "pear": 3}), Counter[str]()
    consumed = Counter[str]()
    for entry in store.entries:
        available[entry.sku] += entry.available
        reserved[entry.sku] += entry.reserved
        consumed[entry.sku] += entry.consumed
    assert {sku: stock.consumed for sku, stock in store.stock.items()} == {
        sku: consumed[sku] for sku in store.stock
    }
    gone = Counter[str]()
    for kept in store.reservations.values():
        gone.update(dict(kept.lines) if kept.state in GONE else {})
    assert gone == +consumed
    assert counts(store) == {sku: (available[sku], reserved[sku]) for sku in store.stock}
    assert set(available) | set(reserved) <= set(store.stock)
    held = Counter[str]()
    for kept in store.reservations.values():
        held.update(dict(kept.holds))
    assert held == +reserved
    assert all(units >= 0 for both in counts(store).values() for units in both)
    assert all(stock.consumed >= 0 for stock in store.stock.values())
    arrived = Counter({"apple": 8, "pear": 3})
    for command, _ in done:
        if isinstance(command, ReceiveStock):
            arrived[command.sku] += command.quantity
    assert {sku: sum(counts(store)[sku]) + consumed[sku] for sku in store.stock} == arrived


@settings(deadline=None)
@given(_commands)
def test_answers_are_counted_without_gaps(script: list[tuple[str, object, object]]) -> None:
    """Each workflow's answers carry 1, 2, 3 ... and name the command that they answer."""
    store, done = carried_out(script)
    seen: dict[str, list[int]] = {}
    for command, answer in done:
        if isinstance(command, ReceiveStock):
            assert answer is None
            continue
        assert isinstance(answer, Answer)
        assert answer.command_id == command.command_id
        assert answer.event_id == identity.event_id(command.command_id, type(answer).__name__)
        seen.setdefault(answer.workflow_id, []).append(answer.sequence)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in seen.values())
    assert {flow: kept.sequence for flow, kept in store.reservations.items()} == {
        flow: len(numbers) for flow, numbers in seen.items()
    }


@settings(deadline=None)
@given(_commands)
def test_ledger_has_one_entry_per_command_and_sku(script: list[tuple[str, object, object]]) -> None:
    """The ledger's primary key holds, and the changed rows are those with entries."""
    store, _ = carried_out(script)
    keys = [(entry.command_id, entry.sku) for entry in store.entries]
    assert len(keys) == len(set(keys))
    assert {sku for _, sku in keys} == store.changed_stock
