"""Health pages: alive, ready or not and why, and what was counted."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings
from fulcrum.telemetry import metrics
from fulcrum.telemetry.health import HealthServer

CHECKS = {"database": True, "rabbitmq": True}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    """A running server whose checks are in CHECKS."""
    server = HealthServer(Settings.model_validate({}), _free_port(), lambda: CHECKS)
    await server.start()
    yield f"http://127.0.0.1:{server.port}"
    await server.stop()
    await server.stop()


async def _get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_ready_when_every_check_holds(address: str) -> None:
    """A probe sees 200 and what was checked."""
    assert await _get(f"{address}/readyz") == (
        200,
        '{"ready": true, "checks": {"database": true, "rabbitmq": true}}',
    )


async def test_not_ready_names_the_check_that_fails(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for a server is alive, not ready, and says for which."""
    monkeypatch.setitem(CHECKS, "rabbitmq", False)
    status, body = await _get(f"{address}/readyz")
    assert status == 503
    assert '"rabbitmq": false' in body
    assert await _get(f"{address}/healthz") == (200, '{"status": "ok"}')


async def test_metrics_are_in_prometheus_form(address: str) -> None:
    """A scraper finds our counters with their labels."""
    metrics.commands_handled.labels("payment", "VoidPayment").inc()
    status, body = await _get(f"{address}/metrics")
    assert status == 200
    assert 'fulcrum_commands_handled_total{service="payment",type="VoidPayment"}' in body


async def test_a_taken_port_is_named_with_its_remedy(address: str) -> None:
    """Two processes on one port: the second one says what to set."""
    port = int(address.rpartition(":")[2])
    second = HealthServer(Settings.model_validate({"http_port": port}), 8082, lambda: CHECKS)
    with pytest.raises(Misconfigured, match=rf"http_port {port} on 127\.0\.0\.1 .* FULCRUM_HTTP_PORT"):
        await second.start()


async def test_the_setting_wins_over_the_roles_default_port() -> None:
    """FULCRUM_HTTP_PORT=0 means the role's own port."""
    assert HealthServer(Settings.model_validate({"http_port": 9000}), 8082, dict).port == 9000
    assert HealthServer(Settings.model_validate({"http_port": 0}), 8082, dict).port == 8082
