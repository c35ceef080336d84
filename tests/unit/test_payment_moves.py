"""The moves of a payment: what is asked of the provider, when, and what is never left held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulcrum.errors import Rejected, Retryable
from fulcrum.saga import identity
from fulcrum.saga.messages import (
    Answer,
    AuthorizePayment,
    PaymentAuthorized,
    PaymentDeclined,
    PaymentNotFound,
    PaymentVoided,
    QueryPayment,
    VoidPayment,
)
from fulcrum.workers.handlers import PAYMENT_HANDLERS
from fulcrum.workers.payment import authorize_payment, query_payment, void_payment
from fulcrum.workers.payment_moves import (
    Ask,
    Authorize,
    Authorized,
    Begun,
    Declined,
    Learned,
    LookUp,
    Move,
    Payment,
    Repeat,
    Reply,
    State,
    Unheard,
    Void,
    Voided,
)
from fulcrum.workers.psp_behaviour import Book, Effect, Request

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(seconds=30)
FLOW = "6f0c1d9e-1111-5222-8333-444455556666"
HELD = "auth_held"
LAPSES = NOON + timedelta(hours=1)
StepCommands = AuthorizePayment | QueryPayment | VoidPayment


def authorize(attempt: int = 1, amount_minor: int = 4200) -> AuthorizePayment:
    """Hold the amount."""
    return AuthorizePayment(
        command_id=identity.command_id(FLOW, "authorize_payment", "AuthorizePayment", attempt),
        workflow_id=FLOW,
        step="authorize_payment",
        attempt=attempt,
        issued_at=NOON,
        tenant="acme",
        amount_minor=amount_minor,
        currency="EUR",
        payment_method="pay_ok",
    )


def void(attempt: int = 1) -> VoidPayment:
    """Give the amount up."""
    return VoidPayment(
        command_id=identity.command_id(FLOW, "void_payment", "VoidPayment", attempt),
        workflow_id=FLOW,
        step="void_payment",
        attempt=attempt,
        issued_at=NOON,
    )


def query(attempt: int = 1, number: int = 1) -> QueryPayment:
    """Ask what became of the authorization number ``attempt``."""
    about = authorize(attempt).command_id
    return QueryPayment(
        command_id=identity.query_id(about, number),
        workflow_id=FLOW,
        step="authorize_payment",
        attempt=attempt,
        issued_at=NOON,
        asked_command_id=about,
    )


def asked(state: State = State.AUTHORIZING, attempt: int = 1, **changes: Any) -> Payment:
    """A payment whose attempt number ``attempt`` was begun."""
    begun = Payment(
        workflow_id=FLOW,
        state=State.AUTHORIZING,
        sequence=0,
        requested_at=NOON,
        attempt=attempt,
        authorize_key=authorize(attempt).command_id,
        amount_minor=4200,
        currency="EUR",
    )
    return replace(begun, state=state, **changes)


def held(state: State = State.AUTHORIZED, attempt: int = 1, **changes: Any) -> Payment:
    """A payment whose amount the provider holds, or held."""
    return asked(state, attempt, **{"sequence": 1, "authorization_id": HELD, **changes})


def fence() -> Payment:
    """What a void leaves that came before anything else."""
    payment, _ = void_payment(None, void(), Begun.FRESH, NOON)
    return payment


def only_queried() -> Payment:
    """What a query leaves that came before anything else."""
    payment, _ = query_payment(None, query(), Begun.FRESH, NOON)
    return payment


def told(move: Move) -> Answer:
    """The event of a reply."""
    assert isinstance(move, Reply)
    return move.event


def common(command: StepCommands, event: str, sequence: int) -> dict[str, Any]:
    """What every answer to ``command`` carries."""
    return {
        "event_id": identity.event_id(command.command_id, event),
        "workflow_id": FLOW,
        "sequence": sequence,
        "occurred_at": LATER,
        "command_id": command.command_id,
    }


# --- authorizing ----------------------------------------------------------------------------------


def test_fresh_authorization_is_stored_before_it_is_asked_for() -> None:
    """The first move stores under which key the provider will be asked, and asks at once."""
    payment, move = authorize_payment(None, authorize(), Begun.FRESH, NOON)
    assert payment == asked()
    assert move == Authorize()


def test_authorization_begun_again_is_looked_up_first() -> None:
    """A timeout is not a no: what may have been asked is not asked again unseen."""
    payment, move = authorize_payment(asked(), authorize(), Begun.AGAIN, LATER)
    assert (payment, move) == (asked(), LookUp(authorize().command_id))


def test_authorization_that_the_provider_never_heard_of_is_asked_for() -> None:
    """Only when the provider knows nothing of the key is it asked to act."""
    move = authorize_payment(asked(), authorize(), Unheard(authorize().command_id), LATER)[1]
    assert move == Authorize()


def test_provider_that_holds_the_amount_makes_the_payment_authorized() -> None:
    """Its id of the hold is kept, and told."""
    payment, move = authorize_payment(asked(), authorize(), Authorized(HELD), LATER)
    assert payment == held(settled_at=LATER)
    assert told(move) == PaymentAuthorized(
        **common(authorize(), "PaymentAuthorized", 1),
        authorization_id=HELD,
        amount_minor=4200,
        currency="EUR",
    )


def test_provider_that_refuses_makes_the_payment_declined() -> None:
    """Its reason is kept, and told."""
    payment, move = authorize_payment(asked(), authorize(), Declined("card_declined"), LATER)
    assert payment == asked(State.DECLINED, sequence=1, decline_reason="card_declined", settled_at=LATER)
    assert told(move) == PaymentDeclined(
        **common(authorize(), "PaymentDeclined", 1),
        reason="card_declined",
    )


def test_hold_that_lapses_is_stored_and_told_with_its_time() -> None:
    """The saga must know until when it can count on the amount."""
    payment, move = authorize_payment(asked(), authorize(), Authorized(HELD, LAPSES), LATER)
    assert payment.expires_at == LAPSES
    event = told(move)
    assert isinstance(event, PaymentAuthorized)
    assert event.expires_at == LAPSES
    again = told(authorize_payment(payment, authorize(2), Begun.FRESH, LATER)[1])
    assert isinstance(again, PaymentAuthorized)
    assert again.expires_at == LAPSES


@pytest.mark.parametrize("payment", [held(), asked(State.DECLINED, sequence=1)], ids=lambda p: str(p.state))
@pytest.mark.parametrize("learned", [Begun.AGAIN, Authorized(HELD), Declined("card_declined")], ids=str)
def test_answered_authorization_repeats_its_answer(payment: Payment, learned: Learned) -> None:
    """A copy of a command that was answered changes nothing and asks nothing."""
    assert authorize_payment(payment, authorize(), learned, LATER) == (payment, Repeat())


def test_void_by_somebody_else_parks_the_authorization() -> None:
    """The provider gave up what nobody here asked it to: a person must look."""
    with pytest.raises(Rejected, match="nobody here asked"):
        authorize_payment(asked(), authorize(), Voided(HELD), LATER)


# --- attempts -------------------------------------------------------------------------------------


def test_new_attempt_waits_for_the_open_one() -> None:
    """Two attempts are never open at once, or both could hold the amount."""
    with pytest.raises(Retryable, match="attempt 1 of this payment has no outcome yet"):
        authorize_payment(asked(), authorize(2), Begun.FRESH, LATER)


def test_new_attempt_after_a_refusal_is_asked_under_its_own_key() -> None:
    """The provider sees a new key, and the sequence goes on."""
    declined = asked(State.DECLINED, sequence=1, decline_reason="card_declined", settled_at=NOON)
    payment, move = authorize_payment(declined, authorize(2), Begun.FRESH, LATER)
    assert payment == asked(attempt=2, sequence=1, requested_at=LATER)
    assert move == Authorize()


def test_new_attempt_of_a_held_amount_is_told_the_hold() -> None:
    """What is held already is not held twice."""
    payment, move = authorize_payment(held(), authorize(2), Begun.FRESH, LATER)
    assert payment == held(sequence=2)
    event = told(move)
    assert isinstance(event, PaymentAuthorized)
    assert (event.authorization_id, event.sequence) == (HELD, 2)
    assert event.command_id == authorize(2).command_id


def test_new_attempt_with_another_amount_is_rejected() -> None:
    """The error names both amounts and what to do."""
    with pytest.raises(Rejected, match=r"\(9900, 'EUR'\).*\(4200, 'EUR'\); void it first"):
        authorize_payment(held(), authorize(2, amount_minor=9900), Begun.FRESH, LATER)


def test_older_attempt_is_superseded() -> None:
    """A straggler of an earlier attempt is declined and asks for nothing."""
    payment, move = authorize_payment(held(attempt=2), authorize(1), Begun.FRESH, LATER)
    assert payment == held(attempt=2, sequence=2)
    event = told(move)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "superseded"


# --- voiding --------------------------------------------------------------------------------------


def test_void_gives_up_what_is_held() -> None:
    """The provider is asked under the void's own key, after the intent is stored."""
    payment, move = void_payment(held(), void(), Begun.FRESH, LATER)
    assert payment == held(state=State.VOIDING, void_key=void().command_id)
    assert move == Void(HELD, void().command_id)
    payment, move = void_payment(payment, void(), Voided(HELD), LATER)
    assert (payment.state, payment.sequence) == (State.VOIDED, 2)
    assert told(move) == PaymentVoided(
        **common(void(), "PaymentVoided", 2),
        authorization_id=HELD,
    )


