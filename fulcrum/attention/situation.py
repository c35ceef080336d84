"""What is known of one workflow when the rules look at it? Everything is in hand: rules ask nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fulcrum.readmodel.awaited import Awaited
from fulcrum.readmodel.why import Why
from fulcrum.settings import Settings


@dataclass(frozen=True, slots=True)
class Open:
    """A command that was published and that no worker has answered; parked ones are not among them.

    ``since`` it lies on its queue: its publication, or the time its next attempt was due. ``consumers`` of
    that queue; None when RabbitMQ was not asked or does not tell. ``deadline`` is that of its step.
    """

    type: str
    service: str
    since: datetime
    consumers: int | None
    deadline: timedelta | None


@dataclass(frozen=True, slots=True)
class Parked:
    """A message of the workflow that waits for a person."""

    id: str
    service: str
    type: str
    error: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Unsent:
    """The oldest event of the workflow in the outbox of a service; ``error`` if Kafka refused it for good."""

    outbox: str
    since: datetime
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """The workflow's partition in a topic, in which a consumer group has not moved although records wait."""

    group: str
    topic: str
    partition: int
    lag: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One workflow that is not finished. ``retry_due`` is when the next attempt of its command comes.

    ``answered_at`` is when the service finished the awaited command, by its inbox.
    """

    now: datetime
    workflow_id: str
    status: str
    updated_at: datetime
    why: Why
    awaited: Awaited | None = None
    open: tuple[Open, ...] = ()
    parked: tuple[Parked, ...] = ()
    unsent: tuple[Unsent, ...] = ()
    stalls: tuple[Stall, ...] = ()
    retry_due: datetime | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each thing may last before it counts."""

    deadline: timedelta
    queue: timedelta
    answer: timedelta
    outbox: timedelta
    lag: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the settings say."""
        return cls(
            deadline=timedelta(seconds=settings.stuck_deadline_grace),
            queue=timedelta(seconds=settings.stuck_queue_grace),
            answer=timedelta(seconds=settings.stuck_answer_grace),
            outbox=timedelta(seconds=settings.stuck_outbox_grace),
            lag=timedelta(seconds=settings.stuck_lag_grace),
        )
