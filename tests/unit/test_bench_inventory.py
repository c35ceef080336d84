"""How the inventory's benchmark feeds a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bench.inventory import Feed
from fulcrum.cli.bench_inventory import _numbers
from fulcrum.commands.delivery import Delivery
from fulcrum.errors import Rejected
from fulcrum.wire.codec import offline_codec
from fulcrum.wire.topics import Topics


class Worker:
    """Takes one batch at a time and remembers it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self._turn = asyncio.Lock()

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """Let the others come meanwhile."""
        async with self._turn:
            await asyncio.sleep(0)
            self.batches.append([each.message_id for each in batch])


def feeding(batch_size: int) -> tuple[Feed, Worker]:
    """A feed, and the worker that it feeds."""
    feed = Feed(None, offline_codec(), Topics("bench"), batch_size)  # type: ignore[arg-type]
    worker = Worker()
    feed._worker = worker  # type: ignore[assignment]
    return feed, worker


async def test_everything_that_waits_goes_in_full_batches() -> None:
    """Each command once, and only the last batch is smaller."""
    feed, worker = feeding(8)
    given = feed.reservations(["sku"], 20)
    _, mean = await feed.all_at_once(given)
    assert sorted(len(batch) for batch in worker.batches) == [4, 8, 8]
    assert {each for batch in worker.batches for each in batch} == {each.message_id for each in given}
    assert mean == pytest.approx(20 / 3)


@pytest.mark.parametrize("most", [1, 8, 64])
async def test_batch_is_what_came_meanwhile(most: int) -> None:
    """Never more than are in flight, never more than a batch holds, and each command once."""
    feed, worker = feeding(16)
    given = feed.reservations(["sku"], 100)
    _, mean = await feed.in_flight(given, most)
    assert max(len(batch) for batch in worker.batches) <= min(most, 16)
    assert sorted(each for batch in worker.batches for each in batch) == sorted(d.message_id for d in given)
    assert mean > min(most, 16) / 3


@pytest.mark.parametrize(("text", "numbers"), [("1, 10,1000", (1, 10, 1000)), ("", ())])
def test_numbers_are_read_from_a_list(text: str, numbers: tuple[int, ...]) -> None:
    """An empty list leaves that way of feeding out."""
    assert _numbers("--skus", text) == numbers


@pytest.mark.parametrize("text", ["0", "-1", "ten", "1000000"])
def test_numbers_out_of_range_are_refused(text: str) -> None:
    """The message names the option and what it takes."""
    with pytest.raises(Rejected, match="--skus"):
        _numbers("--skus", text)