def test_void_begun_again_is_looked_up_first() -> None:
    """A void that may have been asked for is looked up; when it was not heard, it is asked for again."""
    voiding = held(state=State.VOIDING, void_key=void().command_id)
    assert void_payment(voiding, void(), Begun.AGAIN, LATER)[1] == LookUp(void().command_id)
    assert void_payment(voiding, void(), Unheard(void().command_id), LATER)[1] == Void(
        HELD, void().command_id
    )


@pytest.mark.parametrize("begun", list(Begun))
def test_void_of_an_open_authorization_asks_what_became_of_it(begun: Begun) -> None:
    """Nobody knows whether the amount is held, so the void looks before it answers."""
    payment, move = void_payment(asked(), void(), begun, LATER)
    assert payment == asked(State.VOIDING, void_key=void().command_id)
    assert move == LookUp(authorize().command_id)


def test_void_that_finds_a_hold_gives_it_up() -> None:
    """The hold that was found is stored before the provider is asked to give it up."""
    voiding = asked(State.VOIDING, void_key=void().command_id)
    payment, move = void_payment(voiding, void(), Authorized(HELD), LATER)
    assert payment.authorization_id == HELD
    assert move == Void(HELD, void().command_id)


@pytest.mark.parametrize(
    "learned", [Declined("card_declined"), Unheard(authorize().command_id), Voided(HELD)], ids=str
)
def test_void_that_finds_no_hold_is_done(learned: Learned) -> None:
    """Where nothing is held there is nothing to give up."""
    voiding = asked(State.VOIDING, void_key=void().command_id)
    payment, move = void_payment(voiding, void(), learned, LATER)
    assert payment.state == State.VOIDED
    event = told(move)
    assert isinstance(event, PaymentVoided)
    assert event.authorization_id is None


