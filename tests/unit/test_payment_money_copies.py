"""Authorizations, captures, refunds, voids and queries of one workflow, copied and dying anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from payments import (
    NOON,
    StepCommands,
    ask_about,
    authorize,
    capture,
    perform,
    refund,
    reverse,
    still_held,
    void,
)

from fulcrum.errors import Retryable
from fulcrum.saga.messages import (
    Answer,
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentRefunded,
    PaymentReversed,
    PaymentVoided,
    PaymentVoidRefused,
    QueryPayment,
)
from fulcrum.workers.handlers import PAYMENT_HANDLERS
from fulcrum.workers.payment_moves import (
    CAPTURE_OPEN,
    Ask,
    Begun,
    Learned,
    Payment,
    Repeat,
    Reply,
    State,
    TellAndAsk,
)
from fulcrum.workers.psp_book import Book

HOLD = authorize()
_ORDERED: list[StepCommands] = [
    *[HOLD, capture(1, 3000), capture(2, 3000), capture(3), capture(4, 5000)],
    *[refund(1, 1000), refund(2, 2000), refund(3, 2500), refund(4, 5000)],
    *[void(1), void(2), reverse(1), reverse(2)],
]
COMMANDS = [*_ORDERED, *(ask_about(each) for each in _ORDERED[:-4])]


class World:
    """One row, the provider's book, and copies of commands that can be torn apart at any point."""

    def __init__(self, token: str) -> None:
        self.row: Payment | None = None
        self.book = Book()
        self.claimed: set[str] = set()
        self.answers: dict[str, Answer] = {}
        self.token = token

    def carry_out(self, command: StepCommands) -> Iterator[None]:
        """Carry ``command`` out, pausing between any two things that a crash can tear apart."""
        if command is HOLD:
            command = replace(HOLD, payment_method=self.token)
        learned: Learned = Begun.AGAIN if command.command_id in self.claimed else Begun.FRESH
        while True:
            try:
                row, move = PAYMENT_HANDLERS[type(command)](self.row, command, learned, NOON)
            except Retryable:  # the transaction rolls back, and the claim with it
                return
            self.claimed.add(command.command_id)
            if isinstance(move, Reply | Repeat):
                self._answer(command, row, move)
                return
            if isinstance(move, TellAndAsk):
                assert move.event.command_id not in self.answers, "each command is told one thing"
                self.answers[move.event.command_id] = move.event
                move = move.ask
            self.row = row
            yield
            learned = self._ask(move, command)
            yield

    def _ask(self, move: Ask, command: StepCommands) -> Learned:
        return perform(self.book, move, command)

    def _answer(self, command: StepCommands, row: Payment, move: Reply | Repeat) -> None:
        if command.command_id in self.answers:
            return
        known = self.answers.get(command.asked_command_id) if isinstance(command, QueryPayment) else None
        if known is None:
            assert isinstance(move, Reply), "nothing was answered that could be repeated"
            assert move.event.command_id not in self.answers, "each command is told one thing"
            known = self.answers[move.event.command_id] = move.event
            self.row = row
        self.answers[command.command_id] = known

    def no_money_is_made(self) -> None:
        """Each key acted once; no more is taken than was held, and no more given back than was taken."""
        effects = self.book.effects
        keys = Counter(effect.key for effect in effects)
        assert not keys or max(keys.values()) == 1
        sums = Counter[str]()
        for effect in effects:
            sums[effect.kind] += effect.amount_minor
        kinds = Counter(effect.kind for effect in effects)
        assert kinds["authorize"] <= 1
        assert kinds["capture"] + kinds["void"] <= 1
        assert len(still_held(self.book)) <= 1
        assert sums["refund"] <= sums["capture"] <= sums["authorize"]

    def row_is_within_bounds(self) -> None:
        """What the database checks holds at every moment."""
        if self.row is not None:
            assert 0 <= self.row.refunded_minor <= self.row.captured_minor <= (self.row.amount_minor or 0)

    def what_was_told_is_what_happened(self) -> None:
        """Every event is true at the provider, and they are numbered without a gap."""
        told = sorted({e.event_id: e for e in self.answers.values()}.values(), key=lambda e: e.sequence)
        assert [event.sequence for event in told] == list(range(1, len(told) + 1))
        done = {effect.key: effect for effect in self.book.effects}
        for event in told:
            effect = done.get(event.command_id)
            match event:
                case PaymentRefunded():
                    assert effect is not None
                    assert (effect.kind, effect.amount_minor) == ("refund", event.amount_minor)
                case PaymentCaptured():
                    taken = [e.amount_minor for e in self.book.effects if e.kind == "capture"]
                    assert taken == [event.amount_minor]
                case PaymentReversed():
                    assert sum(e.amount_minor for e in self.book.effects if e.kind == "refund") == (
                        event.refunded_minor
                    )
                case PaymentCaptureRefused():
                    assert effect is None or effect.kind == "refuse_capture"
        refunds = [event.refunded_minor for event in told if isinstance(event, PaymentRefunded)]
        assert all(before < after for before, after in pairwise(refunds))
        kinds = {type(event) for event in told}
        assert not {PaymentVoided, PaymentCaptured} <= kinds
        assert not {PaymentVoided, PaymentVoidRefused} <= kinds

    def all_agree(self) -> None:
        """Once every command that came was carried out, each is answered, and row and provider agree."""
        assert self.claimed <= self.answers.keys()
        if self.row is None:
            return
        assert self.row.state not in (State.AUTHORIZING, *CAPTURE_OPEN, State.REFUNDING, State.VOIDING)
        sums = Counter[str]()
        for effect in self.book.effects:
            sums[effect.kind] += effect.amount_minor
        assert (self.row.captured_minor, self.row.refunded_minor) == (sums["capture"], sums["refund"])
        assert bool(still_held(self.book)) == (self.row.state == State.AUTHORIZED)
        if any(isinstance(event, PaymentReversed) for event in self.answers.values()):
            assert self.row.state in (State.VOIDED, State.REFUNDED)


