"""``fulcrum bench poison``: what one message in a thousand that cannot be handled costs the others."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from fulcrum.cli.measured import measured
from fulcrum.errors import Rejected


def poison(
    service: Annotated[list[str] | None, typer.Option(help="Which service; both unless named.")] = None,
    commands: Annotated[
        int, typer.Option(min=1000, max=20_000, help="Good commands in one drain of the queue.")
    ] = 4000,
    every: Annotated[int, typer.Option(min=100, help="One bad message to so many good ones.")] = 1000,
    rounds: Annotated[int, typer.Option(min=2, max=30, help="Drains with bad messages, and without.")] = 6,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Drain a queue with and without messages that cannot be handled, in turn.

    Every other bad message is a command whose handling always fails, the rest are bytes that no reader can
    decode. Servers and roles are started for it, on names of their own. Exit code 1 when a service loses more
    than 5 % of its throughput.
    """
    from bench.alone import alone
    from bench.poison import RETRY_UNIT, Plan, failed, measure

    services = service or ["inventory", "payment"]
    if unknown := set(services) - {"inventory", "payment"}:
        raise Rejected(f"--service {min(unknown)!r} is unknown; one of inventory, payment")
    if every > commands:
        raise Rejected(f"--every {every}: give at most --commands {commands}, or no message is bad")
    plan = Plan(services, commands, every, rounds)

    def measuring(console: Console) -> dict[str, Any]:
        with alone(console.print, {"FULCRUM_RETRY_UNIT": str(RETRY_UNIT)}) as own:
            own.prepare(console.print)
            return uvloop.run(measure(plan, own, console.print))

    measured("bench poison", json_output, measuring, _tell, failed)


def _tell(result: dict[str, Any], console: Console) -> None:
    table = Table("service", "good commands", "without", "with", "cost %", "noise %", "verdict")
    for name, compared in result["services"].items():
        for figure, each in compared.items():
            shown = ("without", "with", "cost_percent", "noise_percent", "verdict")
            table.add_row(name, figure, *(str(each[column]) for column in shown))
    console.print(table)
