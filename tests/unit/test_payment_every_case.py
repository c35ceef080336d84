"""Every payment, every command and every order: a move or a documented error, and the money right.

Long, because the expectations of all cases stand beside each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from payments import (
    FLOW,
    HELD,
    LATER,
    NOON,
    StepCommands,
    ask_about,
    asked,
    authorize,
    capture,
    fence,
    giving,
    giving_back,
    held,
    holding_anew,
    only_queried,
    perform,
    query,
    refund,
    reverse,
    still_held,
    taken,
    taking,
    taking_anew,
    void,
)

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga.messages import (
    Answer,
    PaymentAuthorized,
    QueryPayment,
    ReversePayment,
    VoidPayment,
)
from fulcrum.workers.handlers import PAYMENT_HANDLERS
from fulcrum.workers.payment_moves import (
    CAPTURE_OPEN,
    TAKEN,
    Ask,
    Authorize,
    Authorized,
    Begun,
    Capture,
    Captured,
    CaptureRefused,
    Declined,
    Learned,
    Move,
    Outcome,
    Payment,
    Reauthorize,
    Refund,
    Refunded,
    RefundRefused,
    Repeat,
    Reply,
    State,
    TellAndAsk,
    Unheard,
    Void,
    Voided,
    VoidRefused,
)
from fulcrum.workers.psp_book import Book

# --- every case -----------------------------------------------------------------------------------


def payments() -> Iterator[Payment | None]:
    """Every kind of payment that can be stored."""
    yield None
    yield only_queried()
    yield fence()
    for state in _UNCAPTURED:
        if state != State.AUTHORIZED:
            yield asked(state, attempt=2)
        if state not in (State.AUTHORIZING, State.DECLINED):
            yield held(state, attempt=2)
            yield held(state, attempt=2, void_key=void().command_id)
    yield held(attempt=2, capture_key=capture(1).command_id)  # refused
    for number in (1, 2):
        yield taking(3000, number, attempt=2)
        yield giving(1000, number, attempt=2)
        yield giving(500, number, attempt=2, captured_minor=3000, refunded_minor=1000)
        yield holding_anew(3000, number, attempt=2)
        yield taking_anew(3000, number, attempt=2)
        yield giving_back(number, attempt=2)
        yield giving_back(number, attempt=2, asked_minor=3200, refunded_minor=1000)
        yield giving_back(number, attempt=2, state=State.CAPTURED, asked_minor=None)  # refused
        yield giving_back(
            number, attempt=2, state=State.REFUNDED, asked_minor=None, refunded_minor=4200, lapsed_id="old"
        )
    for captured_minor in (3000, 4200):
        yield taken(captured_minor, attempt=2)
        yield taken(captured_minor, attempt=2, refunded_minor=1000, refund_key=refund(1).command_id)
        yield taken(
            captured_minor,
            attempt=2,
            state=State.REFUNDED,
            refunded_minor=captured_minor,
            refund_key=refund(1).command_id,
        )


_UNCAPTURED = [State.AUTHORIZING, State.AUTHORIZED, State.DECLINED, State.VOIDING, State.VOIDED]
_HOPELESS = {
    "authorizing": (Retryable, Rejected),
    "authorized": (Rejected,),
    "capturing": (Retryable, Rejected),
    "reauthorizing": (Retryable, Rejected),
    "refunding": (Retryable, Rejected),
}
_LEARNED: list[Learned] = [
    *Begun,
    Authorized(HELD),
    Authorized("auth_other"),
    Declined("card_declined"),
    Voided(HELD),
    Voided("auth_anew"),
    VoidRefused(HELD),
    Captured(HELD, 3000),
    CaptureRefused("card_declined", capture().command_id),
    CaptureRefused("authorization_expired", capture().command_id),
    Refunded(HELD, 500),
    RefundRefused("refund_failed"),
    Unheard(authorize(2).command_id),
    Unheard(void().command_id),
    Unheard(capture().command_id),
    Unheard(refund().command_id),
]
_COMMANDS: list[StepCommands] = [
    *[authorize(1), authorize(2), authorize(3, 9900), void(), void(2), query(1), query(2), query(3)],
    *[capture(1, 3000), capture(2, 3000), capture(3, 4200), capture(3, 4201), capture(3, 0)],
    capture(3, 100, currency="JPY"),
    *[refund(1, 500), refund(2, 500), refund(3, 4200), refund(3, 4201), refund(3, 0)],
    refund(3, 100, currency="JPY"),
    *[ask_about(capture(1)), ask_about(refund(1)), ask_about(refund(2))],
    *[reverse(1), reverse(2), reverse(3), ask_about(reverse(1)), ask_about(reverse(2))],
]


def _money_is_right(payment: Payment) -> bool:
    """What the database holds against the row, too."""
    amount = payment.amount_minor or 0
    return (
        0 <= payment.refunded_minor <= payment.captured_minor <= amount
        and (payment.state in TAKEN) == (payment.captured_minor > 0)
        and (payment.state == State.REFUNDED) == (0 < payment.captured_minor == payment.refunded_minor)
        and (payment.asked_minor is not None) == (payment.state in (*CAPTURE_OPEN, State.REFUNDING))
        and (payment.state != State.REAUTHORIZING or payment.reauthorize_key is not None)
    )


_ACTS = Authorize | Void | Capture | Reauthorize | Refund


def decided(
    payment: Payment | None, command: StepCommands, learned: Learned
) -> tuple[Payment, Move] | type[Exception]:
    """The payment and the move, or the kind of error."""
    try:
        payment, move = PAYMENT_HANDLERS[type(command)](payment, command, learned, LATER)
    except (Retryable, Rejected) as error:
        return type(error)
    return payment, move


@pytest.mark.parametrize("learned", _LEARNED, ids=str)
@pytest.mark.parametrize("command", _COMMANDS)
def test_every_case_is_a_move_or_a_documented_error(command: StepCommands, learned: Learned) -> None:
    """Whatever is stored and learned, replies are counted, what is final stays so, and no money is made."""
    for payment in payments():
        outcome = decided(payment, command, learned)
        if isinstance(outcome, type):
            assert payment is not None
            if isinstance(command, VoidPayment | ReversePayment) and isinstance(learned, VoidRefused):
                continue  # the provider contradicts the row: that is for a person
            assert not isinstance(command, VoidPayment) or payment.state in CAPTURE_OPEN
            assert not isinstance(command, ReversePayment) or payment.state == State.REFUNDING
            assert outcome in _HOPELESS[payment.state]
            continue
        after, move = outcome
        before = 0 if payment is None else payment.sequence
        assert after.workflow_id == FLOW
        assert after.sequence == before + isinstance(move, Reply | TellAndAsk)
        if isinstance(move, Reply | TellAndAsk):
            assert move.event.sequence == after.sequence
        if payment is not None and payment.state in (State.VOIDED, State.REFUNDED):
            assert after.state == payment.state
        assert _money_is_right(after)


def test_nothing_is_asked_unseen_when_it_may_have_been_asked() -> None:
    """No payment and no command makes a second try act before it has looked."""
    for payment, command in product(payments(), _COMMANDS):
        outcome = decided(payment, command, Begun.AGAIN)
        assert isinstance(outcome, type) or not isinstance(outcome[1], _ACTS | TellAndAsk)


def test_query_makes_nothing_happen() -> None:
    """Whatever is stored and learned, it only looks up, and fences nothing."""
    queries = [command for command in _COMMANDS if isinstance(command, QueryPayment)]
    for payment, learned, command in product(payments(), _LEARNED, queries):
        outcome = decided(payment, command, learned)
        if isinstance(outcome, type):
            assert payment is not None
            assert payment.state in (State.AUTHORIZING, *CAPTURE_OPEN, State.REFUNDING)
            assert isinstance(learned, Outcome | VoidRefused)
            continue
        after, move = outcome
        assert not isinstance(move, _ACTS)
        if not isinstance(learned, Outcome):
            before = payment.state if payment else State.NOT_ASKED
            assert after.state == before


# --- interleavings --------------------------------------------------------------------------------


@dataclass
class Handling:
    """One command on its way: what it will ask next, and what it has been answered with."""

    command: StepCommands
    learned: Learned = Begun.FRESH
    ask: Ask | None = None
    answer: Answer | None = None


class World:
    """A workflow's payment, the provider's book, and commands that run and die in any order."""

    def __init__(self) -> None:
        self.payment: Payment | None = None
        self.book = Book()
        self.answers: list[Answer] = []

    def step(self, handling: Handling, fate: str) -> None:
        """Decide and store, or perform what was decided; the process may die before or after acting."""
        if handling.ask is None:
            self._decide(handling)
        elif fate == "dies before":
            handling.learned, handling.ask = Begun.AGAIN, None
        else:
            handling.learned = perform(self.book, handling.ask, handling.command)
            handling.ask = None
            if fate == "dies after":
                handling.learned = Begun.AGAIN

    def _decide(self, handling: Handling) -> None:
        handler = PAYMENT_HANDLERS[type(handling.command)]
        try:
            payment, move = handler(self.payment, handling.command, handling.learned, NOON)
        except Retryable:  # the transaction rolls back, the claim with it
            return
        assert not isinstance(move, TellAndAsk), "no capture is among the commands"
        if not isinstance(move, Reply | Repeat):
            self.payment, handling.ask = payment, move
            return
        handling.answer = self._told_before(handling.command)
        if handling.answer is None:
            assert isinstance(move, Reply), "nothing was answered that could be repeated"
            self.payment, handling.answer = payment, move.event
            self.answers.append(move.event)

    def _told_before(self, command: StepCommands) -> Answer | None:
        """What the command was answered with by a query, or the query with by the command."""
        ids = {command.command_id, getattr(command, "asked_command_id", command.command_id)}
        found = [answer for answer in self.answers if answer.command_id in ids]
        assert len(found) <= 1
        return found[0] if found else None


_fates = st.sampled_from(["lives", "lives", "dies before", "dies after"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), _fates), max_size=50),
    st.booleans(),
    st.sampled_from(
        [
            ("a1",),
            ("a1", "v1"),
            ("a1", "a2"),
            ("a1", "a2", "v1"),
            ("a1", "v1", "v2"),
            ("a1", "q1"),
            ("a1", "q1", "q1 again", "v1"),
            ("a1", "q1", "a2", "q2", "v1"),
            ("a1", "q1", "a2", "q2", "q1 again"),
        ]
    ),
)
def test_no_order_and_no_crash_leaves_money_held_after_a_void(
    schedule: list[tuple[int, str]], refused: bool, names: tuple[str, ...]
) -> None:
    """Commands of a workflow in any order, dying anywhere: one hold at most, none after a void."""
    token = "pay_declined" if refused else "pay_ok"
    every: dict[str, StepCommands] = {
        "a1": replace(authorize(1), payment_method=token),
        "a2": replace(authorize(2), payment_method=token),
        "v1": void(1),
        "v2": void(2),
        "q1": query(1),
        "q1 again": query(1, number=2),
        "q2": query(2),
    }
    world = World()
    running = [Handling(every[name]) for name in names]
    for which, fate in schedule:
        handling = running[which % len(running)]
        if handling.answer is None:
            world.step(handling, fate)
        assert len(still_held(world.book)) <= 1
    for _ in range(40):  # then nobody dies any more, and all come to their end
        for handling in running:
            if handling.answer is None:
                world.step(handling, "lives")
    assert all(handling.answer is not None for handling in running)
    assert [answer.sequence for answer in world.answers] == list(range(1, len(world.answers) + 1))
    ids = [answer.command_id for answer in world.answers]
    assert len(ids) == len(set(ids))
    assert set(ids) >= {every[name].command_id for name in names if not name.startswith("q")}
    told_held = {a.authorization_id for a in world.answers if isinstance(a, PaymentAuthorized)}
    if "v1" in names:
        assert not still_held(world.book)
        assert world.payment is not None
        assert world.payment.state == State.VOIDED
    else:
        assert still_held(world.book) == told_held
