"""Every shipment, every command and every order: a move or a documented error, and the parcels right.

Long, because every state meets every command here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shipments import (
    LATER,
    NOON,
    PARCEL,
    Commands,
    cancel,
    create,
    in_state,
    perform,
    requested,
    told,
    track,
    update,
)

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import (
    Answer,
    DeliveryCancelled,
    DeliveryCreated,
    DeliveryDelayed,
    DeliveryNotCancelled,
    DeliveryRefused,
    ParcelDelivered,
    ParcelNotDelivered,
)
from fulcrum.workers.courier import cancel_delivery, news, settle, track_delivery
from fulcrum.workers.courier_book import Book as Courier
from fulcrum.workers.courier_moves import (
    LIVE,
    OVER,
    Begun,
    Book,
    Booked,
    BookingRefused,
    Learned,
    LookUp,
    NotStopped,
    Reply,
    Shipment,
    State,
    Stop,
    Stopped,
    Unheard,
    Wait,
)
from fulcrum.workers.handlers import COURIER_HANDLERS
from fulcrum.workers.tracking import ENDS, Status

_RETURNED = (ParcelNotDelivered, ("returned", True))
#: What a command that was never tried comes to, by the state that it meets.
_CREATE_AGAIN: dict[State, object] = {
    State.REQUESTED: Retryable,
    State.REFUSED: Book,
    State.CANCELLED: (DeliveryRefused, ("fenced",)),
    **{state: (DeliveryCreated, (PARCEL,)) for state in State if state in LIVE | ENDS - {"cancelled"}},
}
_CANCEL: dict[State, object] = {
    State.REQUESTED: LookUp,
    State.REFUSED: (DeliveryCancelled, (None, "cancelled")),
    State.DELIVERED: (DeliveryNotCancelled, ("delivered",)),
    **{state: (DeliveryCancelled, (PARCEL, str(state))) for state in State if state in ENDS - {"delivered"}},
    **{state: Stop for state in State if state in LIVE},
}
_TRACK: dict[State, object] = {
    State.REQUESTED: Retryable,
    State.REFUSED: _RETURNED,
    State.DELIVERED: (ParcelDelivered, ("TRK1",)),
    State.LOST: (ParcelNotDelivered, ("lost", False)),
    State.RETURNED: _RETURNED,
    State.CANCELLED: _RETURNED,
    **{state: Wait for state in State if state in LIVE},
}


def outcome(shipment: Shipment | None, command: Commands, learned: Learned = Begun.FRESH) -> object:
    """The kind of the move, or of the answer with what it says, or of the error."""
    try:
        after, move = COURIER_HANDLERS[type(command)](shipment, command, learned, LATER)
    except (Retryable, Rejected) as error:
        return type(error)
    if not isinstance(move, Reply):
        return type(move)
    assert move.event.sequence == after.sequence == (0 if shipment is None else shipment.sequence) + 1
    return type(move.event), says(move.event)


def says(event: Answer) -> tuple[object, ...]:
    """What is in an answer."""
    match event:
        case DeliveryCreated():
            return (event.delivery_id,)
        case DeliveryCancelled():
            return event.delivery_id, event.state
        case DeliveryRefused() | DeliveryNotCancelled() | DeliveryDelayed():
            return (event.reason,)
        case ParcelDelivered():
            return (event.tracking_number,)
        case ParcelNotDelivered():
            return event.reason, event.undamaged
    raise AssertionError(event)


@pytest.mark.parametrize("state", State)
def test_every_state_and_every_new_command(state: State) -> None:
    """A newer booking, a cancellation and a question each have one defined result in each state."""
    assert outcome(in_state(state), create(attempt=2)) == _CREATE_AGAIN[state]
    assert outcome(in_state(state), cancel()) == _CANCEL[state]
    assert outcome(in_state(state), track()) == _TRACK[state]


@pytest.mark.parametrize("state", State)
def test_an_older_booking_changes_nothing(state: State) -> None:
    """Its own outcome is looked up, and what it may have booked is given up; then it is refused."""
    newer = replace(in_state(state), attempt=2, create_key=create(2).command_id)
    assert outcome(newer, create(1), Begun.AGAIN) is LookUp
    assert outcome(newer, create(1), Booked("k", "shp_other", "T", "L")) is Stop
    reason = "fenced" if state == State.CANCELLED else "superseded"
    for learned in (Begun.FRESH, Unheard("k"), Stopped("cancelled"), NotStopped("over", "lost")):
        assert outcome(newer, create(1), learned) == (DeliveryRefused, (reason,))


def test_nothing_known_is_booked_fenced_or_rejected() -> None:
    """The first command of a workflow."""
    assert outcome(None, create()) is Book
    assert outcome(None, cancel()) == (DeliveryCancelled, (None, "cancelled"))
    assert outcome(None, track()) is Rejected


def test_a_fence_refuses_the_booking_that_comes_late() -> None:
    """Nothing is asked of the courier, whatever the attempt."""
    fence, _ = cancel_delivery(None, cancel(), Begun.FRESH, NOON)
    for attempt in (1, 2):
        assert outcome(fence, create(attempt)) == (DeliveryRefused, ("fenced",))


@pytest.mark.parametrize(
    ("learned", "expected"),
    [
        (Stopped("cancelled"), (DeliveryCancelled, (PARCEL, "cancelled"))),
        (Stopped("returning"), (DeliveryCancelled, (PARCEL, "returning"))),
        (NotStopped("cannot_be_stopped", "in_transit"), (DeliveryNotCancelled, ("cannot_be_stopped",))),
        (NotStopped("over", "delivered"), (DeliveryNotCancelled, ("delivered",))),
        (NotStopped("over", "lost"), (DeliveryCancelled, (PARCEL, "lost"))),
        (NotStopped("over", "returned"), (DeliveryCancelled, (PARCEL, "returned"))),
    ],
)
@pytest.mark.parametrize("state", sorted(LIVE))
def test_a_cancellation_says_what_the_courier_says(state: State, learned: Learned, expected: object) -> None:
    """Whatever is known here of where the parcel is."""
    assert outcome(in_state(state), cancel(), learned) == expected


@pytest.mark.parametrize("learned", [Stopped("cancelled"), Stopped("returning"), NotStopped("over", "lost")])
def test_an_end_that_came_meanwhile_is_believed(learned: Learned) -> None:
    """The courier's update was faster than its answer: the shipment stays as it ended."""
    assert outcome(in_state(State.DELIVERED), cancel(), learned) == (DeliveryNotCancelled, ("delivered",))


