"""How a measured run is told to people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_SHOWN = 20


def tell(result: Mapping[str, Any], console: Console) -> None:
    """Print the result of ``bench.run.measure``."""
    _conditions(result, console)
    _figures(result, console)
    _costs(result, console)
    _invariants(result, console)


def _conditions(result: Mapping[str, Any], console: Console) -> None:
    plan, found, before, after = (result[name] for name in ("plan", "conditions", "before", "after"))
    is_open = plan["rate"] is not None
    kind = f"open loop, {plan['rate']:g}/s" if is_open else f"closed loop, {plan['users']} users"
    begins = "the time at which it was due" if is_open else "the answer to its intent"
    servers = ("settings", "postgres", "kafka", "rabbitmq", "redis", "packages")
    lines = [
        f"\n{kind}, for {plan['duration']:g} s after {plan['warmup']:g} s of warm-up",
        f"{plan['definition']}, {plan['skus']} SKUs",
        f"{found['cores']} cores, {found['memory_gb']} GB, Linux {found['kernel']}, Python {found['python']}",
        f"load average {before['load_average']} before, {after['load_average']} after",
        f"calibration loop {before['calibration_s']} s before, {after['calibration_s']} s after",
        *(f"{name}: {_pairs(found[name])}" for name in servers),
        f"A workflow's time runs from {begins} to the arrival of its final decision on Kafka.",
    ]
    for line in lines:
        console.print(line, markup=False)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _figures(result: Mapping[str, Any], console: Console) -> None:
    table = Table("figure", "value")
    for name in ("sent", "refused", "accepted", "completed", "cancelled", "unfinished"):
        table.add_row(name, str(result[name]))
    for name, title in (("accepted_per_s", "accepted/s"), ("completed_per_s", "completed/s")):
        table.add_row(title, str(result[name]))
    titles = {
        "late_ms": "sent late, ms",
        "intake_ms": "intake, ms",
        "accept_to_complete_ms": "accept to complete, ms",
        **{f"stages_ms/{name}": f"  {name}" for name in result["stages_ms"]},
    }
    values = {**result, **{f"stages_ms/{name}": value for name, value in result["stages_ms"].items()}}
    for name, title in titles.items():
        table.add_row(title, "  ".join(f"{share} {_number(v)}" for share, v in values[name].items()))
    console.print(table)
    hops = Table("hop", "p50 ms", "p99 ms")
    for name, shares in result["hops_ms"].items():
        hops.add_row(name, *map(_number, shares.values()))
    console.print(hops)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _costs(result: Mapping[str, Any], console: Console) -> None:
    table = Table("process", "CPU ms a saga", "RSS MB")
    for name, each in result["processes"].items():
        table.add_row(name, f"{each['cpu_ms_a_saga']:.2f}", f"{each['rss_mb']:.0f}")
    everything = [each for name, each in result["processes"].items() if name != "bench"]
    if everything:
        cpu = sum(each["cpu_ms_a_saga"] for each in everything)
        table.add_section()
        table.add_row("all but bench", f"{cpu:.2f}", f"{sum(each['rss_mb'] for each in everything):.0f}")
    console.print(table)
    if not everything:
        console.print("The processes of a system that runs elsewhere are not measured.")
    console.print(f"cores busy: {_pairs(result['cores_busy'])}", markup=False)


def _invariants(result: Mapping[str, Any], console: Console) -> None:
    broken = result["violations"]
    console.print(f"invariants: {'all hold' if not broken else f'{len(broken)} BROKEN'}")
    for violation in broken[:_SHOWN]:
        console.print(json.dumps(violation), markup=False)
    if len(broken) > _SHOWN:
        console.print(f"and {len(broken) - _SHOWN} more")
