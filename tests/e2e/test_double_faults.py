"""Is anything lost when a process dies while what it writes to does not answer?

A process that counted its work as done before it was safe would lose it here for certain, and not only when
a kill falls into the milliseconds in between.
"""

from __future__ import annotations

import asyncio
import signal

import psycopg2
from client import Client, until
from endings import assert_all_ended, assert_journal, assert_sound, assert_stock
from stories import MIX
from system import System

from fulcrum.doctor.invariants import Violation

_WORKFLOWS = 24
_WITHIN = 60.0


async def test_the_bridge_dies_while_rabbitmq_is_away(
    system: System, client: Client, known: list[Violation]
) -> None:
    """Commands that RabbitMQ did not confirm leave again after the restart."""
    shelf = await client.stocked(_WORKFLOWS)
    since = system.kafka.ends([system.decisions])
    intents = system.kafka.count([system.topics.stream("intents")])
    rabbitmq = system.stack.server("rabbitmq")
    await asyncio.to_thread(rabbitmq.kill)
    try:
        posted = await client.post_all(MIX * 2, shelf)
        await until(lambda: _committed(system, intents + len(posted)), "every intent is decided upon")
        # With these goes the next commit: whoever took the decisions before for done has said so by then.
        posted += await client.post_all(MIX, shelf)
        await until(lambda: _committed(system, intents + len(posted)), "the others are decided upon, too")
        restarts = system.kill("agents")
    finally:
        await asyncio.to_thread(rabbitmq.start)
    await system.until_back("agents", restarts)

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await system.until_idle()
    assert_journal(await system.journal(since), posted)
    await assert_stock(client, shelf, posted)
    await assert_sound(system.env, known)


def _committed(system: System, intents: int) -> bool:
    """Whether so many intents are on Kafka, and the orchestrator is done with all of them."""
    topic = [system.topics.stream("intents")]
    group = f"{system.namespace}-orchestrator"
    return system.kafka.count(topic) >= intents and not system.kafka.behind(group, topic)


async def test_intake_dies_while_kafka_is_silent(
    system: System, client: Client, known: list[Violation]
) -> None:
    """Intents that were accepted and did not reach Kafka are sent after the restart."""
    shelf = await client.stocked(_WORKFLOWS)
    kafka = system.stack.server("kafka")
    kafka.kill(signal.SIGSTOP)
    try:
        posted = await client.post_all(MIX * 3, shelf)
        restarts = system.kill("intake")
    finally:
        kafka.kill(signal.SIGCONT)
    await system.until_back("intake", restarts)

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await assert_stock(client, shelf, posted)
    await assert_sound(system.env, known)


async def test_the_projector_dies_while_its_tables_are_locked(
    system: System, client: Client, known: list[Violation]
) -> None:
    """Decisions that could not be written are read again after the restart."""
    shelf = await client.stocked(_WORKFLOWS)
    before = _vain_writes(system)
    with psycopg2.connect(system.env["FULCRUM_POSTGRES_DSN"]) as lock, lock.cursor() as cursor:
        cursor.execute("LOCK TABLE read_model.workflow_runs IN EXCLUSIVE MODE")
        posted = await client.post_all(MIX * 3, shelf)
        # A try ends with the lock timeout, long after offsets that were taken for done would be committed.
        await until(lambda: _vain_writes(system) > before, "the projector has tried in vain")
        restarts = system.kill("projector")
    await system.until_back("projector", restarts)

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await assert_stock(client, shelf, posted)
    await assert_sound(system.env, known)


def _vain_writes(system: System) -> int:
    return sum(line["event"] == "projection.retried" for line in system.log_lines("projector"))
