"""How long does a reader wait, when the read model holds very many workflows?

The read model is filled on the server, without a journal: a generation as a rebuild makes it, with its
indexes built at the end, put in the place of the live one. Then readers ask over HTTP, each one question
after another, and wait for every answer. The client shares the machine with the servers, so its own time is
in the figures.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any
from uuid import UUID

import aiohttp
from sqlalchemy import Connection, text

from bench.alone import Alone
from bench.conditions import conditions, strain
from bench.figures import milliseconds
from fulcrum.readmodel import generation_tables as tables
from fulcrum.store.plain import connected

#: Milliseconds that 99 of 100 answers may take.
TARGETS: Mapping[str, float] = {"redis": 10.0, "postgres": 25.0, "list": 100.0}
_NEW, _OLD = "read_model_g2", "read_model_g1"
#: Workflows that are read from Redis; a finished one stays there for an hour.
_CACHED = 300
#: Questions before those that count: a process that has just started opens its sessions with them.
_UNCOUNTED = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workflows, how many answers each figure is made of, and how many readers ask at once."""

    workflows: int
    requests: int
    readers: int


async def measure(plan: Plan, own: Alone, say: Callable[[str], None]) -> dict[str, Any]:
    """Fill, start an intake, and read; ``faults`` names answers that were none or came from elsewhere."""
    began = time.monotonic()
    sizes = await asyncio.to_thread(fill, own.env["FULCRUM_POSTGRES_DSN"], plan.workflows)
    filled = time.monotonic() - began
    say(f"{plan.workflows} workflows in the read model after {filled:.0f} s")
    intake = await asyncio.to_thread(own.start, "intake")
    before = strain()
    async with aiohttp.ClientSession(intake.url) as http:
        reading = _Reading(http, plan)
        figures = {name: await reading.of(name, paths) for name, paths in _questions(plan).items()}
    return {
        "plan": {"workflows": plan.workflows, "requests": plan.requests, "readers": plan.readers},
        "conditions": await conditions(own.settings()),
        "before": before,
        "after": strain(),
        "filled_s": round(filled, 1),
        "megabytes": sizes,
        "figures": figures,
        "faults": reading.faults,
    }


def missed(result: Mapping[str, Any]) -> list[str]:
    """What was wrong, and which figure is over its target."""
    over = [
        f"{name}: p99 {figure['p99']} ms, at most {TARGETS[_target(name)]:g} is wanted"
        for name, figure in result["figures"].items()
        if figure["p99"] > TARGETS[_target(name)]
    ]
    return [*result["faults"], *over]


def _target(name: str) -> str:
    return name.removeprefix("by id from ") if name.startswith("by id") else "list"


def fill(dsn: str, workflows: int) -> dict[str, float]:
    """Put so many workflows into the read model; returns the size of each relation with its indexes."""
    with connected(dsn, "fulcrum-bench") as connection, connection.begin():
        connection.execute(text("SET LOCAL synchronous_commit = off"))
        tables.create(connection, _NEW)
        for statement in (_RUNS, _TIMELINE, _KEYS):
            connection.execute(text(statement), {"workflows": workflows})
        tables.index(connection, _NEW)
        tables.exchange(connection, _NEW, _OLD)
        tables.drop(connection, _OLD)
    with connected(dsn, "fulcrum-bench") as connection:
        # As it looks after a quiet while: otherwise the first readers write what the fill left to write.
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
        return {name: _megabytes(connection, name) for name in tables.RELATIONS}


def _megabytes(connection: Connection, name: str) -> float:
    size = text(f"SELECT pg_total_relation_size('read_model.{name}')")
    return round(int(connection.execute(size).scalar_one()) / 2**20, 1)


#: One in fifty has not ended. All ids are hashes of the number, so that a reader can name one.
_RUNS = f"""
    INSERT INTO {_NEW}.workflow_runs
    SELECT md5('w' || n)::uuid, md5('i' || n)::uuid, 'tenant-' || n % 100, 'customer-' || n / 5,
        CASE WHEN n % 3 = 0 THEN 'reserve_first.v1' ELSE 'fulfillment.v1' END, status, 3, NULL,
        json_build_array(json_build_object('sku', 'sku-' || n % 1000, 'quantity', 1),
            json_build_object('sku', 'cup', 'quantity', 2)),
        1250, 'EUR', 'order-' || n, began, began + interval '60 ms',
        CASE WHEN n % 50 > 0 THEN began + interval '60 ms' END,
        json_build_array(
            json_build_object('name', 'authorize_payment', 'status', 'done', 'attempt', 1,
                'command_id', md5('c1' || n)::uuid, 'deadline_at', NULL, 'finished_at', began,
                'reason', NULL, 'late', 0, 'expires_at', NULL),
            json_build_object('name', 'reserve_stock',
                'status', CASE WHEN n % 50 = 0 THEN 'requested' ELSE 'done' END, 'attempt', 1,
                'command_id', md5('c2' || n)::uuid, 'deadline_at', NULL, 'finished_at', began,
                'reason', NULL, 'late', 0, 'expires_at', NULL)),
        CASE WHEN n % 50 = 0 THEN 'reserve_stock' END
    FROM generate_series(1, :workflows) AS n,
        LATERAL (SELECT timestamptz '2026-01-01' + n * interval '20 ms' AS began,
            CASE WHEN n % 50 > 0 THEN CASE WHEN n % 20 = 0 THEN 'cancelled' ELSE 'completed' END
                ELSE (ARRAY['running', 'paused', 'compensating', 'needs_attention'])[1 + n / 50 % 4]
            END AS status) AS told
    """
