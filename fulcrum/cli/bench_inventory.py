"""``fulcrum bench inventory``: reservations a second on a hot SKU and on many."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from fulcrum.cli.measured import measured
from fulcrum.errors import Rejected
from fulcrum.settings import load_settings


def inventory(
    skus: Annotated[str, typer.Option(help="Over how many SKUs, one run each.")] = "1,10,1000",
    in_flight: Annotated[str, typer.Option(help="Commands in flight on one SKU, one run each.")] = "1,8,64",
    processes: Annotated[str, typer.Option(help="Inventory processes at the queue, one run each.")] = "1,2",
    commands: Annotated[int, typer.Option(min=100, max=1_000_000, help="Reservations a run.")] = 20_000,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=500, help="Commands in a transaction; default: the setting.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure the inventory by itself; exit code 1 when stock and ledger differ afterwards.

    Fed directly, then through RabbitMQ. Servers and names are its own and removed at the end.
    """
    from bench.alone import alone
    from bench.inventory import Plan, measure

    plan = Plan(
        skus=_numbers("--skus", skus),
        in_flight=_numbers("--in-flight", in_flight),
        processes=_numbers("--processes", processes),
        commands=commands,
        batch_size=batch_size or load_settings().batch_size,
    )

    def measuring(console: Console) -> dict[str, Any]:
        with alone(console.print) as own:
            own.prepare(console.print)
            result = uvloop.run(measure(plan, own))
            own.keep = bool(result["violations"])
            return result

    measured("bench inventory", json_output, measuring, _tell, _failed)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """``1,10`` as numbers; none for an empty text."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and 0 < int(part) <= 100_000 for part in parts):
        raise Rejected(f"{option} {text!r}: give numbers from 1 to 100000, such as 1,10,1000")
    return tuple(int(part) for part in parts)


def _tell(result: dict[str, Any], console: Console) -> None:
    found, plan = result["conditions"], result["plan"]
    console.print(
        f"\n{plan['commands']} reservations a run ({plan['commands'] // 4} in flight), "
        f"at most {plan['batch_size']} in a transaction; {found['cores']} cores, Python {found['python']}"
    )
    console.print(f"load average {result['before']['load_average']} before", markup=False)
    console.print("postgres: " + ", ".join(f"{k} {v}" for k, v in found["postgres"].items()), markup=False)
    table = Table("fed", "SKUs", "in flight", "processes", "per second", "batch")
    for figure in result["figures"]:
        row = [figure[name] for name in ("way", "skus", "in_flight", "processes", "per_second", "batch")]
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table)
    broken = result["violations"]
    console.print(f"invariants: {'all hold' if not broken else f'{len(broken)} BROKEN: {broken}'}")


def _failed(result: dict[str, Any]) -> list[str]:
    return ["invariants are broken"] if result["violations"] else []
