"""A payment service behind a real queue, with a worker process that is killed at a named point."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from commandbus import broker
from deliveries import delivery
from eventually import eventually_async
from intake import free_port
from sqlalchemy import select

from fulcrum.commands.publisher import CommandPublisher
from fulcrum.crashpoint import VARIABLE
from fulcrum.saga.messages import StepCommand
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.workers.payment_relations import OPEN_COMMAND, PAYMENT, PAYMENTS
from fulcrum.workers.psp_simulator import PspSimulator

WITHIN = 40.0


class Site:
    """Queues, a database and a provider for one payment worker that is killed."""

    def __init__(
        self, settings: Settings, db: Database, codec: Codec, publisher: CommandPublisher, psp: PspSimulator
    ) -> None:
        self.settings = settings
        self.psp = psp
        self._db = db
        self._codec = codec
        self._publisher = publisher

    async def send(self, command: StepCommand) -> None:
        """Publish ``command``."""
        body, headers = self._codec.encode(command), delivery(command).headers
        await self._publisher.publish("payment", body, headers, command.command_id, type(command).__name__)

    async def answered(self, command: StepCommand) -> None:
        """Wait until the answer of ``command`` is recorded."""
        inbox = PAYMENTS.inbox
        kept = select(inbox.c.message_id).where(
            inbox.c.message_id == command.command_id, inbox.c.outcome.is_not(None)
        )
        await eventually_async(lambda: self._db.one(kept), within=WITHIN, state=lambda: command)

    async def state(self, workflow: str) -> str:
        """Where the payment stands."""
        row = await self._db.one(select(PAYMENT.c.state).where(PAYMENT.c.workflow_id == workflow))
        assert row is not None
        return str(row["state"])

    async def open_commands(self) -> list[str]:
        """The commands that have no recorded outcome."""
        return [row["command_id"] for row in await self._db.all(select(OPEN_COMMAND.c.command_id))]

    def effects(self, workflow: str) -> list[str]:
        """What really happened at the provider."""
        return [effect.kind for effect in self.psp._book.since(0, workflow)]


@asynccontextmanager
async def payment_site(settings: Settings, db: Database) -> AsyncIterator[Site]:
    """Everything but the worker."""
    psp = PspSimulator(settings)
    await psp.start(port=0)
    async with broker(settings):
        publisher = await CommandPublisher.open(settings)
        yield Site(settings, db, await open_codec(settings), publisher, psp)
        await publisher.close()
    await psp.stop()


@contextmanager
def worker(
    namespace: Mapping[str, str], site: Site, output: Path, crash_at: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """``fulcrum run payment`` as a process, killed at the end if it still lives."""
    env = {
        **os.environ,
        **namespace,
        "FULCRUM_PARTITIONS": str(site.settings.partitions),
        "FULCRUM_RETRY_UNIT": str(site.settings.retry_unit),
        "FULCRUM_PSP_URL": f"http://127.0.0.1:{site.psp.port}",
        "FULCRUM_HTTP_PORT": str(free_port()),
        VARIABLE: crash_at,
    }
    with output.open("ab") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "fulcrum", "run", "payment"], env=env, stdout=out, stderr=out
        )
        try:
            yield running
        finally:
            running.kill()
            running.wait()


async def dies(doomed: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until the process has killed itself."""

    async def died() -> bool:
        return doomed.poll() == -signal.SIGKILL

    await eventually_async(died, within=WITHIN, state=output.read_text)