_TIMELINE = f"""
    INSERT INTO {_NEW}.timeline
    SELECT md5('w' || n)::uuid, v, at, CASE WHEN v > 1 THEN 'running' END,
        CASE WHEN v < 3 THEN 'running' ELSE 'completed' END, 'reserve_stock',
        json_build_object('type', (ARRAY['IntentCreated', 'PaymentAuthorized', 'StockReserved'])[v],
            'event_id', md5('e' || v || n)::uuid, 'stream', 'payments', 'sequence', 1, 'occurred_at', at,
            'topic', 'fulcrum.payments', 'partition', n % 8, 'offset', n, 'actor', NULL,
            'trace_id', md5('t' || n)),
        CASE WHEN v = 3 THEN '[]' ELSE json_build_array(json_build_object(
            'command_id', md5('c' || v || n)::uuid, 'type', 'ReserveStock', 'service', 'inventory',
            'step', 'reserve_stock', 'attempt', 1, 'deadline_at', at)) END,
        NULL, NULL
    FROM generate_series(1, :workflows) AS n, generate_series(1, 3) AS v,
        LATERAL (SELECT timestamptz '2026-01-01' + n * interval '20 ms' + v * interval '20 ms' AS at) AS told
    """
_KEYS = f"""
    INSERT INTO {_NEW}.run_keys
    SELECT key, kind, started_at, workflow_id FROM {_NEW}.workflow_runs, LATERAL (
        VALUES (correlation_id, 'correlation_id'), (customer_ref, 'customer_ref'),
            (lines -> 0 ->> 'sku', 'sku'), (lines -> 1 ->> 'sku', 'sku')) AS named (key, kind)
    WHERE :workflows > 0
    """


def _questions(plan: Plan) -> dict[str, Callable[[random.Random], str]]:
    """What is asked, by the name of the figure."""
    last = plan.workflows

    def some(chance: random.Random) -> int:
        return chance.randint(1, last)

    def listed(query: str) -> Callable[[random.Random], str]:
        return lambda _: f"/v1/workflows{query}"

    return {
        "by id from postgres": lambda chance: f"/v1/workflows/{_id('w', some(chance))}",
        "by id from redis": lambda chance: f"/v1/workflows/{_id('w', 1 + chance.randrange(_CACHED))}",
        "list all": listed(""),
        "list status=needs_attention": listed("?status=needs_attention"),
        "list not paused": listed("?paused=false"),
        "list tenant": lambda chance: f"/v1/workflows?tenant=tenant-{chance.randrange(100)}",
        "list tenant, status": listed("?tenant=tenant-0&status=running"),
        "list definition": listed("?definition=reserve_first.v1"),
        "list step": listed("?step=reserve_stock&limit=200"),
        "list older than a day": listed("?older_than=1d"),
        "list sku": lambda chance: f"/v1/workflows?sku=sku-{chance.randrange(1000)}",
        "list sku of all": listed("?sku=cup"),
        "search command": lambda chance: f"/v1/search?q={_id('c1', some(chance))}",
        "search event": lambda chance: f"/v1/search?q={_id('e2', some(chance))}",
        "search correlation": lambda chance: f"/v1/search?q=order-{some(chance)}",
        "search sku of all": lambda _: "/v1/search?q=cup",
    }


def _id(kind: str, number: int) -> str:
    return str(UUID(md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()))


class _Reading:
    """Readers that ask one question many times."""

    def __init__(self, http: aiohttp.ClientSession, plan: Plan) -> None:
        self._http = http
        self._plan = plan
        self._chance = random.Random(7)
        self.faults: list[str] = []

    async def of(self, name: str, path: Callable[[random.Random], str]) -> dict[str, Any]:
        """Percentiles of the answers' times in milliseconds, and how many there were."""
        if name == "by id from redis":
            for number in range(1, _CACHED + 1):
                await self._ask(f"/v1/workflows/{_id('w', number)}")
        for _ in range(_UNCOUNTED):
            await self._ask(path(self._chance))
        paths = [path(self._chance) for _ in range(self._plan.requests)]
        took: list[float] = []
        before = len(self.faults)
        share = -(-len(paths) // self._plan.readers)
        parts = [paths[start : start + share] for start in range(0, len(paths), share)]
        await asyncio.gather(*(self._read(part, name, took) for part in parts))
        if len(self.faults) > before + 1:
            self.faults[before + 1 :] = [f"{name}: {len(self.faults) - before - 1} more"]
        return {"answers": len(took), **milliseconds(took, 0.5, 0.99, 1.0)}

    async def _read(self, paths: Sequence[str], name: str, took: list[float]) -> None:
        for path in paths:
            began = time.perf_counter()
            body = await self._ask(path)
            took.append(time.perf_counter() - began)
            if fault := _fault(name, body):
                self.faults.append(f"{name}: {path}: {fault}")

    async def _ask(self, path: str) -> Mapping[str, Any]:
        async with self._http.get(path) as response:
            found: Mapping[str, Any] = await response.json(content_type=None)
            return found


def _fault(name: str, body: Mapping[str, Any]) -> str | None:
    """Why the answer is not the one that the figure is about."""
    if not name.startswith("by id"):
        return None if body.get("items") else f"nothing is in it: {str(body)[:200]}"
    wanted = "cache" if name.endswith("redis") else "database"
    source = body.get("freshness", {}).get("source")
    # Few of those that are picked for Postgres lie in Redis since they were picked before.
    return None if source == wanted or (wanted, source) == ("database", "cache") else f"from {source}"
