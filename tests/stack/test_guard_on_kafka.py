"""Is each override of the guard needed? On a real broker, with the guard and with that override taken out.

Each test runs one scenario more than once: on the guarded consumer, which must come through, and on consumers
in which a single override is put back to what upstream does (``stripped.py``), or on upstream's own, which
must show the fault. When a stripped one comes through, upstream has been mended or the override was needless:
take it out of ``fulcrum/agents/guard.py``.

Long, because every override has its scenario here, and they share the broker and the workers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.produce import ProduceRequest
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers.aiokafka import Consumer, Producer
from faust.types import TP
from groupsite import Site
from guarded import Worker, worker
from stripped import (
    AdvancesOnFailure,
    WithFetchersSeek,
    WithNaps,
    WithoutAlignment,
    WithoutBeginning,
    WithoutCommitBeforeRevoke,
    WithoutContiguity,
    WithoutHold,
    WithoutHoles,
    WithoutLogStart,
    WithoutOwnSet,
    WithoutPuttingBack,
    WithUpstreamsBooks,
    WithUpstreamsFetch,
    judge,
)

from fulcrum.agents.assignor import ReturningAssignor
from fulcrum.agents.guard import GuardedConsumer, GuardedProducer
from fulcrum.localstack import Stack


@pytest.fixture
def site(stack: Stack) -> Site:
    """A topic and a group that belong to one test."""
    made = Site(stack.env()["FULCRUM_KAFKA_BOOTSTRAP"])
    made.create()
    return made


# --- hold, then release ---------------------------------------------------------------------------


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithoutHold, Consumer])
async def test_events_read_before_the_release_are_not_dropped(site: Site, consumer: type) -> None:
    """Upstream releases partitions, seeks them, then empties the agents' queues, and what came between."""
    async with worker(site, consumer) as reader:
        reader.gates.sought.close()
        reader.gates.agent.close()
        reader.ask_to_rejoin()
        await reader.gates.sought.reached()
        vain = reader.consumer.looks_in_vain
        await reader.append(0, 5)
        await reader.until(
            lambda: reader.consumer._read_offset[site.tp(0)] == 4 or reader.consumer.looks_in_vain > vain
        )
        reader.gates.sought.open()
        await reader.until_settled(2)
        reader.gates.agent.open()
        await reader.append(0, 1)
        await reader.until_read(0, 6)

        judge(consumer, reader.offsets(0) != [0, 1, 2, 3, 4, 5], reader.handed)


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithNaps])
async def test_the_fetcher_wakes_with_the_release(site: Site, consumer: type) -> None:
    """Upstream's naps, of a second each, come on top of every rebalance."""
    async with worker(site, consumer) as reader:
        reader.gates.seek.close()
        reader.ask_to_rejoin()
        await reader.gates.seek.reached()
        vain = reader.consumer.looks_in_vain
        await reader.until(lambda: reader.consumer.looks_in_vain > vain)
        reader.gates.seek.open()
        await reader.until_settled(2)
        await reader.append(0, 1)
        await reader.until_handed(0, 0)

        judge(consumer, 1 in reader.consumer.naps, reader.consumer.naps)


