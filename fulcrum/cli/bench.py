"""``fulcrum bench``: load on the real stack, what it costs, and whether everything still holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
import uvloop
from rich.console import Console

from fulcrum.cli.measured import measured
from fulcrum.errors import Rejected
from fulcrum.localstack import running
from fulcrum.saga.definitions import DEFAULT_DEFINITION, DEFINITIONS

if TYPE_CHECKING:
    from bench.alone import Alone

    _System = tuple[Mapping[str, str], Callable[[], dict[str, int]], Alone | None]

app = typer.Typer()

#: Benchmarks of one part: the module that has a function of that name.
_PARTS: dict[str, str] = {
    "relay": "fulcrum.cli.bench_relay",
    "payment": "fulcrum.cli.bench_payment",
    "inventory": "fulcrum.cli.bench_inventory",
    "poison": "fulcrum.cli.bench_poison",
    "outage": "fulcrum.cli.bench_outage",
    "projection": "fulcrum.cli.bench_projection",
    "rebuild": "fulcrum.cli.bench_rebuild",
    "reads": "fulcrum.cli.bench_reads",
}


@app.callback(invoke_without_command=True)
def system(
    context: typer.Context,
    rate: Annotated[float | None, typer.Option(help="Open loop: intents a second; 2000 at most.")] = None,
    users: Annotated[int | None, typer.Option(min=1, max=1000, help="Closed loop: how many users.")] = None,
    duration: Annotated[str, typer.Option("--for", help="How long, such as 30s; 10m at most.")] = "30s",
    warmup: Annotated[str, typer.Option(help="How long before anything is counted.")] = "5s",
    skus: Annotated[int, typer.Option("--sku-count", min=1, max=10_000, help="Over how many SKUs.")] = 100,
    definition: Annotated[str, typer.Option(help="Which workflow.")] = DEFAULT_DEFINITION,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure the whole system, unless a part is named.

    Without a sub-command: the whole system. Each sub-command measures one part by itself.

    Servers and roles are started for it, on names of their own that are removed at the end. With FULCRUM_API
    set, the system there is measured instead, without the cost of its processes.
    """
    if context.invoked_subcommand is not None:
        return
    from bench.figures import bounded, seconds
    from bench.report import tell
    from bench.run import Plan, failed, measure

    if (rate is None) == (users is None):
        raise Rejected("give either --rate (open loop) or --users (closed loop)")
    if definition not in DEFINITIONS:
        raise Rejected(f"--definition {definition!r} is unknown; one of {', '.join(DEFINITIONS)}")
    plan = Plan(rate, users, seconds(duration), seconds(warmup), skus, definition)
    bounded(plan.duration, plan.warmup, rate)

    def measuring(console: Console) -> dict[str, Any]:
        with _system(console) as (env, processes, own):
            result = uvloop.run(measure(plan, env, processes))
            if own is not None:
                own.keep = bool(result["violations"])
            return result

    measured("bench", json_output, measuring, tell, failed)


@contextmanager
def _system(console: Console) -> Iterator[_System]:
    """What is measured: its addresses, its processes by name, and the names it has to itself.

    Of a system that runs elsewhere no process is seen, and nothing is removed.
    """
    from bench.alone import alone

    if "FULCRUM_API" in os.environ:
        yield {"FULCRUM_NAMESPACE": "fulcrum", **os.environ}, dict, None
        return
    with (
        alone(console.print) as own,
        running(own.stack, say=console.print, env=own.env) as found,
    ):
        yield found.env, lambda: {**found.supervisor.processes(), **own.processes()}, own


for _name, _module in _PARTS.items():
    app.command(_name)(getattr(import_module(_module), _name))
