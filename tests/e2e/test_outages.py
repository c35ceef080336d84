"""Does everything go on by itself when a server or the provider was away?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from client import connected
from endings import assert_all_ended, assert_stock
from stories import COMPLETES, MIX, completes
from system import System, deployed

from fulcrum.localstack import Stack

_WORKFLOWS = 50
_WITHIN = 120.0


@pytest.fixture(scope="module")
def shaken(stack: Stack) -> Iterator[System]:
    """Roles whose servers are killed under them, with retries that outlast it."""
    with deployed(stack, "outages", FULCRUM_RETRY_LIMIT="40") as found:
        yield found


@pytest.mark.parametrize("server", ["postgres", "rabbitmq", "kafka"])
async def test_a_killed_server_costs_time_and_no_order(shaken: System, server: str) -> None:
    """``kill -9`` of a server in the middle of fifty workflows, then its start: all end right, once each."""
    async with connected(shaken.running.api) as client:
        await shaken.until_all_ready()
        shelf = await client.stocked(_WORKFLOWS)
        stories = [MIX[number % len(MIX)] for number in range(_WORKFLOWS)]
        first = await client.post_all(stories[: _WORKFLOWS // 2], shelf)
        handle = shaken.stack.server(server)
        handle.kill()
        rest = asyncio.create_task(client.post_all(stories[_WORKFLOWS // 2 :], shelf))
        await asyncio.to_thread(handle.start)
        posted = [*first, *await rest]

        await assert_all_ended(client, posted, shaken.psp, _WITHIN)
        await assert_stock(client, shelf, posted)
        await shaken.until_all_ready()
    assert shaken.dead_letters() == 0


async def test_reads_survive_the_cache(shaken: System) -> None:
    """Redis killed: workflows complete and can be read, from the database."""
    async with connected(shaken.running.api) as client:
        shelf = await client.stocked(1)
        redis = shaken.stack.server("redis")
        redis.kill()
        try:
            posted = await client.post_all([COMPLETES], shelf)
            await assert_all_ended(client, posted, shaken.psp, _WITHIN)
            assert (await client.workflow(posted[0].workflow_id))["freshness"]["source"] == "database"
        finally:
            await asyncio.to_thread(redis.start)


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
    """The provider killed, intents posted, the provider back: all complete, each authorised once."""
    async with connected(shaken.running.api) as client:
        shelf = await client.stocked(10)
        restarts = shaken.kill("psp-simulator")
        posted = await client.post_all([COMPLETES] * 10, shelf)
        await shaken.until_back("psp-simulator", restarts)

        await assert_all_ended(client, posted, shaken.psp, _WITHIN)
        await assert_stock(client, shelf, posted)


@pytest.mark.parametrize("token", ["pay_timeout_ok", "pay_timeout_no", "pay_flaky_2", "pay_slow_300"])
async def test_an_uncertain_provider_charges_once(shaken: System, token: str) -> None:
    """No answer, with or without effect, errors, slowness: completed with exactly one authorisation."""
    async with connected(shaken.running.api) as client:
        shelf = await client.stocked(1)
        posted = await client.post_all([completes(token)], shelf)

        await assert_all_ended(client, posted, shaken.psp, _WITHIN)
        await assert_stock(client, shelf, posted)
