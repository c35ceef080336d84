"""When do records that wait for company leave for Kafka?"""

from __future__ import annotations

from typing import Any


def leave_together(accumulator: Any) -> None:
    """Let the batches of all partitions leave when the first of them has lingered long enough.

    aiokafka sends each when its own time is over, so many partitions with a little traffic cost a request
    each; the Java client takes along what else there is. ``accumulator`` is aiokafka's MessageAccumulator.
    """
    drain = accumulator.drain_by_nodes

    def drain_all(ignore_nodes: Any, muted_partitions: Any = frozenset()) -> Any:
        first = [queue[0] for tp, queue in accumulator._batches.items() if tp not in muted_partitions]
        if not all(batch.remaining_linger() for batch in first):
            for batch in first:
                batch._linger_time = 0
        return drain(ignore_nodes=ignore_nodes, muted_partitions=muted_partitions)

    accumulator.drain_by_nodes = drain_all