def test_an_unknown_booking_is_looked_up_before_it_is_cancelled() -> None:
    """There: it is stopped. Not there, or refused: there is nothing to stop. Of another one: look again."""
    key = create().command_id
    booked = Booked(key, PARCEL, "T", "L")
    shipment, move = cancel_delivery(requested(), cancel(), booked, LATER)
    assert (shipment.state, move) == (State.BOOKED, Stop(PARCEL, cancel().command_id))
    for learned in (Unheard(key), BookingRefused(key, "unknown_address")):
        assert outcome(requested(), cancel(), learned) == (DeliveryCancelled, (None, "cancelled"))
    assert outcome(requested(2), cancel(), Unheard(key)) is LookUp


def test_an_exception_is_told_once_to_each_that_waits() -> None:
    """With an id of its own for each, and again for the next exception; late ones are no news."""
    keys = [track(1).command_id, track(2).command_id]
    told_first = [update(2, Status.IN_TRANSIT), update(3, Status.EXCEPTION, reason="flood")]
    shipment, events = news(in_state(State.BOOKED), told_first, keys, LATER)
    assert [(event.command_id, says(event)) for event in events] == [(key, ("flood",)) for key in keys]
    assert [event.sequence for event in events] == [2, 3]
    later, more = news(shipment, [update(5, Status.EXCEPTION), update(4, Status.EXCEPTION)], keys[:1], LATER)
    assert [event.sequence for event in more] == [4, 5]
    assert len({event.event_id for event in (*events, *more)}) == 4
    assert news(later, [update(1, Status.EXCEPTION)], keys, LATER) == (later, [])


def test_a_question_during_an_exception_is_told_of_it() -> None:
    """The news came before the question; a repeat of the question hears nothing new."""
    there = in_state(State.EXCEPTION)
    shipment, move = track_delivery(there, track(), Begun.FRESH, LATER)
    assert isinstance(move, Wait)
    assert [type(event) for event in move.events] == [DeliveryDelayed]
    assert shipment.sequence == there.sequence + 1
    assert track_delivery(there, track(), Begun.AGAIN, LATER) == (there, Wait())


def test_a_return_that_says_nothing_of_the_goods_is_no_good_one() -> None:
    """Only the courier's word makes them saleable again."""
    back = replace(in_state(State.RETURNED), undamaged=None)
    assert outcome(back, track()) == (ParcelNotDelivered, ("returned", False))


# --- every order ----------------------------------------------------------------------------------


