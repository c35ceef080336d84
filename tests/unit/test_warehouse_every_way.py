"""A pack job under commands, words of the floor and lapses of time in every order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from packing import NOON, FloorInMemory, cancel, hand_over, pack

from fulcrum.errors import Retryable
from fulcrum.saga.messages import (
    Answer,
    HandOverRefused,
    OrderPacked,
    OrderShort,
    PackJobCancelled,
    PackRefused,
    ParcelHandedOver,
    StepCommand,
)
from fulcrum.workers.handlers import WAREHOUSE_HANDLERS
from fulcrum.workers.warehouse import open_commands
from fulcrum.workers.warehouse_jobs import Ask, Learned, PackJob, State, next_ask
from fulcrum.workers.warehouse_policy import POLICIES
from fulcrum.workers.warehouse_progress import Pace, learn

_PACE = Pace(timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=60))


class Service:
    """One job, its commands and its floor. A word may be on its way while the goal changes."""

    def __init__(self) -> None:
        self.job: PackJob | None = None
        self.floor = FloorInMemory()
        self.now: datetime = NOON
        self.events: list[Answer] = []
        self.taken: dict[str, StepCommand] = {}
        self.on_its_way: list[tuple[Ask, Learned]] = []

    def deliver(self, command: StepCommand) -> None:
        """As the worker does: a repeat decides nothing."""
        if command.command_id in self.taken:
            return
        try:
            self.job, event = WAREHOUSE_HANDLERS[type(command)](self.job, command, self.now)
        except Retryable:
            return
        self.taken[command.command_id] = command
        if event is not None:
            self.events.append(event)

    def ask(self) -> None:
        """Ask the floor, and leave its word on its way."""
        ask = None if self.job is None else next_ask(self.job)
        if ask is not None:
            self.on_its_way.append((ask, self.floor.ask(ask, self.now)))

    def hear(self) -> None:
        """Take the oldest word, as the rounds do."""
        if not self.on_its_way:
            return
        ask, said = self.on_its_way.pop(0)
        if self.job is not None and next_ask(self.job) == ask:
            self.job, events = learn(self.job, said, self.now, _PACE)
            self.events.extend(events)

    def drain(self) -> None:
        """Until the job is left alone; a bounded number of looks must do."""
        for _ in range(300):
            self.hear()
            if self.job is None or self.job.goal is None:
                return
            self.now += timedelta(seconds=1)
            self.ask()
        raise AssertionError(f"never ends: {self.job}")


_LINES = st.lists(
    st.tuples(
        st.sampled_from(["tea", "short1-a", "short-b", "later1-c", "later-d", "broken-e", "slow-f"]),
        st.integers(1, 3),
        st.sampled_from(POLICIES),
    ),
    min_size=1,
    max_size=3,
)
_ACTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["pack", "pack", "ask", "ask", "ask", "hear", "hear", "cancel", "hand over", "again"]
        ),
        st.integers(1, 50),
    ),
    max_size=25,
)


@settings(max_examples=400, deadline=None)
@given(_LINES, _ACTS, st.booleans())
def test_every_command_is_answered_once_and_goods_are_in_one_place(
    lines: list[tuple[str, int, str]], acts: Sequence[str | int], finish: bool
) -> None:
    """Numbers are dense, ids are unique, and what is told is what really happened on the floor."""
    service = Service()
    wanted = [(sku, quantity) for sku, quantity, _ in lines]
    terms = [each for _, _, each in lines]
    for act in acts:
        match act:
            case "pack":
                service.deliver(pack(1, wanted, terms))
            case "again":
                service.deliver(pack(2, wanted, terms))
            case "cancel":
                service.deliver(cancel())
            case "hand over":
                service.deliver(hand_over())
            case "ask":
                service.ask()
            case "hear":
                service.hear()
            case int(seconds):
                service.now += timedelta(seconds=seconds)
    service.drain()
    if finish:
        service.deliver(cancel())
        service.drain()
    job, events = service.job, service.events
    if job is None:
        return
    assert [event.sequence for event in events] == [*range(1, len(events) + 1)]
    assert job.sequence == len(events)
    assert len({event.event_id for event in events}) == len(events)
    answered = [event.command_id for event in events if not isinstance(event, OrderShort)]
    assert sorted(answered) == sorted(service.taken)
    assert open_commands(job) == {}
    _told_is_true(service, job)


def _told_is_true(service: Service, job: PackJob) -> None:
    units = service.floor.units()
    lies = units.get("pick", 0) - units.get("put_back", 0)
    last = {type(event): event for event in service.events}
    assert (job.state == State.HANDED_OVER) == bool(units.get("hand_over"))
    assert (ParcelHandedOver in last) == bool(units.get("hand_over"))
    assert units.get("hand_over", 0) <= 1
    if job.state in (State.PACKED, State.HANDED_OVER):
        assert sum(line.picked for line in job.lines) == lies > 0
    else:
        assert lies == 0
    packed, cancelled = last.get(OrderPacked), last.get(PackJobCancelled)
    if isinstance(packed, OrderPacked):
        # Only a line whose terms allow it is packed short.
        assert all(line.on_short == "cancel_line" for line in job.lines if line.short) or lies == 0
    if isinstance(cancelled, PackJobCancelled):
        assert cancelled.handed_over == (job.state == State.HANDED_OVER)
    if job.state == State.FAILED:
        assert PackRefused in last
    if HandOverRefused in last:
        assert ParcelHandedOver not in last
