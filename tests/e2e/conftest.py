"""One system for most of the tests: they are kept apart by SKUs, keys and workflows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from client import Client, connected
from system import System, deployed

from fulcrum.doctor.invariants import Violation, check_all
from fulcrum.localstack import Stack


@pytest.fixture(scope="session")
def system(stack: Stack) -> Iterator[System]:
    """All roles, running; a command is parked after few retries."""
    with deployed(stack, "e2e", FULCRUM_RETRY_LIMIT="3") as found:
        yield found


@pytest.fixture(scope="module")
def known(system: System) -> list[Violation]:
    """What earlier tests left behind on purpose: dead letters, parked messages."""
    return asyncio.run(check_all(system.env))


@pytest.fixture
async def client(system: System) -> AsyncIterator[Client]:
    """The system's HTTP API."""
    async with connected(system.running.api) as found:
        yield found
