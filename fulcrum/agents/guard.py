"""What must stock Faust do differently so that no event is lost?

faust-streaming 0.15.3 releases the stream partitions *before* it seeks them to the committed offset
(``tables/recovery.py``: ``on_recovery_completed`` and ``_resume_streams``). A batch fetched in between
is half handed out, then dropped, then taken for read. The overrides here make "commit only after
state and output are safe, in order" true:

* **hold, then release**: stream partitions stay paused until the seek has happened;
* **seek always**: a partition without a committed offset is sought to its beginning, not left where it is;
* **contiguity**: the next offset handed out is the previous one plus one, or the next that the broker has;
  before each fetch aiokafka is made to stand exactly there, so what was dropped on the way is read again;
* **putting back**: records of a changelog that a fetch brings when no recovery takes them are read again;
* **the ledger**: an event counts when it is *finished*, in whatever order, and only what lies below
  the lowest unfinished one is committed; a failed commit advances nothing; a partition is committed
  before it is revoked;
* **short idle fetches**, so that a recovery's questions to the broker do not wait behind them;
* **fetch sessions**, so that a fetch tells of what changed and not of every partition (``fetching``);
* **a pace**, so that under load a fetch brings more than one record, and batches that leave together
  (``sending``);
* **an idempotent producer**, so that a retry inside the client cannot repeat or reorder a record.

``tests/contract/test_guard.py`` fails when upstream changes a function overridden or relied on here, and
``tests/stack/test_guard_on_kafka.py`` shows for each override what goes wrong without it.

Long, because the overrides lean on each other and are read together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from faust.transport.consumer import ensure_TPset
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer, Transport
from faust.types import TP, Message
from mode.utils.futures import notify

from fulcrum import crashpoint
from fulcrum.agents.fetching import FetchSessions
from fulcrum.agents.ledger import OffsetLedger
from fulcrum.agents.sending import leave_together
from fulcrum.telemetry import metrics

log = structlog.get_logger()

#: Seconds after which a wait for partitions looks around even if nothing was released.
_RELEASE_CHECK = 1.0
#: Seconds between looks at partitions that are active and not sought yet.
_UNSOUGHT_CHECK = 0.05


#: Milliseconds for which the broker may sit on a fetch that finds nothing. What else that connection asks
#: waits behind it, such as for the offsets that a recovery needs; with upstream's 1500 each took that long.
_FETCH_WAIT = 200


class PromptThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, with short idle fetches in sessions."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_WAIT
        consumer._client.send = FetchSessions(consumer._client.send)
        return consumer


class GuardedConsumer(Consumer):
    """Faust's consumer, holding partitions until the seek and committing by the ledger.

    ``pace`` is how many seconds are between two fetches at least.
    """

    pace = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ledger: OffsetLedger[TP] = OffsetLedger()
        self._held: set[TP] = set()
        self._sought = False
        #: The next offset to hand out, for each stream partition that was sought.
        self._expected: dict[TP, int] = {}
        self._released = asyncio.Event()
        self._next_fetch = 0.0
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return PromptThread(self, loop=self.loop, beacon=self.beacon)

    # --- hold, then release -----------------------------------------------------------------------

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Pause, and demand a seek before these partitions are read again."""
        paused = ensure_TPset(tps)
        super().pause_partitions(paused)
        if any(not self._is_changelog_tp(tp) for tp in paused):
            self._held -= paused
            self._sought = False

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume changelogs at once; hold stream partitions until ``resume_flow`` after a seek."""
        resumed = ensure_TPset(tps)
        streams = {tp for tp in resumed if not self._is_changelog_tp(tp)}
        super().resume_partitions(resumed - streams)
        self._held |= streams
        if resumed - streams:
            self._released.set()

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, and start the books again from there.

        Upstream leaves a partition without a committed offset where it is. Events that were handed out and
        dropped again by a rebalance before the first commit would then never come back, so such a partition
        is read from its beginning.
        """
        crashpoint.reached("table.recovered")
        await super().perform_seek()
        for tp in self.assignment():
            if not self._is_changelog_tp(tp):
                self.ledger.reset(tp, self._read_offset[tp])
                self._expected[tp] = self._read_offset[tp] or 0
        self._sought = True

    def resume_flow(self) -> None:
        """Let events through; what was held is released only if it was sought first."""
        if self._held and self._sought:
            super().resume_partitions(self._held)
            self._held = set()
        super().resume_flow()
        self._released.set()

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP] | None]:
        """Upstream naps for a second while nothing is active; wait for the release instead.

        What a fetch brings while the flow is stopped is dropped. Upstream then seeks back at once; in the
        midst of a rebalance that would empty the ledger before its last commit, so it is left to recovery.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # mode takes any event
        if not self._get_active_partitions():
            self._released.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), _RELEASE_CHECK)
            if not self._get_active_partitions():
                return None, None
        records, active = await super()._wait_next_records(timeout)
        return (records, active) if self.flow_active else (None, None)

    # --- contiguity -------------------------------------------------------------------------------

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Fetch from exactly the offsets that come next, and only for partitions that were sought.

        Upstream hands over the live set of active partitions, and recovery empties it in place while the
        fetch waits. To aiokafka an empty set means every partition: it gives out events of held ones, which
        Faust then drops. So the fetch gets a set of its own.
        """
        active = set(active_partitions or ())
        for tp in active:
            if tp in self._expected and self._position(tp) not in (None, self._expected[tp]):
                await self._read_again(tp)
        streams = active & self._expected.keys()
        asked = streams | {tp for tp in active if self._is_changelog_tp(tp)}
        if not asked:
            await asyncio.sleep(_UNSOUGHT_CHECK)
            return {}
        await self._pace()
        start = {tp: self._position(tp) for tp in streams}
        records = await super()._getmany(asked, timeout)
        for tp in (asked - streams) & records.keys():
            if not self.flow_active or tp not in self._get_active_partitions():
                await self._put_back(tp, records[tp])
        for tp in streams:
            first = records[tp][0].offset if tp in records else self._position(tp)
            # After a seek during the fetch, what it brought says nothing of what is missing.
            if start[tp] is not None and start[tp] == self._expected.get(tp) and first is not None:
                self._skip_hole(tp, first)
        return records

    async def _pace(self) -> None:
        """Wait until ``pace`` has passed since the fetch before.

        A fetch costs much more than a record in it, on both sides; without this, a steady load is taken one
        record at a time.
        """
        loop = asyncio.get_running_loop()
        if (wait := self._next_fetch - loop.time()) > 0:
            await asyncio.sleep(wait)
        self._next_fetch = loop.time() + self.pace

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Hand out each partition's events without a hole; what is dropped on the way is read again.

        A fetch that a seek has crossed may bring what was read before the seek: its offsets do not fit.
        """
        async for tp, message in super().getmany(timeout):
            if not self._is_changelog_tp(tp):
                offset = message.offset
                if offset != self._expected.get(tp):
                    continue
                self._expected[tp] = offset + 1
                self.ledger.delivered(tp, offset)
            yield tp, message

    async def _put_back(self, tp: TP, records: Sequence[Any]) -> None:
        """Have records of a changelog read again that nobody takes now.

        They came with a fetch that has outlived its recovery. The next one has sought the changelog already,
        and would wait for them for ever.
        """
        position = self._position(tp)
        if position is not None and position > records[-1].offset:  # nobody has sought it since
            await self.seek_wait({tp: records[0].offset})

    def _position(self, tp: TP) -> int | None:
        """From where aiokafka reads on; None while it is finding out or the partition is not ours."""
        subscription = self._thread._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None or tp not in assignment.tps:
            return None
        state = assignment.state_value(tp)
        return state.position if state.has_valid_position else None

    def _skip_hole(self, tp: TP, first: int) -> None:
        """Take over a hole that the broker itself has: compaction, transaction markers, deleted segments.

        It was asked for the expected offset, and ``first`` is the next that it has.
        """
        if first > self._expected[tp]:
            log.info(
                "stream.hole", topic=tp.topic, partition=tp.partition, start=self._expected[tp], end=first
            )
            self._expected[tp] = first

    async def _read_again(self, tp: TP) -> None:
        """Seek back to the next expected offset, or to the beginning of a log that ends before it."""
        earliest = (await self.earliest_offsets(tp))[tp]
        end = (await self.highwaters(tp))[tp]
        expected = self._expected.get(tp)
        if expected is None:
            return  # revoked meanwhile
        if expected < earliest:  # the broker would refuse it, and aiokafka would come back to where it stands
            self._skip_hole(tp, earliest)
            if self._position(tp) != earliest:
                await self.seek_wait({tp: earliest})
            return
        metrics.stream_gaps.labels(topic=tp.topic).inc()
        log.warning(
            "stream.gap",
            topic=tp.topic,
            partition=tp.partition,
            expected=expected,
            position=self._position(tp),
            earliest=earliest,
            end=end,
        )
        if expected > end:
            log.error("stream.truncated", topic=tp.topic, partition=tp.partition, expected=expected, end=end)
            self.ledger.reset(tp, earliest)
            expected = self._expected[tp] = earliest
        await self.seek_wait({tp: expected})

    # --- the ledger -------------------------------------------------------------------------------

    def ack(self, message: Message) -> bool:
        """The event is finished: its records are acknowledged by the broker."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if self.app.topics.acks_enabled_for(message.topic):
            self.ledger.finished(message.tp, message.offset)
            self._n_acked += 1
        notify(self._waiting_for_ack)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return (tp for tp in self.ledger if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self.ledger.committable(tp)

    def _should_commit(self, tp: TP, offset: int) -> bool:
        return True

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        committed: bool = await super()._commit_offsets(offsets, start_new_transaction)
        if committed:
            for tp, offset in offsets.items():
                self.ledger.committed(tp, offset)
        return committed

    def finished_through(self, ends: Mapping[TP, int]) -> bool:
        """Whether everything below ``ends`` has been handed out and is finished."""
        return all(
            self._expected.get(tp, -1) >= end and self.ledger.finished_below(tp, end)
            for tp, end in ends.items()
        )

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is finished while the partitions are still ours."""
        self.stop_flow()
        if revoked:
            crashpoint.reached("partitions.revoked")
        await self.commit()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self.ledger.forget(tp)
            self._expected.pop(tp, None)


class GuardedProducer(Producer):
    """Faust's producer with idempotence, which upstream switches on for transactions only."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        leave_together(producer._message_accumulator)
        return producer


class GuardedTransport(Transport):
    """Faust's Kafka transport with the guarded consumer and producer."""

    Consumer = GuardedConsumer
    Producer = GuardedProducer
