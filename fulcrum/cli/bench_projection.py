"""``fulcrum bench projection``: how far the read model is behind the journal."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from fulcrum.cli.measured import measured
from fulcrum.localstack import running


def projection(
    rate: Annotated[float, typer.Option(help="Steady load: intents a second; 2000 at most.")] = 50,
    users: Annotated[
        int, typer.Option(min=1, max=1000, help="Saturation: so many users that never pause.")
    ] = 32,
    duration: Annotated[str, typer.Option("--for", help="How long each of the two, such as 30s.")] = "30s",
    warmup: Annotated[str, typer.Option(help="How long before anything is counted.")] = "5s",
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run the whole system and measure how late decisions are in the read model; exit code 1 past a target.

    Servers and roles are started for it, on names of their own that are removed at the end.
    """
    from bench.alone import alone
    from bench.figures import bounded, seconds
    from bench.projection import Plan, measure, missed

    plan = Plan(rate, users, seconds(duration), seconds(warmup))
    bounded(plan.duration, plan.warmup, rate)

    def measuring(console: Console) -> dict[str, Any]:
        with (
            alone(console.print) as own,
            running(own.stack, say=console.print, env=own.env) as found,
        ):
            return uvloop.run(measure(plan, found.env, console.print))

    measured("bench projection", json_output, measuring, _tell, missed)


def _tell(result: dict[str, Any], console: Console) -> None:
    under = result["conditions"]
    console.print(
        f"\n{under['cores']} cores, Python {under['python']}; "
        f"load average {result['before']['load_average']} before",
        markup=False,
    )
    table = Table("load", "completed/s", "decisions", "p50 ms", "p95 ms", "p99 ms", "worst ms", "target p99")
    for name, figure in result["figures"].items():
        shown = f"{name} {result['plan'][name]:g}"
        lags = (figure["lag_ms"][share] for share in ("p50", "p95", "p99", "p100"))
        values = (figure["completed_per_s"], figure["decisions"], *lags, figure["target_ms"])
        table.add_row(shown, *map(str, values))
    console.print(table)
