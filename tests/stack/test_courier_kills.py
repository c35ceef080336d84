"""``kill -9`` of the courier worker around a call of the courier and around an update: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from commandbus import broker
from deliveries import delivery, intercept, new_workflow, ship, track
from eventually import eventually_async
from intake import free_port
from sqlalchemy import select

from fulcrum.commands.publisher import CommandPublisher
from fulcrum.crashpoint import VARIABLE
from fulcrum.saga.messages import StepCommand
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.workers.courier_relations import COURIER, DELIVERIES, OPEN_COMMAND, TRACKING_UPDATES
from fulcrum.workers.courier_simulator import CourierSimulator
from fulcrum.workers.courier_webhook import PATH

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WITHIN = 40.0


class Site:
    """Queues, a database and a courier for one worker that is killed."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        codec: Codec,
        publisher: CommandPublisher,
        simulator: CourierSimulator,
    ) -> None:
        self.settings = settings
        self.simulator = simulator
        self.db = db
        self._codec = codec
        self._publisher = publisher

    async def send(self, command: StepCommand) -> None:
        """Publish ``command``."""
        body, headers = self._codec.encode(command), delivery(command).headers
        await self._publisher.publish("courier", body, headers, command.command_id, type(command).__name__)

    async def answered(self, command: StepCommand) -> None:
        """Wait until the answer of ``command`` is recorded."""
        inbox = COURIER.inbox
        kept = select(inbox.c.message_id).where(
            inbox.c.message_id == command.command_id, inbox.c.outcome.is_not(None)
        )
        await eventually_async(lambda: self.db.one(kept), within=_WITHIN, state=lambda: command)

    async def state(self, workflow: str) -> str:
        """Where the shipment stands."""
        row = await self.db.one(select(DELIVERIES.c.state).where(DELIVERIES.c.workflow_id == workflow))
        assert row is not None
        return str(row["state"])

    async def open_commands(self) -> list[str]:
        """The commands that have no answer."""
        return [row["command_id"] for row in await self.db.all(select(OPEN_COMMAND.c.command_id))]

    def effects(self, workflow: str) -> list[str]:
        """What was really done at the courier, without what it did by itself."""
        return [effect.kind for effect in self.simulator.effects(workflow) if effect.kind != "move"]


@pytest_asyncio.fixture(loop_scope="module")
async def site(settings: Settings, db: Database) -> AsyncIterator[Site]:
    """Everything but the worker."""
    port = free_port()
    mine = settings.model_copy(
        update={
            "courier_pace": 0.05,
            "webhook_secret": "secret",
            "courier_webhook_url": f"http://127.0.0.1:{port}{PATH}",
            "http_port": port,
        }
    )
    simulator = CourierSimulator(mine)
    await simulator.start(port=0)
    async with broker(settings):
        publisher = await CommandPublisher.open(settings)
        yield Site(mine, db, await open_codec(settings), publisher, simulator)
        await publisher.close()
    await simulator.stop()


@contextmanager
def worker(
    namespace: Mapping[str, str], site: Site, output: Path, crash_at: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """``fulcrum run courier`` as a process, killed at the end if it still lives."""
    env = {
        **os.environ,
        **namespace,
        "FULCRUM_PARTITIONS": str(site.settings.partitions),
        "FULCRUM_RETRY_UNIT": str(site.settings.retry_unit),
        "FULCRUM_COURIER_URL": f"http://127.0.0.1:{site.simulator.port}",
        "FULCRUM_COURIER_POLL": "1",
        "FULCRUM_COURIER_POLL_INTERVAL": "0.2",
        "FULCRUM_WEBHOOK_SECRET": "secret",
        "FULCRUM_HTTP_PORT": str(site.settings.http_port),
        VARIABLE: crash_at,
    }
    with output.open("ab") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "fulcrum", "run", "courier"], env=env, stdout=out, stderr=out
        )
        try:
            yield running
        finally:
            running.kill()
            running.wait()


async def until_dead(doomed: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until the process has killed itself."""

    async def died() -> bool:
        return doomed.poll() == -signal.SIGKILL

    await eventually_async(died, within=_WITHIN, state=output.read_text)


@pytest.mark.parametrize(("point", "happened"), [("courier.asking", 0), ("courier.asked", 1)])
@pytest.mark.parametrize("act", ["book", "cancel"])
async def test_kill_around_the_call_has_one_effect_and_one_answer(
    site: Site, namespace: Mapping[str, str], tmp_path: Path, act: str, point: str, happened: int
) -> None:
    """The next process asks under the same key, and finishes: exactly one effect, and nothing left open."""
    workflow, output = new_workflow(), tmp_path / "worker.out"
    booking = ship(workflow, "stays_booked-home")
    commands: list[StepCommand] = [booking] if act == "book" else [booking, intercept(workflow)]
    # Each command before it comes by the point once.
    with worker(namespace, site, output, f"{point}:{len(commands)}") as doomed:
        for command in commands[:-1]:
            await site.send(command)
            await site.answered(command)
        await site.send(commands[-1])
        await until_dead(doomed, output)
    assert site.effects(workflow).count(act) == happened
    assert await site.open_commands() == [commands[-1].command_id]
    with worker(namespace, site, output):
        await site.answered(commands[-1])
    assert site.effects(workflow) == ["book", "cancel"][: len(commands)]
    assert await site.state(workflow) == ("booked" if act == "book" else "cancelled")
    assert await site.open_commands() == []


@pytest.mark.parametrize("ship_to", ["lost-home", "silent-lost-home"])
@pytest.mark.parametrize("nth", [1, 3])
async def test_kill_after_an_update_tells_the_end_once(
    site: Site, namespace: Mapping[str, str], tmp_path: Path, ship_to: str, nth: int
) -> None:
    """Committed and not answered: the courier tells it again, or is asked, and the end is told once."""
    workflow, output = new_workflow(), tmp_path / "worker.out"
    asked = track(workflow)
    point = f"update.stored:{1 if 'silent' in ship_to else nth}"
    with worker(namespace, site, output, point) as doomed:
        await site.send(ship(workflow, ship_to))
        await site.answered(ship(workflow))
        await site.send(asked)
        await until_dead(doomed, output)
    with worker(namespace, site, output):
        await site.answered(asked)
    kept = select(TRACKING_UPDATES.c.sequence).where(TRACKING_UPDATES.c.workflow_id == workflow)
    numbers = [row["sequence"] for row in await site.db.all(kept)]
    assert len(numbers) == len(set(numbers))
    assert await site.state(workflow) == "lost"
    assert await site.open_commands() == []
    assert site.effects(workflow) == ["book"]