def test_void_of_a_refused_payment_asks_nothing() -> None:
    """A declined payment holds nothing."""
    payment, move = void_payment(asked(State.DECLINED, sequence=1), void(), Begun.FRESH, LATER)
    assert payment.state == State.VOIDED
    assert told(move).sequence == 2


def test_answered_void_repeats_its_answer() -> None:
    """A copy of the void changes nothing and asks nothing."""
    assert void_payment(fence(), void(), Begun.AGAIN, LATER) == (fence(), Repeat())


def test_second_void_is_told_that_it_is_done() -> None:
    """Another void command gets an answer of its own, and the provider is left alone."""
    payment, move = void_payment(fence(), void(2), Begun.FRESH, LATER)
    assert payment == replace(fence(), sequence=2)
    assert told(move).command_id == void(2).command_id


# --- the fence ------------------------------------------------------------------------------------


def test_void_before_any_authorization_leaves_a_fence() -> None:
    """It is answered at once, and what it leaves refuses all that comes later."""
    payment, move = void_payment(None, void(), Begun.FRESH, NOON)
    assert (payment.state, payment.authorize_key, payment.sequence) == (State.VOIDED, None, 1)
    event = told(move)
    assert isinstance(event, PaymentVoided)
    assert event.authorization_id is None


@pytest.mark.parametrize("attempt", [1, 2])
def test_authorization_behind_a_fence_is_declined_unasked(attempt: int) -> None:
    """A late command that never asked the provider does not ask it now."""
    payment, move = authorize_payment(fence(), authorize(attempt), Begun.FRESH, LATER)
    assert payment == replace(fence(), sequence=2)
    event = told(move)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "fenced"


