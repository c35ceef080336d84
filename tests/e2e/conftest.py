"""One system for most of the tests: they are kept apart by SKUs, keys and workflows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from client import Client, connected
from system import System, deployed

from fulcrum.localstack import Stack


@pytest.fixture(scope="session")
def system(stack: Stack) -> Iterator[System]:
    """All roles, running."""
    with deployed(stack, "e2e") as found:
        yield found


@pytest.fixture
async def client(system: System) -> AsyncIterator[Client]:
    """The system's HTTP API."""
    async with connected(system.running.api) as found:
        yield found
