"""When do the batches of several partitions leave?"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.structs import TopicPartition

from fulcrum.agents.sending import leave_together

_LINGER = 3600_000
HERE, THERE, MUTED = (TopicPartition("decisions", number) for number in range(3))


class Cluster:
    """One broker leads everything."""

    def leader_for_partition(self, tp: TopicPartition) -> int:
        return 1


async def accumulator(*partitions: TopicPartition) -> Any:
    """One with a record for each of ``partitions``, which may linger for an hour."""
    made = MessageAccumulator(Cluster(), 1000, 0, 30, linger_ms=_LINGER, loop=asyncio.get_running_loop())
    leave_together(made)
    for tp in partitions:
        await made.add_message(tp, b"key", b"value", 1.0)
    return made


def drained(made: Any, **given: Any) -> set[TopicPartition]:
    """The partitions whose batches leave."""
    nodes, unknown = made.drain_by_nodes(**{"ignore_nodes": set(), **given})
    assert not unknown
    return {tp for batches in nodes.values() for tp in batches}


async def test_nothing_leaves_while_all_may_linger() -> None:
    """Company may still come."""
    assert drained(await accumulator(HERE, THERE)) == set()


async def test_all_leave_with_the_first_whose_time_is_over() -> None:
    """One request takes them."""
    made = await accumulator(HERE, THERE)
    made._batches[HERE][0]._ctime = time.monotonic() - _LINGER

    assert drained(made) == {HERE, THERE}


async def test_a_partition_with_a_request_under_way_hastens_nobody() -> None:
    """It cannot leave itself, so the others need not."""
    made = await accumulator(HERE, MUTED)
    made._batches[MUTED][0]._ctime = time.monotonic() - _LINGER

    assert drained(made, muted_partitions={MUTED}) == set()
    assert drained(made) == {HERE, MUTED}
