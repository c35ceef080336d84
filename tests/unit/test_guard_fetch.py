"""Is each event of a partition handed out in order and once, whatever crosses a fetch?"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import faust
import pytest
import pytest_asyncio
from faust.types import TP, ConsumerMessage

from fulcrum.agents import guard
from fulcrum.agents.guard import GuardedConsumer, GuardedTransport

CHANGELOG = TP("t-changelog", 0)
TPS = [TP("t-events", 0), TP("t-events", 1)]


class Broker:
    """Stands for Faust's consumer thread with aiokafka inside: logs, positions, committed offsets.

    Every answer takes some turns of the loop, before and after it is worked out, so that anything can happen
    between a question, its execution and its answer.
    """

    def __init__(self, seed: int, logs: Mapping[TP, Iterable[int]]) -> None:
        self.random = random.Random(seed)
        self.logs = {tp: sorted(offsets) for tp, offsets in logs.items()}
        self.ends = {tp: offsets[-1] + 1 if offsets else 0 for tp, offsets in self.logs.items()}
        self.positions: dict[TP, int] = {}
        self.committed: dict[TP, int] = {}
        self.asked: list[set[TP]] = []
        assignment = SimpleNamespace(tps=set(logs), state_value=self._state)
        self._aiokafka = SimpleNamespace(
            _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
        )

    def _ensure_consumer(self) -> Any:
        return self._aiokafka

    def _state(self, tp: TP) -> Any:
        return SimpleNamespace(position=self.positions.get(tp), has_valid_position=tp in self.positions)

    async def _turns(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def getmany(self, partitions: set[TP], timeout: float) -> dict[TP, list[Any]]:
        await self._turns()
        self.asked.append(set(partitions))
        found = {}
        for tp in partitions or self.logs:
            start, size = self.positions.get(tp, 0), self.random.randrange(4)
            batch = [offset for offset in self.logs[tp] if offset >= start][:size]
            if batch:
                later = [offset for offset in self.logs[tp] if offset > batch[-1]]
                # A client may or may not know yet of the hole behind the batch.
                self.positions[tp] = later[0] if later and self.random.random() < 0.5 else batch[-1] + 1
                found[tp] = [SimpleNamespace(offset=offset) for offset in batch]
        await self._turns()
        if self.random.random() < 0.3:  # the answer is late: a whole recovery may pass
            for _ in range(40):
                await asyncio.sleep(0)
        return found

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        await self._turns()
        self.positions.update(partitions)
        await self._turns()

    async def seek_to_committed(self) -> dict[TP, int | None]:
        await self._turns()
        self.positions.update(self.committed)
        await self._turns()
        return {tp: self.committed.get(tp) for tp in self.logs}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        await self._turns()
        return {tp: self.logs[tp][0] if self.logs[tp] else self.ends[tp] for tp in partitions}

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        await self._turns()
        return {tp: self.ends[tp] for tp in partitions}

    def assignment(self) -> set[TP]:
        return set(self.logs)

    def highwater(self, tp: TP) -> int:
        return self.ends[tp]


class Reader(GuardedConsumer):
    """The consumer under test, with records that need no parsing."""

    broker: Broker

    def _to_message(self, tp: TP, record: Any) -> Any:
        return ConsumerMessage(
            tp.topic, tp.partition, record.offset, 0.0, 0, (), None, b"", None, 0, 0, tp=tp, generation_id=0
        )

    def _is_changelog_tp(self, tp: TP) -> bool:
        return tp == CHANGELOG


@pytest_asyncio.fixture
async def readers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(guard, "_RELEASE_CHECK", 0.001)
    monkeypatch.setattr(guard, "_UNSOUGHT_CHECK", 0.0)
    app = faust.App("guard-fetch", broker="kafka://127.0.0.1:1", store="memory://")
    app.consumer_generation_id = 0
    transport = GuardedTransport([], app, loop=asyncio.get_running_loop())

    def make(broker: Broker) -> Reader:
        async def nothing(*_: Any) -> None: ...

        reader = Reader(
            transport,
            callback=nothing,
            on_partitions_revoked=nothing,
            on_partitions_assigned=nothing,
        )
        reader._thread = broker
        reader.broker = broker
        return reader

    yield make


async def read(reader: Reader, seen: dict[TP, list[int]], turns: int) -> None:
    """Do as Faust's fetcher does, ``turns`` times."""
    for _ in range(turns):
        async for tp, message in reader.getmany(timeout=0.01):
            seen[tp].append(message.offset)
        await asyncio.sleep(0)


