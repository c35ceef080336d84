"""Is anything lost when a process dies while what it writes to is silent?

A process that counted its work as done before it was safe would lose it here for certain, and not only when
a kill falls into the milliseconds in between.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from client import Client, until
from endings import assert_all_ended, assert_journal, assert_sound, assert_stock
from stories import MIX
from system import System

from bench.invariants import Violation

_WORKFLOWS = 24
_WITHIN = 60.0


@contextmanager
def _silent(system: System, server: str) -> Iterator[None]:
    """Stop the server's process as it is, and let it go on at the end."""
    handle = system.stack.server(server)
    handle.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        handle.kill(signal.SIGCONT)


async def test_the_bridge_dies_while_rabbitmq_is_silent(
    system: System, client: Client, known: list[Violation]
) -> None:
    """Commands that RabbitMQ did not confirm leave again after the restart."""
    shelf = await client.stocked(_WORKFLOWS)
    since = system.kafka.ends([system.decisions])
    with _silent(system, "rabbitmq"):
        posted = await client.post_all(MIX * 3, shelf)
        # Intents and decisions are committed in one go: whoever took the decisions for done has said so now.
        await until(lambda: not _unfinished_intents(system), "every intent is decided upon and committed")
        restarts = system.kill("agents")
    await system.until_back("agents", restarts)

    await assert_all_ended(client, posted, system.psp, _WITHIN)
    await system.until_idle()
    assert_journal(await system.journal(since), posted)
    await assert_stock(client, shelf, posted)
    await assert_sound(system.env, known)


def _unfinished_intents(system: System) -> dict[tuple[str, int], int]:
    return system.kafka.behind(f"{system.namespace}-orchestrator", [system.topics.stream("intents")])


async def test_intake_dies_while_kafka_is_silent(
    system: System, client: Client, known: list[Violation]
) -> None:
    """Intents that were accepted and did not reach Kafka are sent after the restart."""
    shelf = await client.stocked(_WORKFLOWS)
    with _silent(system, "kafka"):
        posted = await client.post_all(MIX * 3, shelf)
        restarts = system.kill("intake")
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
