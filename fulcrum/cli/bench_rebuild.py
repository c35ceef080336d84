"""``fulcrum bench rebuild``: how fast the read model is rebuilt from journals of several sizes."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fulcrum.cli.measured import measured
from fulcrum.errors import Rejected

_SMALLEST, _LARGEST = 1000, 5_000_000
_COLUMNS = {
    "events": "events",
    "rebuild_s": "seconds",
    "events_per_s": "events/s",
    "cpu": "CPU us/event",
    "bytes_per_event": "bytes/event",
}


def rebuild(
    events: Annotated[str, typer.Option(help="Sizes of the journal in decisions, with commas.")] = (
        "10000,100000"
    ),
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Rebuild the read model from synthetic journals; exit code 1 when a decision is missing afterwards.

    Each size has names of its own on the servers, which are removed at the end.
    """
    from bench.alone import alone
    from bench.conditions import conditions, strain
    from bench.rebuild import measure

    sizes = _sizes(events)

    def measuring(console: Console) -> dict[str, Any]:
        runs = []
        for size in sizes:
            with alone(console.print) as own:
                own.prepare(console.print)
                settings = own.settings()
                found = asyncio.run(conditions(settings))
                before = strain()
                rebuilt = measure(settings, size, own.processes())
                runs.append({**rebuilt, "before": before, "after": strain()})
        return {"conditions": found, "runs": runs}

    measured("bench rebuild", json_output, measuring, _tell, _failed)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise Rejected(f"--events {text!r}: give numbers with commas, such as 10000,100000") from None
    for size in sizes:
        if not _SMALLEST <= size <= _LARGEST:
            raise Rejected(f"--events {size}: give {_SMALLEST} to {_LARGEST}")
    return sizes


def _tell(result: dict[str, Any], console: Console) -> None:
    table = Table(*_COLUMNS.values())
    for run in result["runs"]:
        shown = {**run, "cpu": run["cpu_us_per_event"]["bench"]}
        table.add_row(*(str(shown[name]) for name in _COLUMNS))
    console.print(table)


def _failed(result: dict[str, Any]) -> list[str]:
    return [fault for run in result["runs"] for fault in run["faults"]]