# --- contiguity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "consumer", [GuardedConsumer, WithoutBeginning, WithoutAlignment, WithUpstreamsFetch]
)
async def test_a_fetch_that_outlives_a_rebalance_loses_nothing(site: Site, consumer: type) -> None:
    """It reads partitions that are held again by then, and Faust drops what it brings. None is committed."""
    async with worker(site, consumer) as reader:
        reader.gates.fetch.close()
        await reader.gates.fetch.reached()
        reader.gates.seek.close()
        await reader.append(0, 5)
        reader.ask_to_rejoin()
        await reader.gates.seek.reached()
        await reader.until_buffered(0)
        fetches = reader.consumer.fetches
        reader.gates.fetch.open()
        await reader.until(lambda: reader.position(0) == 5 and reader.consumer.fetches > fetches)
        reader.gates.seek.open()
        await reader.until_settled(2)
        await reader.append(0, 1)
        await reader.until_read(0, 6)

        judge(consumer, reader.offsets(0) != [0, 1, 2, 3, 4, 5], reader.handed)


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithoutAlignment, Consumer])
async def test_a_log_that_ends_before_the_committed_offset_is_read(site: Site, consumer: type) -> None:
    """A topic that was lost and made anew, while its group's offsets were not."""
    await asyncio.to_thread(site.append, 0, 3)
    await asyncio.to_thread(site.commit, 0, 9)
    async with worker(site, consumer) as reader:
        await reader.until_read(0, 3)

        judge(consumer, reader.offsets(0) != [0, 1, 2], reader.handed)


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithoutHoles, WithoutLogStart])
async def test_events_after_deleted_ones_are_read(site: Site, consumer: type) -> None:
    """Retention has taken the beginning away: it is neither waited for nor asked for.

    aiokafka answers a request for it by going back to where it stood. Between fetches that other partitions
    fill, that could go on for as long as they do.
    """
    await asyncio.to_thread(site.append, 0, 5)
    await asyncio.to_thread(site.delete_before, 0, 3)
    async with worker(site, consumer) as reader:
        if consumer is WithoutHoles:
            await reader.until_fetches(4)
        else:
            await reader.until_handed(0, 3, 4)

        judge(consumer, reader.offsets(0) != [3, 4] or reader.gaps() > 0, f"{reader.gaps()}, {reader.handed}")


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithoutContiguity, Consumer])
async def test_an_answer_that_outlives_a_rebalance_leaves_no_hole(site: Site, consumer: type) -> None:
    """It continues what the rebalance has dropped, so that has to be handed out first."""
    async with worker(site, consumer) as reader:
        reader.gates.agent.close()
        await reader.append(0, 3)
        await reader.until(lambda: reader.consumer._read_offset[site.tp(0)] == 2)
        reader.gates.answer.close()
        await reader.append(0, 2)
        # One of the two may come alone, and stand at the gate.
        await reader.until(lambda: reader.position(0) > 3)
        reader.ask_to_rejoin()
        await reader.until(lambda: not reader.app.flow_control.is_active())  # the agent's queue is empty
        reader.finish(0, 0)
        await reader.until_settled(2)
        reader.gates.agent.open()
        reader.gates.answer.open()
        await reader.until_read(0, 5)

        judge(consumer, reader.offsets(0) != [0, 1, 2, 3, 4], reader.handed)


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithoutOwnSet])
async def test_a_fetch_of_changelogs_brings_no_events(site: Site, consumer: type) -> None:
    """Recovery ends while it waits, and empties the set of what to read; to aiokafka that means everything.

    The alignment makes good what comes of it, so that it only costs time.
    """
    async with worker(site, consumer) as reader:
        await held_in_a_fetch_of_changelogs(reader)
        reader.gates.fetch.open()
        await reader.until_fetches(1)
        reader.gates.seek.open()
        await reader.until_settled(2)
        await reader.until_read(1, 5)

        assert reader.offsets(1) == [0, 1, 2, 3, 4]
        judge(consumer, reader.gaps() > 0, f"{reader.gaps()} gaps")


async def held_in_a_fetch_of_changelogs(reader: Worker) -> None:
    """Recover a table, and hold the fetch that waits for changelogs until recovery has come to its seek."""
    await begin_recovery(reader)
    await reader.append(1, 5)
    await reader.until_buffered(1)
    reader.gates.seek.close()
    reader.gates.changelog.open()
    await reader.gates.seek.reached()


async def begin_recovery(reader: Worker) -> None:
    """Hold a recovery at the first record of a changelog, and the fetch that waits for more of them."""
    reader.writing = reader.finishing = True
    await reader.append(0, 2)
    await reader.until_handed(0, 0, 1)
    reader.gates.fetch.close()
    await reader.gates.fetch.reached()
    reader.gates.changelog.close()
    reader.ask_to_rejoin()
    await reader.until(lambda: reader.app.rebalancing and reader.consumer.flow_active)
    reader.gates.fetch.open()
    await reader.gates.changelog.reached()
    reader.gates.fetch.close()
    await reader.gates.fetch.reached()


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithoutPuttingBack])
async def test_a_fetch_that_outlives_a_recovery_does_not_stall_the_next(site: Site, consumer: type) -> None:
    """It brings a changelog's records when nobody takes them; the next would wait for them for ever."""
    changelog = TP(site.changelog, 0)
    async with worker(site, consumer) as reader:
        await begin_recovery(reader)
        reader.gates.restoring.close()
        reader.ask_to_rejoin()
        await reader.gates.restoring.reached()
        await reader.until(lambda: changelog in reader.aiokafka._fetcher._records)
        rounds = reader.consumer.rounds
        reader.gates.fetch.open()
        await reader.until(lambda: reader.consumer.rounds > rounds)
        reader.gates.changelog.open()
        reader.gates.restoring.open()
        if consumer is GuardedConsumer:
            await reader.until_settled(3)
        else:
            await reader.until_fetches(5)

        judge(consumer, reader.app.rebalancing, reader.describe())


# --- the ledger -----------------------------------------------------------------------------------


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithUpstreamsBooks])
async def test_nothing_above_an_unfinished_event_is_committed(site: Site, consumer: type) -> None:
    """Events are finished in any order, some twice; what is committed follows the lowest unfinished one."""
    committed = []
    async with worker(site, consumer) as reader:
        await reader.append(0, 6)
        await reader.until_handed(0, 0, 1, 2, 3, 4, 5)
        for offset in (1, 4, 4, 0, 0, 3, 2):
            reader.finish(0, offset)
            await reader.consumer.commit()
            committed.append(await reader.committed(0))

        judge(consumer, committed != [None, None, None, 2, 2, 2, 5], committed)