async def recover(reader: Reader) -> None:
    """Do to the consumer what a rebalance and the recovery of tables do, in that order."""
    reader.stop_flow()
    reader.pause_partitions(set(TPS))
    await asyncio.sleep(0)
    reader.resume_flow()
    reader.resume_partitions(set(TPS))
    await reader.perform_seek()
    reader.resume_flow()


def committed_of(seen: Iterable[int], rng: random.Random) -> int:
    """An offset that a ledger could have committed after ``seen``."""
    return rng.choice([0, *(offset + 1 for offset in seen)])


@pytest.mark.parametrize("seed", range(150))
async def test_nothing_is_left_out_whatever_crosses_a_fetch(readers: Any, seed: int) -> None:
    """Between two recoveries each partition is handed out without a hole, and in the end to its end."""
    rng = random.Random(seed)
    broker = Broker(seed, {tp: [n for n in range(40) if rng.random() < 0.9] for tp in TPS})
    reader = readers(broker)
    logs = broker.logs
    since: dict[TP, list[int]] = {}

    for last in (False, False, False, True):
        since = {tp: [] for tp in TPS}
        fetching = asyncio.create_task(read(reader, since, 60 if last else rng.randrange(1, 12)))
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        crossed = {tp: len(offsets) for tp, offsets in since.items()}
        await recover(reader)
        await fetching
        for tp, offsets in since.items():
            before, after = offsets[: crossed[tp]], offsets[crossed[tp] :]
            start = broker.committed.get(tp, 0)
            for run in (before, _from(after, start)):
                assert run == _follow(logs[tp], run), f"seed {seed}: {tp} had {offsets} of {logs[tp]}"
        if not last:
            broker.committed |= {tp: committed_of(since[tp], rng) for tp in TPS}

    for tp in TPS:
        start = broker.committed.get(tp, 0)
        want = [offset for offset in logs[tp] if offset >= start]
        assert _from(since[tp], start)[-len(want) :] == want, f"seed {seed}: {tp} had {since[tp]}"


def _from(offsets: list[int], start: int) -> list[int]:
    """What was handed out from the last return to ``start`` or later on."""
    turn = max((n for n in range(1, len(offsets)) if offsets[n] <= offsets[n - 1]), default=0)
    return offsets[turn:]


def _follow(log: list[int], run: list[int]) -> list[int]:
    """As many offsets of ``log`` as ``run`` has, from where it begins."""
    return [offset for offset in log if run and offset >= run[0]][: len(run)]


async def test_events_that_the_flow_dropped_are_read_again(readers: Any) -> None:
    """The last events of a topic are dropped by a stop of the flow: no later event is needed to see it."""
    broker = Broker(7, {TPS[0]: range(3)})
    reader = readers(broker)
    await recover(reader)
    seen: dict[TP, list[int]] = {TPS[0]: []}
    broker.positions[TPS[0]] = 3

    await read(reader, seen, 20)

    assert seen[TPS[0]] == [0, 1, 2]


async def test_a_log_that_ends_before_the_next_offset_is_read_from_its_beginning(readers: Any) -> None:
    """A topic that was lost and made anew has other events at these offsets."""
    broker = Broker(7, {TPS[0]: range(5)})
    reader = readers(broker)
    broker.committed[TPS[0]] = 9
    await recover(reader)
    broker.positions[TPS[0]] = 0
    seen: dict[TP, list[int]] = {TPS[0]: []}

    await read(reader, seen, 20)

    assert seen[TPS[0]] == [0, 1, 2, 3, 4]


async def test_a_fetch_keeps_its_partitions_when_recovery_empties_the_active_ones(readers: Any) -> None:
    """An empty set would mean every partition to aiokafka, held ones included."""
    broker = Broker(1, {CHANGELOG: range(3), TPS[0]: range(3)})
    reader = readers(broker)
    active = {CHANGELOG}

    fetching = asyncio.create_task(reader._getmany(active, 0.01))
    await asyncio.sleep(0)
    active.clear()
    await fetching

    assert broker.asked == [{CHANGELOG}]


async def test_fetches_rest_for_the_pace(readers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first goes at once, and the next when the pace has passed since then."""
    reader = readers(Broker(1, {CHANGELOG: range(3)}))
    reader.pace = 5.0
    rested: list[float] = []

    async def rest(seconds: float) -> None:
        rested.append(seconds)

    monkeypatch.setattr(guard.asyncio, "sleep", rest)
    for _ in range(2):
        await reader._pace()

    assert [round(seconds, 1) for seconds in rested] == [5.0]
