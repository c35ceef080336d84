"""Does everything go on by itself when a server or the provider was away?"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from client import Client, Posted, connected, until
from endings import assert_all_ended, assert_journal, assert_sound, assert_stock
from stories import COMPLETES, MIX, completes
from system import System, deployed

from fulcrum.localstack import Stack

_WORKFLOWS = 50
_WITHIN = 120.0


@pytest.fixture(scope="module")
def shaken(stack: Stack) -> Iterator[System]:
    """Roles whose servers are killed under them, with retries that outlast it and never pause for long."""
    with deployed(stack, "outages", FULCRUM_RETRY_LIMIT="40", FULCRUM_RETRY_UNIT="0.002") as found:
        yield found


@pytest.mark.parametrize("server", ["postgres", "rabbitmq", "kafka"])
async def test_a_killed_server_costs_time_and_no_order(shaken: System, server: str) -> None:
    """``kill -9`` of a server in the middle of fifty workflows, then its start: all end right, once each."""
    async with connected(shaken.running.api) as client:
        await shaken.until_all_ready()
        shelf = await client.stocked(_WORKFLOWS)
        decisions = [shaken.decisions]
        since, before = shaken.kafka.ends(decisions), shaken.kafka.count(decisions)
        handle = shaken.stack.server(server)

        posting = asyncio.create_task(
            client.post_all((MIX[number % len(MIX)] for number in range(_WORKFLOWS)), shelf)
        )
        await until(lambda: shaken.kafka.count(decisions) - before >= 20, "twenty decisions are made")
        await asyncio.to_thread(handle.kill)
        await asyncio.to_thread(handle.start)
        posted = await posting

        await assert_all_ended(client, posted, shaken.psp, _WITHIN)
        await shaken.until_all_ready()
        await shaken.until_idle()
        assert_journal(await shaken.journal(since), posted)
        await assert_stock(client, shelf, posted)
    assert shaken.dead_letters() == 0
    await assert_sound(shaken.env)


async def test_reads_survive_the_cache(shaken: System) -> None:
    """Redis killed: workflows complete and are read from the database; Redis back: from the cache again."""
    async with connected(shaken.running.api) as client:
        shelf = await client.stocked(2)
        redis = shaken.stack.server("redis")
        redis.kill()
        try:
            posted = await client.post_all([COMPLETES], shelf)
            await assert_all_ended(client, posted, shaken.psp, _WITHIN)
            assert await _source(client, posted[0]) == "database"
        finally:
            await asyncio.to_thread(redis.start)
        posted = await client.post_all([COMPLETES], shelf)
        await assert_all_ended(client, posted, shaken.psp, _WITHIN)
        await until(lambda: _is_cached(client, posted[0]), "it is read from the cache")


async def _source(client: Client, item: Posted) -> str:
    return str((await client.workflow(item.workflow_id))["freshness"]["source"])


async def _is_cached(client: Client, item: Posted) -> bool:
    return await _source(client, item) == "cache"


async def test_the_registry_is_needed_at_start_only(shaken: System) -> None:
    """The registry killed after the roles have started: workflows of every kind still end."""
    async with connected(shaken.running.api) as client:
        shelf = await client.stocked(len(MIX))
        registry = shaken.stack.server("registry")
        registry.kill()
        try:
            posted = await client.post_all(MIX, shelf)
            await assert_all_ended(client, posted, shaken.psp, _WITHIN)
        finally:
            await asyncio.to_thread(registry.start)


async def test_the_provider_may_be_away_for_a_while(shaken: System) -> None:
    """No provider, intents tried in vain, the provider back: all complete, each authorised once."""
    async with connected(shaken.running.api) as client:
        shelf = await client.stocked(10)
        retried = await _retried(client, shaken)
        await shaken.stop("psp-simulator")
        try:
            posted = await client.post_all([COMPLETES] * 10, shelf)
            await until(lambda: _more(client, shaken, retried + 10), "each was tried and will be again")
            await until(lambda: _all_running(client, posted), "all are running")
        finally:
            await shaken.start("psp-simulator")

        await assert_all_ended(client, posted, shaken.psp, _WITHIN)
        await assert_stock(client, shelf, posted)


async def _all_running(client: Client, posted: list[Posted]) -> bool:
    return {(await client.workflow(item.workflow_id))["status"] for item in posted} == {"running"}


async def _more(client: Client, system: System, count: int) -> bool:
    return await _retried(client, system) >= count


async def _retried(client: Client, system: System) -> int:
    """How many payment commands went to a retry queue, as the payment service counts them."""
    page = await client.insist("GET", f"{system.role('payment').url}/metrics")
    samples = re.findall(r"^fulcrum_commands_retried_total\{.*\} (\S+)$", page.json, re.MULTILINE)
    return int(sum(map(float, samples)))


@pytest.mark.parametrize("token", ["pay_timeout_ok", "pay_timeout_no", "pay_flaky_2", "pay_slow_300"])
async def test_an_uncertain_provider_charges_once(shaken: System, token: str) -> None:
    """No answer, with or without effect, errors, slowness: completed with exactly one authorisation."""
    async with connected(shaken.running.api) as client:
        shelf = await client.stocked(1)
        posted = await client.post_all([completes(token)], shelf)

        await assert_all_ended(client, posted, shaken.psp, _WITHIN)
        await assert_stock(client, shelf, posted)