@pytest.mark.parametrize("consumer", [GuardedConsumer, AdvancesOnFailure, WithUpstreamsBooks])
async def test_a_failed_commit_is_made_again(site: Site, consumer: type) -> None:
    """The next commit brings what the failed one did not, also when nothing was finished in between."""
    async with worker(site, consumer) as reader:
        await reader.append(0, 3)
        await reader.until_handed(0, 0, 1, 2)
        reader.finish(0, 0, 1, 2)
        reader.consumer.failing_commits = 1
        await reader.consumer.commit()
        assert reader.consumer.failing_commits == 0
        await reader.consumer.commit()

        judge(consumer, await reader.committed(0) != 3, await reader.committed(0))


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithoutCommitBeforeRevoke])
async def test_what_is_finished_is_committed_before_it_is_revoked(site: Site, consumer: type) -> None:
    """Also what was finished while another commit was under way; it is not handed out again."""
    async with worker(site, consumer) as reader:
        await reader.append(0, 4)
        await reader.until_handed(0, 0, 1, 2, 3)
        reader.finish(0, 0, 1)
        reader.gates.commit.close()
        committing = asyncio.create_task(reader.consumer.commit())
        await reader.gates.commit.reached()
        reader.finish(0, 2, 3)
        commits = reader.consumer.commits
        reader.ask_to_rejoin()
        await reader.until(lambda: reader.consumer.commits > commits)
        reader.gates.commit.open()
        await committing
        await reader.until_settled(2)
        await reader.until_read(0, 4)

        judge(consumer, reader.offsets(0) != [0, 1, 2, 3], reader.handed)


@pytest.mark.parametrize("consumer", [GuardedConsumer, WithFetchersSeek])
async def test_a_fetch_that_ends_in_a_rebalance_leaves_the_books_alone(site: Site, consumer: type) -> None:
    """Events that are finished while the rebalance waits for them are committed, and not handed out again."""
    async with worker(site, consumer) as reader:
        await reader.append(0, 4)
        await reader.until_handed(0, 0, 1, 2, 3)
        reader.finish(0, 0, 1, 2)
        reader.gates.answer.close()
        await reader.gates.answer.reached()
        reader.ask_to_rejoin()
        await reader.until_committed(0, 3)
        rounds = reader.consumer.rounds
        reader.gates.answer.open()
        await reader.until(lambda: reader.consumer.rounds > rounds)
        reader.finish(0, 3)
        await reader.until_settled(2)
        await reader.until_read(0, 4)

        judge(consumer, reader.offsets(0) != [0, 1, 2, 3], reader.handed)


# --- the producer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("producer", [GuardedProducer, Producer])
async def test_a_record_whose_answer_is_lost_is_stored_once(site: Site, producer: Any) -> None:
    """The client sends it again by itself; the broker must know it."""
    async with worker(site, producer=producer) as reader:
        client = reader.app.producer._producer.client
        send, lost = client.send, 0

        async def lose_the_first_answer(node: Any, request: Any, **kwargs: Any) -> Any:
            nonlocal lost
            answer = await send(node, request, **kwargs)
            if isinstance(request, ProduceRequest) and not lost:
                lost += 1
                raise RequestTimedOutError
            return answer

        client.send = lose_the_first_answer
        await reader.app.producer.send_and_wait(site.topic, b"k", b"v", 0, None, None)
        assert lost == 1
        end = await asyncio.to_thread(site.end, 0)

        judge(producer, end != 1, f"{end} records")


# --- the assignor ---------------------------------------------------------------------------------


@pytest.mark.parametrize("assignor", [ReturningAssignor, PartitionAssignor])
async def test_a_worker_that_returns_at_another_address_goes_on(site: Site, assignor: Any) -> None:
    """Kafka gives it the assignment of its predecessor as it was; upstream refuses it and waits for ever."""
    async with worker(site, assignor=assignor, port=1):
        pass
    await asyncio.to_thread(site.append, 0, 1)
    async with worker(site, assignor=assignor, port=2, settled=False) as reader:
        await reader.until(lambda: reader.offsets(0) == [0] or reader.left_for_good())

        judge(assignor, reader.offsets(0) != [0], reader.describe())


@pytest.mark.parametrize("assignor", [ReturningAssignor, PartitionAssignor])
async def test_a_worker_that_returns_with_another_topic_reads_it(site: Site, assignor: Any) -> None:
    """As after an upgrade; upstream keeps what its predecessor had until something else has it dealt anew."""
    more = f"{site.namespace}.more"
    await asyncio.to_thread(site.create, more)
    async with worker(site, assignor=assignor):
        pass
    await asyncio.to_thread(site.append, 0, 1, more)
    await asyncio.to_thread(site.append, 0, 1)
    async with worker(site, assignor=assignor, more_topics=(more,)) as reader:
        await reader.until_handed(0, 0)
        await reader.until(lambda: not reader.rejoining())
        assigned = {tp.topic for tp in reader.consumer.assignment()}
        if assignor is ReturningAssignor:
            await reader.until(lambda: reader.others == [more])

        judge(assignor, more not in assigned, assigned)
