"""The simulated courier's scripts and its book: what an address does, and that nothing happens twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shipments import NOON

from fulcrum.workers.courier_book import Book, Effect, KeyReused, NoSuchShipment, Request, update_body
from fulcrum.workers.courier_tokens import Script, script
from fulcrum.workers.tracking import ENDS, Status, read_update

_WAY = (Status.PICKED_UP, Status.IN_TRANSIT, Status.OUT_FOR_DELIVERY)
_DELIVERED = (*_WAY, Status.DELIVERED)


@pytest.mark.parametrize(
    ("ship_to", "expected"),
    [
        ("Main Street 1", Script(_DELIVERED)),
        ("lost", Script(_DELIVERED)),
        ("Returned-Street 4", Script(_DELIVERED)),
        ("returned-x", Script((*_WAY, Status.RETURNED))),
        ("returned_damaged-x", Script((*_WAY, Status.RETURNED), undamaged=False)),
        ("lost-x", Script((Status.PICKED_UP, Status.IN_TRANSIT, Status.LOST))),
        ("unknown-x", Script(_DELIVERED, refused=True)),
        ("nocancel-x", Script(_DELIVERED, stoppable=False)),
        ("silent-lost-x", Script((Status.PICKED_UP, Status.IN_TRANSIT, Status.LOST), silent=True)),
        ("twice-backwards-x", Script(_DELIVERED, twice=True, backwards=True)),
        ("replayed-mute-busy_3-x", Script(_DELIVERED, replayed=True, mute=True, busy=3)),
        ("stays_booked-x", Script(())),
        ("stays_in_transit-x", Script(_WAY[:2])),
        ("exception-stays_exception-x", Script((Status.PICKED_UP, Status.IN_TRANSIT, Status.EXCEPTION))),
    ],
)
def test_address_is_a_script(ship_to: str, expected: Script) -> None:
    """Words before the address, as many as there are."""
    assert script(ship_to) == expected


def booked(book: Book, ship_to: str = "home", key: str = "key 1") -> str:
    """Book a shipment; its id."""
    effect, new = book.book(key, Request("order 1", ship_to, 1), NOON)
    assert new
    assert effect.shipment_id is not None
    return effect.shipment_id


def stop(book: Book, shipment: str, key: str = "stop 1") -> str:
    """Stop it; what became of that, or why not."""
    effect, _ = book.stop(key, shipment, NOON)
    return effect.code or effect.kind


@pytest.mark.parametrize(
    ("ship_to", "moves", "expected"),
    [
        ("home", 0, "cancel"),
        ("nocancel-home", 0, "cancel"),
        ("home", 1, "intercept"),
        ("home", 3, "intercept"),
        ("nocancel-home", 1, "cannot_be_stopped"),
        ("home", 4, "over"),
        ("lost-home", 3, "over"),
    ],
)
def test_what_stops_depends_on_where_it_is(ship_to: str, moves: int, expected: str) -> None:
    """The same key gets the same answer for ever."""
    book = Book()
    shipment = booked(book, ship_to)
    for _ in range(moves):
        book.move(shipment, NOON)
    assert stop(book, shipment) == expected
    for _ in range(5):
        book.move(shipment, NOON)
    assert stop(book, shipment) == expected


def test_what_is_stopped_on_its_way_comes_back() -> None:
    """And another request finds it stopped already."""
    book = Book()
    shipment = booked(book, "stays_in_transit-home")
    book.move(shipment, NOON)
    assert [stop(book, shipment, key) for key in ("a", "a", "b")] == ["intercept"] * 3
    assert sum(effect.kind == "intercept" for effect in book.effects) == 1
    back = book.move(shipment, NOON)
    assert back is not None
    assert (back.status, back.undamaged) == (Status.RETURNED, True)
    assert book.due(shipment) is None


def test_a_key_used_for_something_else_is_refused() -> None:
    """Another request, another act, another shipment."""
    book = Book()
    first, second = booked(book), booked(book, key="key 2")
    stop(book, first)
    for act in (
        lambda: book.book("key 1", Request("order 2", "home", 1), NOON),
        lambda: book.book("stop 1", Request("order 1", "home", 1), NOON),
        lambda: book.stop("key 1", first, NOON),
        lambda: book.stop("stop 1", second, NOON),
    ):
        with pytest.raises(KeyReused):
            act()
    with pytest.raises(NoSuchShipment):
        book.stop("stop 2", "shp_nobody", NOON)


_ACTS = st.lists(
    st.tuples(st.sampled_from(["book", "stop", "move"]), st.integers(0, 3), st.integers(0, 3)), max_size=30
)


@given(_ACTS, st.sampled_from(["home", "lost-home", "nocancel-home", "unknown-home", "exception-home"]))
@settings(max_examples=100)
def test_a_book_from_its_own_effects_is_the_same(acts: list[tuple[str, int, int]], ship_to: str) -> None:
    """Whatever happened: numbers are dense, an end is last, each update can be read, a restart knows all."""
    book = Book()
    for act, shipment, key in acts:
        known = sorted(book._shipments)
        if act == "book":
            book.book(f"key {key}", Request("order 1", ship_to, 1), NOON)
        elif known and act == "stop":
            try:
                book.stop(f"stop {key}", known[shipment % len(known)], NOON)
            except KeyReused:
                continue
        elif known:
            book.move(known[shipment % len(known)], NOON)
    for shipment_id, history in book._shipments.items():
        updates = [read_update(update_body(effect)) for effect in history]
        assert [update.sequence for update in updates] == list(range(1, len(updates) + 1))
        assert len({update.update_id for update in updates}) == len(updates)
        assert all(update.status not in ENDS for update in updates[:-1])
        assert {update.shipment_id for update in updates} == {shipment_id}
    again = Book(Effect(**{name: getattr(e, name) for name in Effect.__slots__}) for e in book.effects)
    assert again.effects == book.effects
    assert [again.due(each) for each in again._shipments] == [book.due(each) for each in book._shipments]
