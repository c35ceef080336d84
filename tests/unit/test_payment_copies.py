"""Several copies of each payment command under way at once, each dying anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from payments import FLOW, NOON, perform, still_held

from fulcrum.saga.messages import (
    Answer,
    AuthorizePayment,
    PaymentAuthorized,
    PaymentDeclined,
    QueryPayment,
    StepCommand,
    VoidPayment,
)
from fulcrum.workers.handlers import PAYMENT_HANDLERS
from fulcrum.workers.payment_moves import (
    Begun,
    Learned,
    Payment,
    Repeat,
    Reply,
    State,
)
from fulcrum.workers.psp_book import Book


def _common(number: int) -> dict[str, Any]:
    command = f"c0ffee00-0000-5000-8000-00000000000{number}"
    step = {"step": "authorize_payment", "attempt": 1, "issued_at": NOON}
    return {"command_id": command, "workflow_id": FLOW, **step}


class _World:
    """One workflow's row, the provider's book, the answers, and commands that die at any point."""

    def __init__(self) -> None:
        self.row: Payment | None = None
        self.book = Book()
        self.claimed: set[str] = set()
        self.answers: dict[str, Answer] = {}

    def deliver(self, command: StepCommand) -> Iterator[None]:
        """Carry out ``command``, pausing between any two things that can be torn apart by a crash."""
        learned: Learned = Begun.AGAIN if command.command_id in self.claimed else Begun.FRESH
        while True:
            row, move = PAYMENT_HANDLERS[type(command)](self.row, command, learned, NOON)
            self.claimed.add(command.command_id)
            if isinstance(move, Reply | Repeat):
                if command.command_id not in self.answers:
                    self._answer(command, row, move)
                return
            self.row = row
            yield
            learned = perform(self.book, move, command)
            yield

    def _answer(self, command: StepCommand, row: Payment, move: Reply | Repeat) -> None:
        """Keep the first answer of ``command``: that of the command that it asks about, if there is one."""
        known = self.answers.get(command.asked_command_id) if isinstance(command, QueryPayment) else None
        if known is None:
            assert isinstance(move, Reply), "nothing was answered that could be repeated"
            assert move.event.command_id in self.claimed, "the answer is kept with a command that came"
            assert move.event.command_id not in self.answers, "each command is told one thing"
            known = self.answers[move.event.command_id] = move.event
            self.row = row
        self.answers[command.command_id] = known

    def told(self) -> list[Answer]:
        """What was emitted, without repeats."""
        return sorted({e.event_id: e for e in self.answers.values()}.values(), key=lambda e: e.sequence)


HOLD, UNDO, UNDO_AGAIN, QUERY, QUERY_AGAIN = range(5)


def _commands(token: str) -> list[StepCommand]:
    hold = AuthorizePayment(
        **_common(1), tenant="acme", amount_minor=1250, currency="EUR", payment_method=token
    )
    queries = [QueryPayment(**_common(number), asked_command_id=hold.command_id) for number in (4, 5)]
    return [hold, VoidPayment(**_common(2)), VoidPayment(**_common(3)), *queries]


def _interleave(
    commands: list[StepCommand], copies: list[int], steps: list[tuple[int, bool]], last: list[int]
) -> _World:
    """Run the ``copies`` of ``commands`` step by step, each maybe dying after it, and then ``last`` alone."""
    world = _World()
    running = [world.deliver(commands[which]) for which in copies]
    for worker, dies in steps:
        next(running[worker % len(copies)], None)
        if dies:  # after the step; its message is delivered to another worker
            running[worker % len(copies)] = world.deliver(commands[copies[worker % len(copies)]])
    for which in last:  # every worker is gone; what was not acknowledged comes again
        for _ in world.deliver(commands[which]):
            pass
    return world


def _check(world: _World, commands: list[StepCommand], came: int) -> None:
    """Each key acted once, each command that came was told one thing, and the events are numbered densely."""
    assert world.row is not None
    assert len(world.answers) == came
    told = world.told()
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert world.row.sequence == len(told)
    assert len({event.command_id for event in told}) == len(told)
    about = world.answers.get(commands[HOLD].command_id)
    for query in commands[QUERY:]:
        answer = world.answers.get(query.command_id)
        assert answer is None or answer.command_id == query.command_id or answer is about
    keys = [effect.key for effect in world.book.effects]
    assert len(keys) == len(set(keys))


# A hold that is made after the void has looked for it.
_LATE = [(0, False), *[(2, False)] * 3, (0, False)]
# The same by a copy that dies, after another copy was answered.
_LATE_AND_DEAD = [(0, False), *[(2, False)] * 3, *[(1, False)] * 3, (0, True)]
# A query that finds the hold of a copy that died, which comes again.
_FOUND = [(0, False), (0, True), *[(5, False)] * 3, *[(0, False)] * 3]
# A query that looks before the hold is made, and is told of it after.
_TOO_SOON = [(0, False), *[(5, False)] * 2, (0, False), (0, False), (5, False)]

_steps = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from([False, False, False, True])), min_size=5, max_size=50
)


@settings(max_examples=400, deadline=None)
@given(
    token=st.sampled_from(["pay_ok", "pay_declined", "pay_expires_60"]),
    steps=_steps,
    last=st.permutations(range(5)),
)
@example(token="pay_ok", steps=_LATE, last=[*range(5)])
@example(token="pay_ok", steps=_LATE_AND_DEAD, last=[*range(5)])
@example(token="pay_ok", steps=_FOUND, last=[*range(5)])
@example(token="pay_ok", steps=_TOO_SOON, last=[*range(5)])
def test_money_is_right_whatever_interleaves_and_dies(
    token: str, steps: list[tuple[int, bool]], last: list[int]
) -> None:
    """Copies of an authorization, of queries about it and of its void, each dying anywhere and often.

    Once every command was carried out to its end, nothing is held, each key acted once, each command was
    told one thing, and the answers number the stream without a gap.
    """
    commands = _commands(token)
    copies = [HOLD, HOLD, UNDO, UNDO, UNDO_AGAIN, QUERY, QUERY, QUERY_AGAIN]
    world = _interleave(commands, copies, steps, last)

    _check(world, commands, came=5)
    assert world.row is not None
    assert world.row.state == State.VOIDED
    assert not still_held(world.book)


@settings(max_examples=400, deadline=None)
@given(
    token=st.sampled_from(["pay_ok", "pay_declined", "pay_expires_60"]),
    steps=_steps,
    last=st.permutations([HOLD, QUERY, QUERY_AGAIN]),
)
@example(token="pay_ok", steps=[(0, False), (0, True), *[(2, False)] * 3], last=[HOLD, QUERY, QUERY_AGAIN])
def test_what_a_query_says_is_what_the_authorization_says(
    token: str, steps: list[tuple[int, bool]], last: list[int]
) -> None:
    """Copies of an authorization and of queries about it, none voided: the amount is held once, and so told.

    A query that comes after all of them is told the same, and nothing new.
    """
    commands = _commands(token)
    world = _interleave(commands, [HOLD, HOLD, QUERY, QUERY, QUERY_AGAIN], steps, last)
    after = QueryPayment(**_common(6), asked_command_id=commands[HOLD].command_id)
    for _ in world.deliver(after):
        pass

    _check(world, commands, came=4)
    assert world.row is not None
    told = world.answers[commands[HOLD].command_id]
    assert world.answers[after.command_id] is told
    if token == "pay_declined":
        assert isinstance(told, PaymentDeclined)
        assert not still_held(world.book)
        return
    assert isinstance(told, PaymentAuthorized)
    assert still_held(world.book) == {told.authorization_id}
    assert told.expires_at == (NOON + timedelta(seconds=60) if token == "pay_expires_60" else None)
    assert (world.row.state, world.row.expires_at) == (State.AUTHORIZED, told.expires_at)
