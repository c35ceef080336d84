"""Every command takes effect, is tried again, or is parked; none is lost and none blocks another.

Long, because every fate of a delivery is tried through the same queue and the same handlers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import aio_pika
import pytest
import pytest_asyncio
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from commandbus import CODEC, broker, depth, publish, reserve, running, settings_of, take_all
from eventually import eventually_async
from link import linked

from fulcrum.commands import subscription
from fulcrum.commands.consumer import CommandConsumer
from fulcrum.commands.delivery import Delivery
from fulcrum.commands.topology import Topology
from fulcrum.errors import Rejected, Unavailable
from fulcrum.settings import Settings
from fulcrum.store.database import DatabaseDown, SerializationFailure


class Worker:
    """Counts effects by command. A batch that holds a command with a mishap fails as a whole."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.batches: list[list[Delivery]] = []
        #: What happens to batches that hold a line of this SKU, attempt by attempt; then nothing does.
        self.mishaps: dict[str, list[Exception]] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.at_once = self.most_at_once = 0

    async def handle(self, batch: Sequence[Delivery]) -> None:
        self.batches.append(list(batch))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.entered.set()
        try:
            await self.open.wait()
            for delivery in batch:
                mishaps = self.mishaps.get(sku(delivery))
                if mishaps:
                    raise mishaps.pop(0)
            self.effects.update(delivery.message_id for delivery in batch)
        finally:
            self.at_once -= 1

    def attempts(self, sku_: str) -> list[int]:
        """The attempts with which a command for this SKU came alone."""
        return [b[0].attempt for b in self.batches if len(b) == 1 and sku(b[0]) == sku_]


def sku(delivery: Delivery) -> str:
    return str(getattr(delivery.command, "lines")[0].sku)  # noqa: B009


@pytest.fixture
def settings(namespace: Mapping[str, str]) -> Settings:
    return settings_of(namespace)


@pytest_asyncio.fixture
async def channel(settings: Settings) -> AsyncIterator[AbstractChannel]:
    async with broker(settings) as found:
        yield found


@pytest.fixture
def worker() -> Worker:
    return Worker()


def consumer_of(
    settings: Settings, worker: Worker, batch_size: int = 8, concurrency: int = 1
) -> CommandConsumer:
    return CommandConsumer(settings, "inventory", CODEC.read, worker.handle, batch_size, concurrency)


@asynccontextmanager
async def consuming(
    settings: Settings, worker: Worker, batch_size: int = 8, concurrency: int = 1
) -> AsyncIterator[asyncio.Event]:
    async with running(consumer_of(settings, worker, batch_size, concurrency)) as stop:
        yield stop


async def until(predicate: Callable[[], object], within: float = 10, state: object = None) -> None:
    async def ask() -> bool:
        return bool(predicate())

    await eventually_async(ask, within=within, state=lambda: state)


async def parked(settings: Settings, channel: AbstractChannel, count: int) -> list[AbstractIncomingMessage]:
    """The parked messages, once there are ``count``."""
    queue = Topology(settings.namespace).parked_queue("inventory")

    async def enough() -> bool:
        return await depth(channel, queue) >= count

    await eventually_async(enough, within=10, state=lambda: depth(channel, queue))
    found = await take_all(channel, queue)
    assert len(found) == count
    return found


async def nothing_left(settings: Settings, channel: AbstractChannel) -> None:
    """Nothing waits on a queue, and nothing is unacknowledged once the consumer is gone."""
    names = Topology(settings.namespace)
    assert await depth(channel, names.queue("inventory")) == 0
    assert await depth(channel, names.parked_queue("inventory")) == 0


