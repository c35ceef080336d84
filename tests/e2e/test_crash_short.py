"""Is anything lost or doubled when everything is killed in turn? The short form of ``make crash``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from bench.crash_report import failed
from bench.crash_run import LIMITS, UNFORGIVING, Plan, crash
from bench.crash_schedule import SECOND, Deed, Way
from fulcrum.localstack import Running, Stack, running
from fulcrum.localstack.postgres import create_database

_RATE, _LONGEST = 5.0, 360.0

_ROLES_AND_SERVERS = (
    Deed("agents", Way.KILL),
    Deed("payment", Way.POINT, point="provider.asked", nth=2),
    Deed("kafka", Way.KILL),
    Deed("inventory", Way.KILL, wait=0.4),
    Deed("agents", Way.POINT, point="decision.sent", nth=3),
    Deed("rabbitmq", Way.KILL),
    Deed("intake", Way.KILL, wait=0.2),
    Deed("projector", Way.KILL, wait=0.3),
    Deed("postgres", Way.KILL),
    Deed("psp-simulator", Way.KILL),
    Deed("inventory", Way.POINT, point="outbox.sent", nth=2),
    Deed("redis", Way.KILL, seconds=0.5),
    Deed("registry", Way.KILL),
    Deed("payment", Way.PAUSE, seconds=1.5),
    Deed("warehouse", Way.POINT, point="floor.asked", nth=2),
    Deed("courier", Way.POINT, point="courier.asked", nth=2),
    Deed("courier-simulator", Way.KILL),
    Deed("agents", Way.TERM),
)
_TWO_WORKERS = (
    Deed(SECOND, Way.JOIN),
    Deed("agents", Way.KILL),
    Deed(SECOND, Way.PAUSE, seconds=2.0),
    Deed(SECOND, Way.TERM),
    Deed(SECOND, Way.KILL, wait=0.5),
    Deed(SECOND, Way.LEAVE),
)


@pytest.fixture
def roles(stack: Stack) -> Iterator[Running]:
    """All roles of a namespace of their own, without a clock."""
    namespace = f"crash-{uuid4().hex[:8]}"
    addresses = stack.up(print)
    database = namespace.replace("-", "_")
    create_database(addresses["FULCRUM_POSTGRES_DSN"], database)
    dsn = urlsplit(addresses["FULCRUM_POSTGRES_DSN"])._replace(path=f"/{database}").geturl()
    env = {**LIMITS, **UNFORGIVING, "FULCRUM_POSTGRES_DSN": dsn}
    with running(stack, say=print, namespace=namespace, env=env) as found:
        yield found


@pytest.mark.parametrize("deeds", [_ROLES_AND_SERVERS, _TWO_WORKERS], ids=["one of each", "two workers"])
async def test_everything_killed_in_turn_loses_and_doubles_nothing(
    stack: Stack, roles: Running, deeds: tuple[Deed, ...]
) -> None:
    """Under load, and without the clock that would make good a lost message: every workflow ends as its story
    does, every invariant holds, and the doctor is content."""
    result = await crash(Plan(deeds, _LONGEST, len(deeds), _RATE, seed=1), stack, roles, print)

    assert failed(result) == [], {
        name: result[name] for name in ("errors", "wrong_ends", "unfinished", "violations")
    }
    assert result["hits"] == len(deeds)
    assert result["counts"]["commands parked"] == result["counts"]["events dead-lettered"] == 0
    code, report = await asyncio.to_thread(_doctor, roles)
    odd = [check for check in report["checks"] if check["state"] != "holds"]
    assert (code, odd) == (0, []), odd


def _doctor(roles: Running) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "fulcrum", "doctor", "--json", "--grace", "1"],
        env={**os.environ, **roles.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)