def test_late_hold_behind_a_fence_is_given_up() -> None:
    """An authorization that came through after the void was answered is voided and then declined."""
    voided = asked(State.VOIDED, sequence=1, void_key=void().command_id)
    key = authorize().command_id
    assert authorize_payment(voided, authorize(), Begun.AGAIN, LATER) == (voided, LookUp(key))
    payment, move = authorize_payment(voided, authorize(), Authorized(HELD), LATER)
    assert payment == voided
    assert isinstance(move, Void)
    assert move.authorization_id == HELD
    assert move.key not in (key, void().command_id)
    payment, move = authorize_payment(voided, authorize(), Voided(HELD), LATER)
    assert payment == replace(voided, sequence=2)
    event = told(move)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "fenced"


def test_hold_that_the_void_knows_is_left_to_it() -> None:
    """While the void gives the hold up, the authorization is declined and voids nothing itself."""
    voiding = held(state=State.VOIDING, void_key=void().command_id)
    move = authorize_payment(voiding, authorize(), Authorized(HELD), LATER)[1]
    event = told(move)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == "fenced"


# --- queries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", list(Begun))
def test_query_of_an_open_authorization_looks_it_up(begun: Begun) -> None:
    """Nothing is recorded of it, so only the provider can tell."""
    assert query_payment(asked(), query(), begun, LATER) == (asked(), LookUp(authorize().command_id))


@pytest.mark.parametrize("learned", [Authorized(HELD, LAPSES), Declined("card_declined")], ids=str)
def test_query_that_learns_the_outcome_answers_as_the_authorization_would(learned: Learned) -> None:
    """The row and the event are the same, whoever of the two is told by the provider."""
    found = query_payment(asked(sequence=1), query(), learned, LATER)
    assert found == authorize_payment(asked(sequence=1), authorize(), learned, LATER)
    assert told(found[1]).command_id == authorize().command_id
    assert found[0].sequence == 2


def test_query_that_the_provider_cannot_answer_leaves_the_authorization_open() -> None:
    """The authorization may be sent again, and then looks again before it asks."""
    unheard = Unheard(authorize().command_id)
    payment, move = query_payment(asked(), query(), unheard, LATER)
    assert payment == asked(sequence=1)
    assert told(move) == PaymentNotFound(
        **common(query(), "PaymentNotFound", 1), asked_command_id=authorize().command_id
    )
    assert authorize_payment(payment, authorize(), Begun.AGAIN, LATER)[1] == LookUp(authorize().command_id)
    event = told(authorize_payment(payment, authorize(), Authorized(HELD), LATER)[1])
    assert (type(event), event.sequence) == (PaymentAuthorized, 2)


