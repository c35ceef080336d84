"""``fulcrum bench reads``: how long readers wait when there are very many workflows."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from fulcrum.cli.measured import measured


def reads(
    workflows: Annotated[
        int, typer.Option(min=10_000, max=5_000_000, help="Workflows in the read model.")
    ] = 1_000_000,
    requests: Annotated[int, typer.Option(min=100, max=100_000, help="Answers for each figure.")] = 1000,
    readers: Annotated[int, typer.Option(min=1, max=100, help="Readers that ask at once.")] = 2,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fill the read model and measure workflows by id, lists and searches; exit code 1 past a target.

    Servers and names are its own and removed at the end.
    """
    from bench.alone import alone
    from bench.reads import Plan, measure, missed

    def measuring(console: Console) -> dict[str, Any]:
        with alone(console.print) as own:
            own.prepare(console.print)
            return uvloop.run(measure(Plan(workflows, requests, readers), own, console.print))

    measured("bench reads", json_output, measuring, _tell, missed)


def _tell(result: dict[str, Any], console: Console) -> None:
    found, plan = result["conditions"], result["plan"]
    console.print(
        f"\n{plan['workflows']} workflows, {plan['readers']} readers; {found['cores']} cores, "
        f"Python {found['python']}; load average {result['before']['load_average']} before",
        markup=False,
    )
    console.print("postgres: " + ", ".join(f"{k} {v}" for k, v in found["postgres"].items()), markup=False)
    console.print("megabytes: " + ", ".join(f"{k} {v}" for k, v in result["megabytes"].items()), markup=False)
    table = Table("figure", "answers", "p50 ms", "p99 ms", "worst ms")
    for name, figure in result["figures"].items():
        table.add_row(name, *(str(figure[each]) for each in ("answers", "p50", "p99", "p100")))
    console.print(table)
