"""``fulcrum health``, ``doctor --bundle``, ``config check``, ``stock`` and ``status`` on real servers."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
from click.testing import Result
from commandbus import CODEC
from deliveries import delivery, new_workflow, receive, reserve
from intake import free_port, intake_process
from sqlalchemy import text
from typer.testing import CliRunner

from fulcrum.cli import config, db, doctor, health, stock
from fulcrum.cli import stack as servers
from fulcrum.localstack import Stack
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.telemetry.health import HealthServer
from fulcrum.wire.topics import Topics
from fulcrum.workers.inventory import InventoryWorker

Run = Callable[..., Result]
SERVERS = ("kafka", "rabbitmq", "postgres", "redis", "registry")
PARTS = ("doctor", "health", "lag", "queues", "config", "versions")


@pytest.fixture
def run(settings: Settings, namespace: Mapping[str, str]) -> Run:
    """Run a command on the servers of the module; what it raises is in the result."""
    # What says where the tests' servers lie is no setting.
    env = {**namespace, "COLUMNS": "200", "FULCRUM_TEST_HOME": None}

    def invoke(app: typer.Typer | Callable[..., Any], *arguments: str, **more: str) -> Result:
        if not isinstance(app, typer.Typer):
            command, app = app, typer.Typer()
            app.command()(command)
        return CliRunner(env={**env, **more}).invoke(app, arguments)

    return invoke


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    """A running intake."""
    with intake_process(settings) as url:
        yield url


def named(result: Result) -> dict[str, dict[str, Any]]:
    """Each row of a JSON answer by its name."""
    return {row["name"]: row for row in json.loads(result.stdout)}


@pytest.mark.parametrize("how", ["--live", "--ready"])
def test_health_says_that_all_is_well(run: Run, address: str, how: str) -> None:
    """One line for each server and role."""
    seen = run(health.health, how, "--roles", f"intake={address}")
    assert seen.exit_code == 0, seen.output
    marks = [line.split()[:2] for line in seen.stdout.splitlines()]
    assert marks == [["[+]", name] for name in (*SERVERS, "intake")]


def test_health_tells_versions(run: Run, address: str) -> None:
    """Of each server that has one, and that the password is nowhere."""
    seen = named(run(health.health, "--roles", f"intake={address}", "-o", "json"))
    assert seen["postgres"]["told"].startswith("Postgres 1")
    assert seen["rabbitmq"]["told"].startswith("RabbitMQ ")
    assert seen["kafka"]["told"] == "1 broker"
    assert "@" not in json.dumps(seen)


@pytest.mark.parametrize("how", ["--live", "--ready"])
def test_health_names_what_is_away(run: Run, address: str, how: str) -> None:
    """Exit code 7; the others are told as they are."""
    away = f"intake={address},payment=http://127.0.0.1:{free_port()}"
    port = free_port()
    changed = {
        "FULCRUM_KAFKA_BOOTSTRAP": f"127.0.0.1:{port}",
        "FULCRUM_REDIS_URL": f"redis://127.0.0.1:{port}",
    }
    seen = run(health.health, how, "--roles", away, "-o", "json", **changed)
    assert seen.exit_code == 7, seen.output
    assert {name for name, row in named(seen).items() if not row["ok"]} == {"kafka", "redis", "payment"}
    assert seen.stderr.strip().endswith("kafka, redis, payment")


async def test_health_names_the_check_of_a_role_that_is_not_ready(run: Run, settings: Settings) -> None:
    """It lives, and says itself why it is not ready."""
    port = free_port()
    checks = {"kafka": True, "recovered": False}
    server = HealthServer(settings.model_copy(update={"http_port": port}), port, lambda: checks)
    await server.start()
    roles = ("agents", "--roles", f"agents=http://127.0.0.1:{port}")
    ready = await asyncio.to_thread(run, health.health, *roles)
    alive = await asyncio.to_thread(run, health.health, *roles, "--live")
    await server.stop()
    assert (ready.exit_code, alive.exit_code) == (7, 0)
    assert "not ready: recovered" in ready.stdout


def opened(file: Path) -> dict[str, str]:
    """What lies in a bundle, by the name below its folder."""
    with tarfile.open(file) as archive:
        texts = {}
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            texts[member.name.partition("/")[2]] = content.read().decode()
        return texts


def test_bundle_has_what_a_helper_needs(run: Run, tmp_path: Path, address: str) -> None:
    """Findings, health, lag, queues, settings, versions and logs; no password, and for its owner only."""
    logs, file = tmp_path / "logs", tmp_path / "out.tar.gz"
    logs.mkdir()
    (logs / "intake.log").write_text("x" * 300_000 + "\nconnecting to amqp://ana:hush@h/ failed\n")
    changed = {"FULCRUM_PSP_URL": "http://ana:hush@127.0.0.1:9", "FULCRUM_ROLES": f"intake={address}"}
    seen = run(doctor.doctor, "--bundle", str(file), "--logs", str(logs), "-o", "ndjson", **changed)
    findings = [json.loads(line) for line in seen.stdout.splitlines()]
    assert str(file) in seen.stderr
    found = opened(file)
    assert set(found) == {*(f"{part}.json" for part in PARTS), "logs/01-intake.log"}
    assert "hush" not in "".join(found.values())
    assert found["logs/01-intake.log"].endswith("amqp://ana:***@h/ failed\n")
    assert len(found["logs/01-intake.log"]) < 270_000
    assert json.loads(found["doctor.json"])["checks"] == findings
    assert {row["name"] for row in json.loads(found["health.json"]) if row["ok"]} == {*SERVERS, "intake"}
    assert json.loads(found["versions.json"])["database"]["pending"] == []
    assert {row["group"].rpartition("-")[2] for row in json.loads(found["lag.json"])} == {
        "orchestrator",
        "projector",
    }
    assert file.stat().st_mode & 0o077 == 0


def test_bundle_of_a_broken_system_says_what_could_not_be_had(run: Run, tmp_path: Path) -> None:
    """Kafka is away: everything else is there, and why lag is not."""
    file = tmp_path / "out.tar.gz"
    seen = run(doctor.doctor, "--bundle", str(file), FULCRUM_KAFKA_BOOTSTRAP=f"127.0.0.1:{free_port()}")
    assert seen.exit_code in (7, 10), seen.output
    found = opened(file)
    assert "Kafka" in json.loads(found["lag.json"])["error"]
    assert json.loads(found["versions.json"])["database"]["pending"] == []


def test_settings_of_the_stack_pass_the_check(run: Run) -> None:
    """What the local stack prints for a shell is right, and every variable of it is known."""
    seen = run(config.app, "check")
    assert seen.exit_code == 0, seen.output
    assert run(config.app, "check", FULCRUM_NAMESPCE="x").exit_code == 10


@pytest.fixture
async def books(settings: Settings) -> tuple[str, str]:
    """Two SKUs: of the first 10 came in and 3 are reserved, of the second 5 came in."""
    skus = f"tea-{uuid4().hex[:8]}", f"mug-{uuid4().hex[:8]}"
    opened_db = await Database.open(settings.postgres_dsn, size=1)
    worker = InventoryWorker(opened_db, CODEC, Topics(settings.namespace))
    await worker.handle([delivery(receive(skus[0], 10)), delivery(receive(skus[1], 5))])
    await worker.handle([delivery(reserve(new_workflow(), (skus[0], 3)))])
    await opened_db.close()
    return skus


async def change(settings: Settings, statement: str, **values: str) -> None:
    """Change what no service would."""
    opened_db = await Database.open(settings.postgres_dsn, size=1)
    await opened_db.execute(text(statement), values)
    await opened_db.close()


async def test_stock_check_finds_a_drift_of_one_unit(
    run: Run, settings: Settings, books: tuple[str, str]
) -> None:
    """Sound books are exit code 0; a changed balance is exit code 10 and named with both figures."""
    tea, mug = books
    sound = await asyncio.to_thread(run, stock.app, "check")
    assert (sound.exit_code, "equal their ledger" in sound.stdout) == (0, True), sound.output
    await change(settings, "UPDATE inventory.stock SET available = available + 1 WHERE sku = :sku", sku=tea)
    drift = await asyncio.to_thread(run, stock.app, "check", "-o", "json")
    assert drift.exit_code == 10, drift.output
    assert json.loads(drift.stdout) == [
        {"sku": tea, "figure": "available", "source": "ledger", "stock": 8, "counted": 7, "difference": 1}
    ]
    assert "1 of" in drift.stderr
    assert tea in (await asyncio.to_thread(run, stock.app, "check", tea)).stdout
    assert (await asyncio.to_thread(run, stock.app, "check", mug)).exit_code == 0
    await change(settings, "UPDATE inventory.stock SET available = available - 1 WHERE sku = :sku", sku=tea)


async def test_stock_check_compares_with_reservations(
    run: Run, settings: Settings, books: tuple[str, str]
) -> None:
    """A reservation whose lines say something else than what is reserved."""
    tea, _ = books
    lines = "UPDATE inventory.reservation_lines SET quantity = :quantity WHERE sku = :sku"
    await change(settings, lines.replace(":quantity", "4"), sku=tea)
    drift = await asyncio.to_thread(run, stock.app, "check", "-o", "ndjson")
    await change(settings, lines.replace(":quantity", "3"), sku=tea)
    row = json.loads(drift.stdout)
    assert (drift.exit_code, row["source"], row["stock"], row["counted"]) == (10, "reservations", 3, 4)


def test_stock_show_tells_what_moved_it(run: Run, books: tuple[str, str]) -> None:
    """The newest entry first, of the SKUs that were asked for."""
    tea, mug = books
    shown = json.loads(run(stock.app, "show", tea, mug, "--ledger", "-o", "json").stdout)
    assert [(row["sku"], row["kind"], row["available"]) for row in shown] == [
        (tea, "reserve", -3),
        (tea, "receive", 10),
        (mug, "receive", 5),
    ]
    assert shown[0]["at"].endswith("Z")
    assert tea in run(stock.app, "show", tea, "--ledger").stdout
    nothing = run(stock.app, "show", "none-such", "--ledger", "-o", "json")
    assert (nothing.exit_code, json.loads(nothing.stdout)) == (0, [])


def test_status_of_database_and_stack_is_data(run: Run, empty_database: str, stack: Stack) -> None:
    """An empty database lacks every revision: exit code 10."""
    done = run(db.app, "status", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["pending"]) == (0, [])
    lacking = run(db.app, "status", FULCRUM_POSTGRES_DSN=empty_database)
    assert (lacking.exit_code, "fulcrum db migrate" in lacking.stderr) == (10, True)
    rows = json.loads(run(servers.app, "status", "-o", "json", FULCRUM_HOME=str(stack.home.path)).stdout)
    # Postgres is not the stack's where the environment names another.
    assert {"kafka", "rabbitmq", "redis"} <= {row["server"] for row in rows}
