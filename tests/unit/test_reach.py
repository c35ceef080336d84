"""Does ``fulcrum health`` know where the roles are, and say of each what is wrong?"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from fulcrum.agents import orchestration, projector
from fulcrum.cli import health
from fulcrum.doctor import reach
from fulcrum.doctor.reach import ROLE_PORTS, role_addresses
from fulcrum.errors import Rejected
from fulcrum.settings import Settings
from fulcrum.web import app as intake
from fulcrum.workers import service


def test_default_ports_are_those_of_the_roles() -> None:
    """They are written twice; this is what keeps them the same."""
    assert ROLE_PORTS == {
        "intake": intake.DEFAULT_PORT,
        "agents": orchestration.DEFAULT_PORT,
        "projector": projector.DEFAULT_PORT,
        "payment": service.PAYMENT_PORT,
        "inventory": service.INVENTORY_PORT,
        "warehouse": service.WAREHOUSE_PORT,
        "courier": service.COURIER_PORT,
    }


def test_addresses_follow_the_settings() -> None:
    """The API and the outside world have addresses of their own."""
    settings = Settings(psp_url="http://psp", warehouse_url="http://floor", http_host="h")
    found = role_addresses(settings, "http://api")
    assert (found["intake"], found["psp-simulator"]) == ("http://api", "http://psp")
    assert found["warehouse-simulator"] == "http://floor"
    assert found["agents"] == "http://h:6066"


def test_not_ready_names_the_check() -> None:
    """The role says it; an answer that is none of ours is told by its status."""
    body = json.dumps({"ready": False, "checks": {"kafka": True, "postgres": False}}).encode()
    assert reach._not_ready(503, body) == "not ready: postgres"
    assert reach._not_ready(502, b"<html>") == "answers 502"


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that takes connections, named as Redis and as Kafka."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("FULCRUM_REDIS_URL", f"redis://127.0.0.1:{port}/0")
        yield port


def test_live_asks_for_a_connection_only(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens is alive though it answers nothing; what does not is exit code 7, and named."""
    monkeypatch.setenv("FULCRUM_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    app = health_app()
    alive = CliRunner().invoke(app, ["redis", "--live"])
    assert (alive.exit_code, alive.stdout.startswith("[+] redis")) == (0, True), alive.output
    away = CliRunner().invoke(app, ["redis", "kafka", "--live", "-o", "json"])
    assert away.exit_code == 7
    assert {row["name"]: row["ok"] for row in json.loads(away.stdout)} == {"redis": True, "kafka": False}
    assert away.stderr == "health: not well: kafka\n"


@pytest.mark.parametrize("given", [["mongo"], ["--roles", "intake"], ["--roles", "=http://h"]])
def test_unknown_names_and_addresses_are_refused(given: list[str]) -> None:
    """The error says what may be given."""
    assert isinstance(CliRunner().invoke(health_app(), given).exception, Rejected)


def health_app() -> typer.Typer:
    """The command as a program."""
    app = typer.Typer()
    app.command()(health.health)
    return app