async def test_commands_take_effect_and_are_settled(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """Commands arrive decoded, in order, in batches no larger than asked for, and are not seen again."""
    commands = [reserve() for _ in range(50)]
    await publish(settings, *commands)
    async with consuming(settings, worker):
        await until(lambda: len(worker.effects) == 50)
    await nothing_left(settings, channel)
    seen = [delivery for batch in worker.batches for delivery in batch]
    assert [delivery.command for delivery in seen] == commands
    first = seen[0]
    assert (first.message_id, first.attempt) == (commands[0].command_id, 1)
    assert first.headers["fulcrum-correlation-id"] == "order-7"
    assert CODEC.decode(first.body) == commands[0]
    assert max(map(len, worker.batches)) == 8


async def test_lone_command_does_not_wait_for_company(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """A single command is handled as a batch of one."""
    async with consuming(settings, worker, batch_size=50):
        await publish(settings, reserve())
        await until(lambda: worker.effects)
    assert [len(batch) for batch in worker.batches] == [1]


async def test_concurrent_batches(settings: Settings, channel: AbstractChannel, worker: Worker) -> None:
    """As many batches are in progress at once as asked for, and no more."""
    worker.open.clear()
    await publish(settings, *[reserve() for _ in range(12)])
    async with consuming(settings, worker, batch_size=1, concurrency=4):
        await until(lambda: worker.at_once == 4)
        worker.open.set()
        await until(lambda: len(worker.effects) == 12)
    assert worker.most_at_once == 4


async def test_poison_is_found_by_halves(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """One command that breaks its batch is found and retried alone; the others take effect once each."""
    commands = [reserve("poison" if n == 11 else "tea") for n in range(16)]
    worker.mishaps["poison"] = [KeyError("poison")] * 99
    await publish(settings, *commands)
    async with consuming(settings, worker, batch_size=16):
        (message,) = await parked(settings, channel, 1)
        await until(lambda: len(worker.effects) == 15)
    assert message.message_id == commands[11].command_id
    assert "KeyError: 'poison'" in str(message.headers["fulcrum-traceback"])
    assert set(worker.effects.values()) == {1}
    assert worker.attempts("poison") == [1, 2, 3]
    await nothing_left(settings, channel)


async def test_transient_failure_is_retried_until_it_works(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """A command that meets an outage twice succeeds at its third attempt, under its own id."""
    worker.mishaps["flaky"] = [Unavailable("provider away"), Unavailable("still away")]
    command = reserve("flaky")
    await publish(settings, command)
    async with consuming(settings, worker):
        await until(lambda: worker.effects)
    assert worker.effects == {command.command_id: 1}
    assert worker.attempts("flaky") == [1, 2, 3]
    last = worker.batches[-1][0]
    assert last.headers["fulcrum-error"] == "still away"
    assert last.headers["fulcrum-correlation-id"] == "order-7"
    assert last.command == command
    await nothing_left(settings, channel)


async def test_exhausted_command_is_parked_with_its_story(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """After the allowed retries a command is parked whole: body, envelope, attempts, last error."""
    worker.mishaps["down"] = [Unavailable("provider away")] * 99
    command = reserve("down")
    await publish(settings, command)
    async with consuming(settings, worker):
        (message,) = await parked(settings, channel, 1)
    assert CODEC.decode(message.body) == command
    told = {name.removeprefix("fulcrum-"): value for name, value in message.headers.items()}
    assert (told["attempt"], told["reason"], told["error-class"]) == ("3", "exhausted", "Unavailable")
    assert told["error"] == "provider away"
    assert told["ce_subject"] == command.workflow_id
    assert message.delivery_mode == DeliveryMode.PERSISTENT
    assert "traceback" not in told


async def test_rejected_command_is_parked_at_once(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """What repeating cannot help is parked at its first attempt, and its batch takes effect without it."""
    worker.mishaps["wrong"] = [Rejected("no such thing")] * 99
    await publish(settings, reserve(), reserve("wrong"), reserve())
    async with consuming(settings, worker):
        (message,) = await parked(settings, channel, 1)
        await until(lambda: len(worker.effects) == 2)
    assert (message.headers["fulcrum-reason"], message.headers["fulcrum-attempt"]) == ("rejected", "1")


async def test_unreadable_message_is_parked_as_it_came(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """Bytes that are no command of this service are parked untouched; commands around them go on."""
    exchange = await channel.get_exchange(Topology(settings.namespace).commands, ensure=False)
    await publish(settings, reserve())
    for body in (b"", b"\x00\xff garbage", b"\x00\x00\x00\x00\x01"):
        message = Message(body, type="Weird", headers={"note": "kept"}, delivery_mode=2)
        await exchange.publish(message, "inventory")
    await publish(settings, reserve())
    async with consuming(settings, worker):
        found = await parked(settings, channel, 3)
        await until(lambda: len(worker.effects) == 2)
    assert {bytes(message.body) for message in found} >= {b"", b"\x00\xff garbage"}
    for message in found:
        assert (message.type, message.headers["note"]) == ("Weird", "kept")
        assert message.headers["fulcrum-error-class"] == "Corrupt"
    await nothing_left(settings, channel)


async def test_command_of_another_service_is_parked(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """A well-formed command on the wrong queue is not handled and says where it belongs."""
    await publish(settings, reserve())
    names = Topology(settings.namespace)
    (message,) = await take_all(channel, names.queue("inventory"))
    exchange = await channel.get_exchange(names.commands, ensure=False)
    await exchange.publish(Message(message.body, message_id=message.message_id), "payment")
    async with running(CommandConsumer(settings, "payment", CODEC.read, worker.handle, 1)):

        async def one() -> bool:
            return await depth(channel, names.parked_queue("payment")) == 1

        await eventually_async(one, within=10)
    (found,) = await take_all(channel, names.parked_queue("payment"))
    assert "ReserveStock is no command of service payment" in str(found.headers["fulcrum-error"])
    assert not worker.batches


async def test_database_outage_charges_no_attempts(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """While Postgres is away a batch is tried again as it is, and every command is at its first attempt."""
    worker.mishaps["tea"] = [DatabaseDown("gone"), DatabaseDown("gone"), SerializationFailure("in the way")]
    await publish(settings, *[reserve() for _ in range(5)])
    async with consuming(settings, worker):
        await until(lambda: len(worker.effects) == 5)
    assert {delivery.attempt for batch in worker.batches for delivery in batch} == {1}
    assert set(worker.effects.values()) == {1}
    await nothing_left(settings, channel)


async def test_same_command_twice_is_not_in_one_batch(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """Two copies of a command are handled one after the other, so the second finds the first's effect."""
    command, other = reserve(), reserve()
    await publish(settings, command, other, command)
    async with consuming(settings, worker):
        await until(lambda: worker.effects.total() == 3)
    assert worker.effects == {command.command_id: 2, other.command_id: 1}
    assert all(len({d.message_id for d in batch}) == len(batch) for batch in worker.batches)


async def test_suspect_is_handled_alone(settings: Settings, channel: AbstractChannel, worker: Worker) -> None:
    """A command that came back several times may be what kills its consumers, so it is handled alone."""
    await publish(settings, *[reserve() for _ in range(6)])
    source = await channel.get_queue(Topology(settings.namespace).queue("inventory"), ensure=False)
    for _ in range(2):
        message = await source.get()
        suspect = message.message_id
        await message.reject(requeue=True)
        # Put back at the head, or at the end: take whichever it was the next time.
        while (again := await source.get()).message_id != suspect:
            await again.reject(requeue=True)
        await again.reject(requeue=True)
    async with consuming(settings, worker):
        await until(lambda: worker.effects.total() == 6)
    (batch,) = [batch for batch in worker.batches if suspect in {d.message_id for d in batch}]
    assert len(batch) == 1
    assert set(worker.effects.values()) == {1}


async def test_stop_finishes_what_is_in_progress_and_leaves_the_rest(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """A stop lets the batch in progress commit and be acknowledged; what was only fetched goes to the next
    consumer, and nothing is parked."""
    worker.open.clear()
    await publish(settings, *[reserve() for _ in range(10)])
    stop = asyncio.Event()
    consumed = asyncio.create_task(consumer_of(settings, worker, batch_size=4).run(stop))
    await worker.entered.wait()
    stop.set()
    left_early, _ = await asyncio.wait({consumed}, timeout=0.5)
    assert not left_early, "it did not wait for the batch in progress"
    worker.open.set()
    await asyncio.wait_for(consumed, 10)
    done = len(worker.effects)
    names = Topology(settings.namespace)
    assert 1 <= done <= 4

    async def rest_is_back() -> bool:
        return await depth(channel, names.queue("inventory")) == 10 - done

    await eventually_async(rest_is_back, within=5)
    assert await depth(channel, names.parked_queue("inventory")) == 0
    async with consuming(settings, worker):
        await until(lambda: len(worker.effects) == 10)
    assert set(worker.effects.values()) == {1}
    await nothing_left(settings, channel)


async def test_stop_in_an_outage_is_quick_and_loses_nothing(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """A consumer that waits for Postgres stops at once, and its commands go to the next one."""
    worker.mishaps["tea"] = [DatabaseDown("gone")] * 5
    await publish(settings, *[reserve() for _ in range(3)])
    async with consuming(settings, worker):
        await until(lambda: worker.batches)
    assert not worker.effects
    worker.mishaps.clear()
    async with consuming(settings, worker):
        await until(lambda: len(worker.effects) == 3)
    await nothing_left(settings, channel)


async def test_lost_connection_loses_no_command(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """RabbitMQ goes away in the middle of a batch and comes back: the consumer too, and every command takes
    effect; what could not be acknowledged comes again, and more comes in."""
    async with linked(settings.rabbitmq_url) as (link, through):
        consumer = consumer_of(settings.model_copy(update={"rabbitmq_url": through}), worker)
        worker.open.clear()
        await publish(settings, *[reserve() for _ in range(20)])
        async with running(consumer):
            await worker.entered.wait()
            assert consumer.ready
            await link.cut()
            await until(lambda: not consumer.ready)
            worker.open.set()
            await until(lambda: worker.effects)
            await link.mend()
            await publish(settings, reserve())
            await until(lambda: len(worker.effects) == 21, within=15, state=worker.effects)
            assert consumer.ready
    await nothing_left(settings, channel)


async def test_copy_is_safe_before_the_original_is_let_go(
    settings: Settings, channel: AbstractChannel, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the copy for a retry is not confirmed, the original stays: it goes to the next consumer."""
    consumer = consumer_of(settings, worker)
    sent = 0

    async def refused(*_: object) -> None:
        nonlocal sent
        sent += 1
        raise Unavailable("queue full")

    monkeypatch.setattr(consumer._settlement._publisher, "send", refused)
    worker.mishaps["flaky"] = [Unavailable("provider away")]
    await publish(settings, reserve("flaky"))
    async with running(consumer):
        await until(lambda: sent >= 2)
    assert not worker.effects
    async with consuming(settings, worker):
        await until(lambda: worker.effects)
    await nothing_left(settings, channel)


@pytest.mark.parametrize("told", [True, False])
async def test_deleted_queue_is_made_anew(
    settings: Settings,
    channel: AbstractChannel,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    told: bool,
) -> None:
    """A consumer whose queue is deleted under it makes a new one, even if the broker's notice is lost."""
    monkeypatch.setattr(subscription, "_PROBE_EVERY", 60.0 if told else 0.2)
    if not told:
        monkeypatch.setattr(subscription, "_watch", unnoticed)
    consumer = consumer_of(settings, worker)
    async with running(consumer):
        await until(lambda: consumer.ready)
        before = consumer._subscription._channel
        await channel.queue_delete(Topology(settings.namespace).queue("inventory"))
        await until(lambda: consumer.ready and consumer._subscription._channel is not before)
        await publish(settings, reserve())
        await until(lambda: worker.effects)


async def unnoticed(*_: object) -> Callable[[], None]:
    """In place of what listens for losses."""
    return lambda: None


async def test_absent_broker_is_waited_for(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """A consumer that starts before RabbitMQ is not ready, and begins when it is there."""
    async with linked(settings.rabbitmq_url) as (link, through):
        await link.cut()
        consumer = consumer_of(settings.model_copy(update={"rabbitmq_url": through}), worker)
        await publish(settings, reserve())
        async with running(consumer):
            assert not consumer.ready
            await link.mend()
            await until(lambda: worker.effects)
            assert consumer.ready


async def test_forged_headers_of_the_broker_are_not_passed_on(
    settings: Settings, channel: AbstractChannel, worker: Worker
) -> None:
    """A sender's own x-death, which an old broker takes for a loop so that it drops retries, is stripped."""
    worker.mishaps["flaky"] = [Unavailable("away"), Unavailable("away")]
    command = reserve("flaky")
    retry = Topology(settings.namespace).retry("1s")
    death = {
        "queue": retry,
        "reason": "expired",
        "count": 1,
        "exchange": retry,
        "routing-keys": ["inventory"],
    }
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        sender = await connection.channel()
        exchange = await sender.get_exchange(Topology(settings.namespace).commands, ensure=False)
        message = Message(CODEC.encode(command), headers={"x-death": [death]}, message_id=str(uuid4()))
        await exchange.publish(message, "inventory")
    async with consuming(settings, worker):
        await until(lambda: worker.effects)
    assert worker.attempts("flaky") == [1, 2, 3]
    assert not any(name.startswith("x-") for name in worker.batches[-1][0].headers)


async def test_failure_of_the_machinery_gives_commands_back(
    settings: Settings, channel: AbstractChannel, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the consumer itself ends nothing: what it had in hand is delivered again."""
    consumer = consumer_of(settings, worker)
    process, failures = consumer._process, [RuntimeError("a bug")]

    async def broken(batch: Sequence[object]) -> None:
        if failures:
            raise failures.pop()
        await process(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(consumer, "_process", broken)
    await publish(settings, *[reserve() for _ in range(3)])
    async with running(consumer):
        await until(lambda: len(worker.effects) == 3)
    await nothing_left(settings, channel)
