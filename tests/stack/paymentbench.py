"""A payment service without a broker: database, provider, and processes that die where a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from deliveries import CODEC, delivery, emitted, settings_for
from sqlalchemy import select

from fulcrum.errors import OutcomeUnknown
from fulcrum.saga.messages import Answer, StepCommand
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.topics import Topics
from fulcrum.workers.payment_moves import (
    Authorized,
    Captured,
    CaptureRefused,
    Declined,
    Outcome,
    Refunded,
    RefundRefused,
    Voided,
    VoidRefused,
)
from fulcrum.workers.payment_relations import OPEN_COMMAND, PAYMENT, PAYMENTS
from fulcrum.workers.payment_sweeper import PaymentSweeper
from fulcrum.workers.payment_worker import PaymentWorker
from fulcrum.workers.provider import Provider
from fulcrum.workers.psp_simulator import PspSimulator

#: Seconds after which silence is taken for silence; a busy machine must have answered by then.
_IMPATIENT = 1.0


class Died(Exception):
    """The process ends here."""


class Faulty(Provider):
    """A provider connection at which the process dies, or stops until it is let go.

    ``before`` and ``after`` name the calls (authorize, reauthorize, void, capture, refund, outcome_of) that
    die before or after they act.
    ``held`` holds calls back before they act, until ``let_go`` is set.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.calls: list[str] = []
        self.before: set[str] = set()
        self.after: set[str] = set()
        self.held: set[str] = set()
        self.let_go = asyncio.Event()
        self.arrived = 0

    async def _faulty(self, name: str, act: Coroutine[Any, Any, Any]) -> Any:
        self.calls.append(name)
        if name in self.before:
            self.before.discard(name)
            act.close()
            raise Died(f"before {name}")
        if name in self.held:
            self.arrived += 1
            await self.let_go.wait()
        answer = await act
        if name in self.after:
            self.after.discard(name)
            raise Died(f"after {name}")
        return answer

    async def authorize(
        self, key: str, amount_minor: int, currency: str, token: str, reference: str
    ) -> Authorized | Declined:
        return await self._faulty(  # type: ignore[no-any-return]
            "authorize", super().authorize(key, amount_minor, currency, token, reference)
        )

    async def void(self, authorization_id: str, key: str) -> Voided | VoidRefused:
        return await self._faulty("void", super().void(authorization_id, key))  # type: ignore[no-any-return]

    async def reauthorize(self, authorization_id: str, key: str) -> Authorized | Declined:
        return await self._faulty(  # type: ignore[no-any-return]
            "reauthorize", super().reauthorize(authorization_id, key)
        )

    async def capture(self, authorization_id: str, amount_minor: int, key: str) -> Captured | CaptureRefused:
        return await self._faulty(  # type: ignore[no-any-return]
            "capture", super().capture(authorization_id, amount_minor, key)
        )

    async def refund(self, authorization_id: str, amount_minor: int, key: str) -> Refunded | RefundRefused:
        return await self._faulty(  # type: ignore[no-any-return]
            "refund", super().refund(authorization_id, amount_minor, key)
        )

    async def outcome_of(self, key: str) -> Outcome | None:
        return await self._faulty("outcome_of", super().outcome_of(key))  # type: ignore[no-any-return]


class Bench:
    """One payment service: its database, the provider, and as many processes as a test asks for."""

    def __init__(self, db: Database, settings: Settings, simulator: PspSimulator) -> None:
        self.db = db
        self.settings = settings
        self.simulator = simulator
        self.providers: list[Faulty] = []

    def process(
        self, patience: float = 20.0, sweep_after: float = 30.0, **changes: Any
    ) -> tuple[PaymentWorker, Faulty]:
        """Another worker process, which waits for the provider so many seconds."""
        provider = Faulty(self.settings.model_copy(update={"psp_timeout": patience, **changes}))
        self.providers.append(provider)
        topics = Topics(self.settings.namespace)
        return PaymentWorker(self.db, CODEC, topics, provider, sweep_after), provider

    def sweeper(
        self, sweep_after: float = 30.0, patience: float = 20.0
    ) -> tuple[PaymentSweeper, PaymentWorker, Faulty]:
        """The sweeper of another worker process."""
        worker, provider = self.process(patience)
        settings = self.settings.model_copy(update={"payment_sweep_after": sweep_after})
        return PaymentSweeper(self.db, CODEC, worker, provider, settings), worker, provider

    async def open_commands(self, *commands: StepCommand) -> list[str]:
        """Which of ``commands`` are kept until they are answered, by type."""
        ids = [command.command_id for command in commands]
        rows = await self.db.all(select(OPEN_COMMAND).where(OPEN_COMMAND.c.command_id.in_(ids)))
        return sorted(row["type"] for row in rows)

    async def handle(self, command: StepCommand) -> None:
        """Carry ``command`` out in a process where nothing goes wrong."""
        await self.process()[0].handle([delivery(command)])

    async def not_told(self, command: StepCommand) -> None:
        """Carry ``command`` out in a process that loses patience with the provider."""
        worker, _ = self.process(patience=_IMPATIENT)
        with pytest.raises(OutcomeUnknown):
            await worker.handle([delivery(command)])

    async def told(self, workflow: str) -> list[Answer]:
        """What was emitted, copies included."""
        return await emitted(self.db, PAYMENTS, workflow)

    async def row(self, workflow: str) -> Mapping[str, Any]:
        """The payment as it is stored."""
        row = await self.db.one(select(PAYMENT).where(PAYMENT.c.workflow_id == workflow))
        assert row is not None
        return row

    def effects(self, workflow: str) -> list[str]:
        """What really happened at the provider, in order."""
        return [effect.kind for effect in self.simulator._book.since(0, workflow)]


@asynccontextmanager
async def payment_service(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """A service with a provider of its own, on the database of ``namespace``."""
    simulator = PspSimulator(settings_for(namespace))
    await simulator.start(0)
    settings = settings_for(namespace, psp_url=f"http://127.0.0.1:{simulator.port}")
    db = await Database.open(settings.postgres_dsn, size=6)
    running = Bench(db, settings, simulator)
    yield running
    for provider in running.providers:
        await provider.close()
    await db.close()
    await simulator.stop()
