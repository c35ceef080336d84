"""``fulcrum bench outage``: how a service that was away catches up while the load goes on."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from fulcrum.cli.measured import measured
from fulcrum.errors import Rejected

_LONGEST = 600.0
_SHOWN = ("offered", "backlog", "backlog_gone_s", "caught_up_s", "handled_per_s_meanwhile", "overtaken")


def outage(
    service: Annotated[str, typer.Option(help="Which service is away: inventory or payment.")] = "inventory",
    duration: Annotated[str, typer.Option("--for", help="For how long, such as 2m; 10m at most.")] = "2m",
    most: Annotated[
        float, typer.Option("--rate", min=1, max=2000, help="Offer so many commands a second at most.")
    ] = 2000,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Stop a service's worker at half load, and see it catch up, oldest first.

    Servers and roles are started for it, on names of their own. Exit code 1 when a command is lost, when
    catching up takes longer than the outage did, or when commands overtake each other.
    """
    from bench.alone import alone
    from bench.figures import seconds
    from bench.outage import Plan, failed, measure

    away = seconds(duration)
    if service not in ("inventory", "payment"):
        raise Rejected(f"--service {service!r} is unknown; one of inventory, payment")
    if not 1 <= away <= _LONGEST:
        raise Rejected(f"--for {duration}: give 1s to {_LONGEST:g}s")

    def measuring(console: Console) -> dict[str, Any]:
        with alone(console.print) as own:
            own.prepare(console.print)
            result = uvloop.run(measure(Plan(service, away, most), own, console.print))
            own.keep = bool(result["missing"])
            return result

    measured("bench outage", json_output, measuring, _tell, failed)


def _tell(result: dict[str, Any], console: Console) -> None:
    for name in _SHOWN:
        console.print(f"{name:24} {result[name]}", markup=False)
