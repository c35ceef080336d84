"""The orchestrator as the tests of intake play it: by its own rules, fed with what lies in Kafka."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from eventually import eventually_async
from intake import records_of

from fulcrum.agents import journal
from fulcrum.readmodel import store
from fulcrum.saga import identity
from fulcrum.saga.decide import Decision, decide
from fulcrum.saga.messages import (
    AuthorizePayment,
    DecisionMade,
    Event,
    PaymentAuthorized,
    PaymentDeclined,
    ReserveStock,
    StepCommand,
    StockReserved,
)
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.codec import Codec, offline_codec

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def arrived(settings: Settings, codec: Codec, workflow_id: str, count: int) -> list[Event]:
    """The first ``count`` events of the workflow, once they lie in Kafka."""

    async def there() -> list[Event] | None:
        records = await asyncio.to_thread(records_of, settings, workflow_id)
        return [_event(codec, record) for record in records] if len(records) >= count else None

    found = await eventually_async(there, within=15)
    assert found is not None
    return found


def _event(codec: Codec, record: Any) -> Event:
    event = codec.decode(record.value())
    assert isinstance(event, Event)
    return event


def authorized(command: StepCommand) -> Event:
    """Payment says yes."""
    assert isinstance(command, AuthorizePayment)
    return PaymentAuthorized(
        **answering(command, "PaymentAuthorized"),
        authorization_id="psp-1",
        amount_minor=command.amount_minor,
        currency=command.currency,
    )


def declined(command: StepCommand) -> Event:
    """Payment says no, and leaves nothing behind."""
    return PaymentDeclined(**answering(command, "PaymentDeclined"), reason="insufficient_funds")


def reserved(command: StepCommand) -> Event:
    """Inventory says yes."""
    assert isinstance(command, ReserveStock)
    return StockReserved(**answering(command, "StockReserved"), lines=command.lines, expires_at=None)


def answering(command: StepCommand, answer: str) -> dict[str, Any]:
    """What every first answer has."""
    return {
        "event_id": identity.event_id(command.command_id, answer),
        "workflow_id": command.workflow_id,
        "sequence": 1,
        "occurred_at": NOW,
        "command_id": command.command_id,
    }


def told(events: list[Event], answers: tuple[Any, ...] = ()) -> list[DecisionMade]:
    """What the orchestrator records: it takes the intent, the answers, and then the other events."""
    run, made, outcome, codec = None, [], None, offline_codec()
    stream: list[Any] = [events[0], *answers, *events[1:]]
    for offset, item in enumerate(stream):
        if callable(item):
            assert isinstance(outcome, Decision)
            item = item(outcome.commands[0])
        outcome = decide(run, item)
        assert isinstance(outcome, Decision), outcome
        run = outcome.run
        place = {"topic": "t", "partition": 0, "offset": offset}
        made.append(journal.record(outcome, item, codec.encode, **place))  # type: ignore[arg-type]
    return made


async def project(db: Database, decisions: list[DecisionMade]) -> None:
    """Bring the read model up to ``decisions``."""
    async with db.transaction() as tx:
        await store.apply(tx, decisions)
