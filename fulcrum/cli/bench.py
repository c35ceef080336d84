"""``fulcrum bench``: load on the real stack, what it costs, and whether everything still holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlsplit
from uuid import uuid4

import typer
import uvloop
from rich.console import Console

from fulcrum.cli.client import show_json
from fulcrum.cli.interrupt import interruptible
from fulcrum.errors import Rejected
from fulcrum.localstack import Running, Stack, running
from fulcrum.localstack.postgres import create_database
from fulcrum.saga.definitions import DEFAULT_DEFINITION


def bench(
    rate: Annotated[float | None, typer.Option(help="Open loop: intents a second.")] = None,
    users: Annotated[int | None, typer.Option(min=1, max=1000, help="Closed loop: how many users.")] = None,
    duration: Annotated[str, typer.Option("--for", help="How long, such as 30s; 10m at most.")] = "30s",
    warmup: Annotated[str, typer.Option(help="How long before anything is counted.")] = "5s",
    skus: Annotated[int, typer.Option(min=1, max=10_000, help="Over how many SKUs.")] = 100,
    definition: Annotated[str, typer.Option(help="Which workflow.")] = DEFAULT_DEFINITION,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure throughput, latency and cost; exit code 1 when an invariant is broken afterwards.

    Servers and roles are started for it, on names of their own. With FULCRUM_API set, the system there is
    measured instead, without the cost of its processes.
    """
    from bench.figures import bounded, seconds
    from bench.report import Plan, measure, tell

    if (rate is None) == (users is None):
        raise Rejected("give either --rate (open loop) or --users (closed loop)")
    plan = Plan(rate, users, seconds(duration), seconds(warmup), skus, definition)
    bounded(plan.duration, rate)
    console = Console(soft_wrap=True, highlight=False, stderr=json_output)
    with interruptible():
        try:
            with _system(console) as (env, found):
                result = uvloop.run(measure(plan, env, lambda: _pids(found)))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    tell(result, console)
    if json_output:
        show_json(result)
    if result["violations"] or result["refused"] or result["ended"] < result["accepted"]:
        raise typer.Exit(1)


@contextmanager
def _system(console: Console) -> Iterator[tuple[Mapping[str, str], tuple[Stack, Running] | None]]:
    if "FULCRUM_API" in os.environ:
        yield {**os.environ, "FULCRUM_NAMESPACE": os.environ.get("FULCRUM_NAMESPACE", "fulcrum")}, None
        return
    stack = Stack()
    was_up = stack.running
    addresses = stack.up(console.print)
    namespace = f"bench-{uuid4().hex[:6]}"
    database = namespace.replace("-", "_")
    create_database(addresses["FULCRUM_POSTGRES_DSN"], database)
    dsn = urlsplit(addresses["FULCRUM_POSTGRES_DSN"])._replace(path=f"/{database}").geturl()
    env = {"FULCRUM_POSTGRES_DSN": dsn, "FULCRUM_LOG_LEVEL": "warning"}
    try:
        with running(stack, say=console.print, namespace=namespace, env=env) as found:
            yield {**found.env, "FULCRUM_NAMESPACE": namespace}, (stack, found)
    finally:
        if not was_up:
            stack.down(console.print)


def _pids(found: tuple[Stack, Running] | None) -> dict[str, int]:
    """Every process of the stack, by name."""
    if found is None:
        return {}
    stack, system = found
    servers = {status.name: status.pid for status in stack.status() if status.pid}
    return {**system.supervisor.processes(), **servers}
