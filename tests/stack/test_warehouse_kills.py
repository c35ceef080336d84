"""``kill -9`` of the warehouse worker around a question to the floor: one effect, and one answer."""

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
from deliveries import delivery, new_workflow
from eventually import eventually_async
from intake import free_port
from sqlalchemy import select
from warehousebench import QUICK, cancel, hand_over, pack, units_of

from fulcrum.commands.publisher import CommandPublisher
from fulcrum.crashpoint import VARIABLE
from fulcrum.saga.messages import StepCommand
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.workers.warehouse_relations import OPEN_COMMAND, PACK_JOB, WAREHOUSE
from fulcrum.workers.warehouse_simulator import WarehouseSimulator

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WITHIN = 40.0
#: What is asked last, when the process dies there; and what had really happened on the floor by then,
#: when the floor was not asked any more, and when it was.
_ACTS = {
    "pack": ({}, {"offer": 1}),
    "hand over": ({"offer": 1, "pick": 2, "pack": 1}, {"offer": 1, "pick": 2, "pack": 1, "hand_over": 1}),
    "cancel": (
        {"offer": 1, "pick": 2, "pack": 1},
        {"offer": 1, "pick": 2, "pack": 1, "put_back": 2, "cancel": 1},
    ),
}
_ENDS = {
    "pack": ("packed", {"offer": 1, "pick": 2, "pack": 1}),
    "hand over": ("handed_over", _ACTS["hand over"][1]),
    "cancel": ("cancelled", _ACTS["cancel"][1]),
}


class Site:
    """Queues, a database and a floor for one warehouse worker that is killed."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        codec: Codec,
        publisher: CommandPublisher,
        floor: WarehouseSimulator,
    ) -> None:
        self.settings = settings
        self.floor = floor
        self._db = db
        self._codec = codec
        self._publisher = publisher

    async def send(self, command: StepCommand) -> None:
        """Publish ``command``."""
        body, headers = self._codec.encode(command), delivery(command).headers
        await self._publisher.publish("warehouse", body, headers, command.command_id, type(command).__name__)

    async def answered(self, command: StepCommand) -> None:
        """Wait until the answer of ``command`` is recorded."""
        inbox = WAREHOUSE.inbox
        kept = select(inbox.c.message_id).where(
            inbox.c.message_id == command.command_id, inbox.c.outcome.is_not(None)
        )
        await eventually_async(lambda: self._db.one(kept), within=_WITHIN, state=lambda: command)

    async def row(self, workflow: str) -> Mapping[str, object]:
        """The job as it is stored."""
        row = await self._db.one(select(PACK_JOB).where(PACK_JOB.c.workflow_id == workflow))
        assert row is not None
        return row

    async def open_commands(self) -> list[str]:
        """The commands that have no recorded outcome."""
        return [row["command_id"] for row in await self._db.all(select(OPEN_COMMAND.c.command_id))]

    def units(self, workflow: str) -> dict[str, int]:
        """What really happened on the floor."""
        return units_of(self.floor, workflow)


@pytest_asyncio.fixture(loop_scope="module")
async def site(settings: Settings, db: Database) -> AsyncIterator[Site]:
    """Everything but the worker."""
    floor = WarehouseSimulator(settings.model_copy(update=dict(QUICK)))
    await floor.start(port=0)
    async with broker(settings):
        publisher = await CommandPublisher.open(settings)
        yield Site(settings, db, await open_codec(settings), publisher, floor)
        await publisher.close()
    await floor.stop()


@contextmanager
def worker(
    namespace: Mapping[str, str], site: Site, output: Path, crash_at: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """``fulcrum run warehouse`` as a process, killed at the end if it still lives."""
    env = {
        **os.environ,
        **namespace,
        **{f"FULCRUM_{name.upper()}": str(value) for name, value in QUICK.items()},
        "FULCRUM_PARTITIONS": str(site.settings.partitions),
        "FULCRUM_RETRY_UNIT": str(site.settings.retry_unit),
        "FULCRUM_WAREHOUSE_URL": f"http://127.0.0.1:{site.floor.port}",
        "FULCRUM_HTTP_PORT": str(free_port()),
        VARIABLE: crash_at,
    }
    with output.open("ab") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "fulcrum", "run", "warehouse"], env=env, stdout=out, stderr=out
        )
        try:
            yield running
        finally:
            running.kill()
            running.wait()


async def _dies(site: Site, doomed: subprocess.Popen[bytes], output: Path) -> None:
    async def died() -> bool:
        return doomed.poll() == -signal.SIGKILL

    await eventually_async(died, within=_WITHIN, state=output.read_text)


@pytest.mark.parametrize("point", ["floor.asking", "floor.asked"])
@pytest.mark.parametrize("act", list(_ACTS))
async def test_kill_around_the_question_has_one_effect_and_one_answer(
    site: Site, namespace: Mapping[str, str], tmp_path: Path, act: str, point: str
) -> None:
    """The next process takes the job up where it stands, and finishes: nothing twice, nothing left open."""
    workflow = new_workflow()
    order = pack(workflow, ("tea", 2))
    command = {"pack": order, "hand over": hand_over(workflow), "cancel": cancel(workflow)}[act]
    output = tmp_path / "worker.out"
    if act != "pack":
        with worker(namespace, site, output):
            await site.send(order)
            await site.answered(order)
    with worker(namespace, site, output, point) as doomed:
        await site.send(command)
        await _dies(site, doomed, output)
    before, after = _ACTS[act]
    happened = site.units(workflow)
    if act == "pack" and point == "floor.asked":
        # The floor goes on alone.
        assert happened["offer"] == 1
    else:
        assert happened == (before if point == "floor.asking" else after)
    assert await site.open_commands() == [command.command_id]
    state, units = _ENDS[act]
    with worker(namespace, site, output):
        await site.answered(command)
        assert (await site.row(workflow))["state"] == state
        assert site.units(workflow) == units
        assert await site.open_commands() == []


@pytest.mark.parametrize(("looks", "sku"), [(2, "tea"), (3, "later1-tea"), (5, "later1-tea")])
async def test_kill_between_looks_goes_on_where_the_floor_is(
    site: Site, namespace: Mapping[str, str], tmp_path: Path, looks: int, sku: str
) -> None:
    """A process that dies while the floor picks, or while goods are waited for, is not missed."""
    workflow = new_workflow()
    order = pack(workflow, (sku, 2), ("slow-pot", 1), on_short="wait")
    output = tmp_path / "worker.out"
    with worker(namespace, site, output, f"floor.asked:{looks}") as doomed:
        await site.send(order)
        await _dies(site, doomed, output)
    assert (await site.row(workflow))["goal"] == "pick"
    with worker(namespace, site, output):
        await site.answered(order)
    units = site.units(workflow)
    assert (units["offer"], units["pick"], units["pack"]) == (1, 3, 1)
    assert "put_back" not in units


async def test_kill_of_the_command_before_it_is_acknowledged(
    site: Site, namespace: Mapping[str, str], tmp_path: Path
) -> None:
    """It comes again, is known, and is answered once."""
    workflow = new_workflow()
    order = pack(workflow, ("tea", 2))
    output = tmp_path / "worker.out"
    with worker(namespace, site, output, "command.committed") as doomed:
        await site.send(order)
        await _dies(site, doomed, output)
    with worker(namespace, site, output):
        await site.answered(order)
    assert site.units(workflow)["offer"] == 1
    assert (await site.row(workflow))["sequence"] == 1
