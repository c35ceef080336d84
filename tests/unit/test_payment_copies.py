"""Several copies of one payment command under way at once, each dying anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fulcrum.saga.messages import AuthorizePayment, StepCommand, VoidPayment
from fulcrum.workers.handlers import PAYMENT_HANDLERS
from fulcrum.workers.payment_moves import (
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
from fulcrum.workers.psp_behaviour import Book, Request, authorization_body

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FLOW = "6f0c1d9e-1111-5222-8333-444455556666"


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
        self.answers: dict[str, int] = {}

    def deliver(self, command: StepCommand) -> Iterator[None]:
        """Carry out ``command``, pausing between any two things that can be torn apart by a crash."""
        learned: Learned = Begun.AGAIN if command.command_id in self.claimed else Begun.FRESH
        while True:
            row, move = PAYMENT_HANDLERS[type(command)](self.row, command, learned, NOON)
            self.claimed.add(command.command_id)
            if isinstance(move, Reply | Repeat):
                if command.command_id not in self.answers:
                    assert isinstance(move, Reply), "nothing was answered that could be repeated"
                    self.answers[command.command_id] = move.event.sequence
                    self.row = row
                return
            self.row = row
            yield
            learned = self._perform(move, command)
            yield

    def _perform(self, move: Move, command: Any) -> Learned:
        match move:
            case LookUp(key):
                effect = self.book.operation(key)
                found = {} if effect is None else authorization_body(effect)
                if found.get("status") == "voided":
                    return Voided(found["authorization_id"])
                if found.get("status") == "declined":
                    return Declined(found["code"])
                return Authorized(found["authorization_id"]) if found else Unheard(key)
            case Void(authorization_id, key):
                self.book.void(key, authorization_id, NOON)
                return Voided(authorization_id)
            case _:
                request = Request(command.workflow_id, command.payment_method, command.amount_minor, "EUR")
                effect, _ = self.book.authorize(command.command_id, request, NOON)
                held = effect.authorization_id
                return Declined(str(effect.code)) if held is None else Authorized(held)

    def held(self) -> set[str]:
        """What the provider still holds."""
        kinds = [(effect.kind, effect.authorization_id) for effect in self.book.effects]
        given_up = {held for kind, held in kinds if kind == "void"}
        return {str(held) for kind, held in kinds if kind == "authorize"} - given_up


# A hold that is made after the void has looked for it.
_LATE = [(0, False), *[(2, False)] * 3, (0, False)]
# The same by a copy that dies, after another copy was answered.
_LATE_AND_DEAD = [(0, False), *[(2, False)] * 3, *[(1, False)] * 3, (0, True)]


@settings(max_examples=300, deadline=None)
@given(
    token=st.sampled_from(["pay_ok", "pay_declined"]),
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([False, False, False, True])), min_size=5, max_size=40
    ),
)
@example(token="pay_ok", steps=_LATE)
@example(token="pay_ok", steps=_LATE_AND_DEAD)
def test_money_is_right_whatever_interleaves_and_dies(token: str, steps: list[tuple[int, bool]]) -> None:
    """Two copies of an authorization and of its void, and a second void, each dying anywhere and often.

    Once every command was carried out to its end, nothing is held, each key acted once, and the answers
    number the stream without a gap.
    """
    world = _World()
    hold = AuthorizePayment(
        **_common(1), tenant="acme", amount_minor=1250, currency="EUR", payment_method=token
    )
    undo, undo_again = VoidPayment(**_common(2)), VoidPayment(**_common(3))
    commands: list[StepCommand] = [hold, hold, undo, undo, undo_again]
    running = [world.deliver(command) for command in commands]
    for worker, dies in steps:
        next(running[worker], None)
        if dies:  # after the step; its message is delivered to another worker
            running[worker] = world.deliver(commands[worker])

    for command in (hold, undo, undo_again):  # every worker is gone; what was not acknowledged comes again
        for _ in world.deliver(command):
            pass

    assert world.row is not None
    assert world.row.state == State.VOIDED
    assert not world.held()
    assert sorted(world.answers.values()) == [1, 2, 3]
    assert world.row.sequence == 3
    keys = [effect.key for effect in world.book.effects]
    assert len(keys) == len(set(keys))