@dataclass
class Site:
    """A courier service without its servers: what the worker stores, and the courier as it is."""

    ship_to: str
    courier: Courier = field(default_factory=Courier)
    shipment: Shipment | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    emitted: list[Answer] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)
    heard: set[str] = field(default_factory=set)

    def handle(self, command: Commands, dies_after: int = 99) -> None:
        """Carry it out; the process dies after so many calls of the courier."""
        key = command.command_id
        learned: Learned = Begun.AGAIN if key in self.begun else Begun.FRESH
        for _ in range(10):
            try:
                before = self.shipment
                after, move = COURIER_HANDLERS[type(command)](before, command, learned, LATER)
            except (Retryable, Rejected):
                return
            self.begun.add(key)
            if not isinstance(move, Book | LookUp | Stop):
                if key not in self.answers:
                    self._tell(after, move, key, learned)
                return
            self._store(after)
            if dies_after == 0:
                return
            dies_after -= 1
            learned = perform(self.courier, move, self.ship_to, key)
            if dies_after == 0:
                return
        raise AssertionError("it never ends")

    def _tell(self, after: Shipment, move: Reply | Wait, key: str, learned: Learned) -> None:
        if isinstance(move, Reply):
            self.answers[key] = move.event
            self.emitted.append(move.event)
        else:
            self.emitted += move.events
            if learned is Begun.FRESH:
                self.waiting.append(key)
        self._store(after)

    def _store(self, shipment: Shipment) -> None:
        over = shipment.state in OVER and (self.shipment is None or self.shipment.state not in OVER)
        if over:
            shipment, answers = settle(shipment, self.waiting, LATER)
            self.answers |= {event.command_id: event for event in answers}
            self.emitted += answers
            self.waiting = []
        self.shipment = shipment

    def hear(self, number: int) -> None:
        """One of the updates of the courier arrives, in any order."""
        if self.shipment is None or self.shipment.shipment_id is None:
            return
        updates = told(self.courier, self.shipment.shipment_id)
        chosen = updates[number % len(updates)]
        if chosen.update_id in self.heard:
            return
        self.heard.add(chosen.update_id)
        shipment, events = news(self.shipment, [chosen], self.waiting, LATER)
        self.emitted += events
        self._store(shipment)

    def move(self) -> None:
        """The courier moves its shipments on."""
        for parcel in self.courier.under_way():
            self.courier.move(parcel, NOON)


_COMMANDS: tuple[Commands, ...] = (create(1), create(2), cancel(1), cancel(2), track(1), track(2))
_ADDRESSES = (
    "home",
    "unknown-",
    "nocancel-",
    "lost-",
    "returned_damaged-",
    "exception-",
    "stays_in_transit-",
)
_STEPS = st.one_of(
    st.tuples(st.just("command"), st.integers(0, len(_COMMANDS) - 1), st.integers(0, 3)),
    st.tuples(st.just("hear"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("move"), st.just(0), st.just(0)),
)


@given(st.sampled_from(_ADDRESSES), st.lists(_STEPS, max_size=25))
@settings(max_examples=400, deadline=None)
def test_any_order_with_any_deaths_ends_well(ship_to: str, steps: list[tuple[str, int, int]]) -> None:
    """Dense numbers, one answer a command, no parcel on its way for a workflow that was cancelled."""
    site = Site(ship_to)
    for kind, number, calls in steps:
        if kind == "command":
            site.handle(_COMMANDS[number], dies_after=calls)
        elif kind == "hear":
            site.hear(number)
        else:
            site.move()
    # What a sweeper does: whatever was begun is carried out to its end, twice over for what waits for others.
    for command in (*_COMMANDS, *_COMMANDS):
        if command.command_id in site.begun:
            site.handle(command)
    for _ in range(8):
        site.move()
    for number in range(9):
        site.hear(number)

    assert [event.sequence for event in site.emitted] == list(range(1, len(site.emitted) + 1))
    assert len({event.event_id for event in site.emitted}) == len(site.emitted)
    shipment = site.shipment
    open_ones = site.begun - site.answers.keys()
    if shipment is None or shipment.state in OVER:
        assert not open_ones
    else:
        assert open_ones == set(site.waiting)
    live = {parcel for parcel in site.courier._shipments if site.courier.status(parcel) not in ENDS}
    assert live <= ({shipment.shipment_id} if shipment is not None and shipment.state in LIVE else set())
    if any(isinstance(event, DeliveryCancelled) and event.state == "cancelled" for event in site.emitted):
        assert not any(isinstance(event, ParcelDelivered) for event in site.emitted)
    check_word(site)


def check_word(site: Site) -> None:
    """What was told of the end is what happened."""
    for event in site.emitted:
        if isinstance(event, ParcelDelivered | ParcelNotDelivered):
            assert site.shipment is not None
            delivered = site.shipment.state == State.DELIVERED
            assert isinstance(event, ParcelDelivered) == delivered
        if isinstance(event, DeliveryCreated):
            assert event.delivery_id == (site.shipment.shipment_id if site.shipment else None)


def test_every_state_has_its_results() -> None:
    """The tables above are whole, and a shipment is asked for, under way or over."""
    assert all(set(table) == set(State) for table in (_CREATE_AGAIN, _CANCEL, _TRACK))
    assert set(State) == LIVE | OVER | {State.REQUESTED}