@pytest.mark.parametrize("payment", [held(), asked(State.DECLINED, sequence=1)], ids=lambda p: str(p.state))
@pytest.mark.parametrize("learned", [*Begun, Unheard(authorize().command_id), Authorized(HELD)], ids=str)
def test_query_of_a_recorded_outcome_repeats_it(payment: Payment, learned: Learned) -> None:
    """Even when the provider knew of nothing a moment ago: the answer may only be delayed."""
    assert query_payment(payment, query(), learned, LATER) == (payment, Repeat())


def test_query_before_any_authorization_is_numbered_and_asks_nothing() -> None:
    """Its answer is an event of the stream, so the next one counts on."""
    payment, move = query_payment(None, query(), Begun.FRESH, NOON)
    assert payment == Payment(workflow_id=FLOW, state=State.NOT_ASKED, sequence=1, requested_at=NOON)
    assert isinstance(told(move), PaymentNotFound)
    payment, move = query_payment(payment, query(number=2), Begun.FRESH, LATER)
    assert (payment.state, payment.sequence, told(move).sequence) == (State.NOT_ASKED, 2, 2)


@pytest.mark.parametrize(
    ("begun", "move"), [("fresh", Authorize()), ("again", LookUp(authorize().command_id))]
)
def test_authorization_after_a_query_is_asked_for(begun: str, move: Move) -> None:
    """A query asked nothing of the provider, and leaves no fence."""
    authorizing = authorize_payment(only_queried(), authorize(), Begun(begun), LATER)
    assert authorizing == (asked(sequence=1, requested_at=LATER), move)


def test_void_after_a_query_leaves_a_fence() -> None:
    """Like a void that came first, and its answer counts on."""
    payment, move = void_payment(only_queried(), void(), Begun.FRESH, NOON)
    assert payment == replace(fence(), sequence=2)
    assert told(move).sequence == 2


@pytest.mark.parametrize(
    "payment",
    [
        fence(),
        asked(State.VOIDING, void_key=void().command_id),
        held(State.VOIDING, void_key=void().command_id),
        held(State.VOIDED, sequence=2, void_key=void().command_id),
        asked(attempt=2),
        held(attempt=2),
    ],
)
@pytest.mark.parametrize("learned", [*Begun, Authorized(HELD), Unheard(authorize().command_id)], ids=str)
def test_query_of_what_can_hold_nothing_any_more_finds_nothing(payment: Payment, learned: Learned) -> None:
    """Behind a void or a newer attempt it asks nothing and moves nothing: copies of the command do."""
    found, move = query_payment(payment, query(), learned, LATER)
    assert found == replace(payment, sequence=payment.sequence + 1)
    assert isinstance(told(move), PaymentNotFound)


# --- every case -----------------------------------------------------------------------------------


def payments() -> Iterator[Payment | None]:
    """Every kind of payment that can be stored."""
    yield None
    yield only_queried()
    yield fence()
    for state in State:
        if state == State.NOT_ASKED:
            continue
        if state != State.AUTHORIZED:
            yield asked(state, attempt=2)
        if state not in (State.AUTHORIZING, State.DECLINED):
            yield held(state, attempt=2)
            yield held(state, attempt=2, void_key=void().command_id)


_HOPELESS = {"authorizing": (Retryable, Rejected), "authorized": (Rejected,)}
_LEARNED: list[Learned] = [
    *Begun,
    Authorized(HELD),
    Authorized("auth_other"),
    Declined("card_declined"),
    Voided(HELD),
    Unheard(authorize(2).command_id),
    Unheard(void().command_id),
]


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
@pytest.mark.parametrize(
    "command", [authorize(1), authorize(2), authorize(3, 9900), void(), void(2), query(1), query(2), query(3)]
)
def test_every_case_is_a_move_or_a_documented_error(command: StepCommands, learned: Learned) -> None:
    """Whatever is stored and learned, the sequence counts the replies, and VOIDED stays VOIDED."""
    for payment in payments():
        outcome = decided(payment, command, learned)
        if isinstance(outcome, type):
            assert not isinstance(command, VoidPayment)
            assert payment is not None
            assert outcome in _HOPELESS[payment.state]
            continue
        after, move = outcome
        before = 0 if payment is None else payment.sequence
        assert after.workflow_id == FLOW
        assert after.sequence == before + isinstance(move, Reply)
        if isinstance(move, Reply):
            assert move.event.sequence == after.sequence
        if payment is not None and payment.state == State.VOIDED:
            assert after.state == State.VOIDED