_TAKEN: list[StepCommands] = [HOLD, capture(1, 3000)]
_BEFORE: list[list[StepCommands]] = [[], [HOLD], [HOLD], _TAKEN, [*_TAKEN, refund(1, 1000)]]
_TOKENS = [
    *["pay_ok", "pay_ok", "pay_capture_declined", "pay_refund_declined"],
    *["pay_expires", "pay_expires_for_good", "pay_refund_late"],
]
# A capture that is asked for after a void came.
_REVERSED = [(0, False), *[(1, False)] * 8, *[(0, False)] * 4]
_REVERSED_ANEW = [*[(0, False)] * 3, *[(1, False)] * 8, *[(0, False)] * 4]
_OVERTAKEN = [(0, False), *[(1, False)] * 3, *[(0, False)] * 3]
_steps = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([False, False, False, True])), min_size=8, max_size=40
)


@settings(max_examples=500, deadline=None)
@given(
    token=st.sampled_from(_TOKENS),
    before=st.sampled_from(_BEFORE),
    cast=st.lists(st.sampled_from(COMMANDS), min_size=2, max_size=5),
    steps=_steps,
)
@example(token="pay_ok", before=[HOLD], cast=[capture(1, 3000), void(1)], steps=_OVERTAKEN)
@example(token="pay_ok", before=[HOLD], cast=[capture(1, 3000), reverse(1)], steps=_REVERSED)
@example(token="pay_expires", before=[HOLD], cast=[capture(1, 3000), reverse(1)], steps=_REVERSED_ANEW)
@example(token="pay_ok", before=_TAKEN, cast=[refund(1, 1000), refund(2, 2000), refund(4, 1)], steps=[])
def test_no_order_and_no_crash_makes_money(
    token: str, before: list[StepCommands], cast: list[StepCommands], steps: list[tuple[int, bool]]
) -> None:
    """Any commands at any stage, step by step in any order, each copy dying anywhere and coming again."""
    world = World(token)
    for command in before:
        for _ in world.carry_out(command):
            pass
    running = [world.carry_out(command) for command in cast]
    for which, dies in steps:
        place = which % len(cast)
        if next(running[place], "done") == "done" or dies:
            running[place] = world.carry_out(cast[place])
        world.no_money_is_made()
        world.row_is_within_bounds()
        world.what_was_told_is_what_happened()
    for _ in range(3):  # nobody dies any more, and what waited for another one has its turn
        for command in {each.command_id: each for each in (*before, *cast)}.values():
            for _ in world.carry_out(command):
                pass
    world.no_money_is_made()
    world.what_was_told_is_what_happened()
    world.all_agree()
