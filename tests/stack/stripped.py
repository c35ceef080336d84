"""The guard without one of its overrides, each put back to what upstream does."""

from __future__ import annotations

from typing import Any

from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP

from fulcrum.agents.assignor import ReturningAssignor
from fulcrum.agents.guard import GuardedConsumer, GuardedProducer

# --- hold, then release ---------------------------------------------------------------------------


class WithoutHold(GuardedConsumer):
    """Partitions are released before they are sought."""

    pause_partitions = Consumer.pause_partitions
    resume_partitions = Consumer.resume_partitions
    resume_flow = Consumer.resume_flow


class WithNaps(GuardedConsumer):
    """While nothing is active, the fetcher sleeps for a second at a time."""

    _wait_next_records = Consumer._wait_next_records


# --- contiguity -----------------------------------------------------------------------------------


class WithoutBeginning(GuardedConsumer):
    """A partition without a committed offset is left where aiokafka stands."""

    async def perform_seek(self) -> None:
        await super().perform_seek()
        for tp in self.assignment():
            if self._read_offset[tp] is None:
                self._expected[tp] = self._position(tp) or 0


class WithoutAlignment(GuardedConsumer):
    """aiokafka reads on from where it stands."""

    async def _read_again(self, tp: TP) -> None: ...


class WithoutOwnSet(GuardedConsumer):
    """A fetch is given the set of active partitions that recovery changes in place."""

    fetches_live_set = True


class WithUpstreamsFetch(GuardedConsumer):
    """Neither of both: upstream's fetch as it is."""

    _getmany = Consumer._getmany


class WithoutPuttingBack(GuardedConsumer):
    """What a fetch brings of changelogs that nobody reads is dropped."""

    async def _put_back(self, tp: TP, records: Any) -> None: ...


class WithoutHoles(GuardedConsumer):
    """Offsets that the broker does not have are waited for."""

    def _skip_hole(self, tp: TP, first: int) -> None: ...


class WithoutLogStart(GuardedConsumer):
    """What the broker has deleted is asked for."""

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)


class WithoutContiguity(GuardedConsumer):
    """Whatever a fetch brings is handed out."""

    async def getmany(self, timeout: float) -> Any:
        async for tp, message in Consumer.getmany(self, timeout):
            if not self._is_changelog_tp(tp):
                self._expected[tp] = message.offset + 1
                self.ledger.delivered(tp, message.offset)
            yield tp, message


# --- the ledger -----------------------------------------------------------------------------------


class WithUpstreamsBooks(GuardedConsumer):
    """Upstream's list of acknowledged offsets instead of the ledger."""

    ack = Consumer.ack
    _filter_tps_with_pending_acks = Consumer._filter_tps_with_pending_acks
    _new_offset = Consumer._new_offset
    _should_commit = Consumer._should_commit
    _commit_offsets = Consumer._commit_offsets


class WithoutCommitBeforeRevoke(GuardedConsumer):
    """Nothing is committed before upstream deals with the revoked partitions."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await Consumer.on_partitions_revoked(self, revoked)
        for tp in revoked:
            self.ledger.forget(tp)
            self._expected.pop(tp, None)


class WithFetchersSeek(GuardedConsumer):
    """The fetcher seeks back by itself when it finds the flow stopped."""

    async def _wait_next_records(self, timeout: float) -> Any:
        records, active = await super()._wait_next_records(timeout)
        return records or {}, active


class AdvancesOnFailure(GuardedConsumer):
    """A failed commit counts as done."""

    async def _commit_offsets(self, offsets: Any, start_new_transaction: bool = True) -> bool:
        committed = await super()._commit_offsets(offsets, start_new_transaction)
        for tp, offset in offsets.items():
            self.ledger.committed(tp, offset)
        return committed


GUARDED = {GuardedConsumer, GuardedProducer, ReturningAssignor}


def judge(consumer: type, broken: object, shown: object) -> None:
    """The guard comes through; anything less does not."""
    if consumer in GUARDED:
        assert not broken, f"{shown}"
    else:
        assert broken, f"{consumer.__name__} does as well as the guard, so the override can go: {shown}"