def test_nothing_is_asked_unseen_when_it_may_have_been_asked() -> None:
    """No payment and no command makes a second try act before it has looked."""
    commands: list[StepCommands] = [authorize(1), authorize(2), void()]
    for payment, command in product(payments(), commands):
        outcome = decided(payment, command, Begun.AGAIN)
        assert isinstance(outcome, type) or not isinstance(outcome[1], Authorize | Void)


def test_query_makes_nothing_happen() -> None:
    """Whatever is stored and learned, it only looks up, and fences nothing."""
    for payment, learned, command in product(payments(), _LEARNED, [query(1), query(2), query(3)]):
        outcome = decided(payment, command, learned)
        if isinstance(outcome, type):
            assert (payment and payment.state, learned) == (State.AUTHORIZING, Voided(HELD))
            continue
        after, move = outcome
        assert not isinstance(move, Authorize | Void)
        if not isinstance(learned, Authorized | Declined):
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

    def __init__(self, refused: bool) -> None:
        self.payment: Payment | None = None
        self.book = Book()
        self.refused = refused
        self.answers: list[Answer] = []

    def step(self, handling: Handling, fate: str) -> None:
        """Decide and store, or perform what was decided; the process may die before or after acting."""
        if handling.ask is None:
            self._decide(handling)
        elif fate == "dies before":
            handling.learned, handling.ask = Begun.AGAIN, None
        else:
            handling.learned = self._perform(handling.ask, handling.command)
            handling.ask = None
            if fate == "dies after":
                handling.learned = Begun.AGAIN

    def _decide(self, handling: Handling) -> None:
        handler = PAYMENT_HANDLERS[type(handling.command)]
        try:
            payment, move = handler(self.payment, handling.command, handling.learned, NOON)
        except Retryable:  # the transaction rolls back, the claim with it
            return
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

    def _perform(self, ask: Ask, command: StepCommands) -> Learned:
        match ask:
            case LookUp(key):
                effect = self.book.operation(key)
                return Unheard(key) if effect is None else _learned(effect)
            case Void(authorization_id, key):
                self.book.void(key, authorization_id, NOON)
                return Voided(authorization_id)
            case Authorize():
                assert isinstance(command, AuthorizePayment)
                token = "pay_declined" if self.refused else command.payment_method
                request = Request(FLOW, token, command.amount_minor, command.currency)
                return _learned(self.book.authorize(command.command_id, request, NOON)[0])

    def held(self) -> set[str]:
        """The authorizations that the provider still holds."""
        kinds = {
            kind: {e.authorization_id or "" for e in self.book.effects if e.kind == kind}
            for kind in ("authorize", "void")
        }
        return kinds["authorize"] - kinds["void"]


def _learned(effect: Effect) -> Learned:
    if effect.code is not None:
        return Declined(effect.code)
    assert effect.authorization_id is not None
    return (
        Authorized(effect.authorization_id) if effect.kind == "authorize" else Voided(effect.authorization_id)
    )


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
    every: dict[str, StepCommands] = {
        "a1": authorize(1),
        "a2": authorize(2),
        "v1": void(1),
        "v2": void(2),
        "q1": query(1),
        "q1 again": query(1, number=2),
        "q2": query(2),
    }
    world = World(refused)
    running = [Handling(every[name]) for name in names]
    for which, fate in schedule:
        handling = running[which % len(running)]
        if handling.answer is None:
            world.step(handling, fate)
        assert len(world.held()) <= 1
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
        assert not world.held()
        assert world.payment is not None
        assert world.payment.state == State.VOIDED
    else:
        assert world.held() == told_held
