"""``fulcrum bench rebuild``: how fast the read model is rebuilt from journals of several sizes."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from fulcrum.cli.client import Output, show_json, show_rows
from fulcrum.cli.exits import Exit
from fulcrum.cli.interrupt import interruptible
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
    from bench.cost import SELF
    from bench.rebuild import measure

    sizes = _sizes(events)
    console = Console(soft_wrap=True, highlight=False, stderr=json_output)
    runs = []
    with interruptible():
        try:
            for size in sizes:
                with alone(console.print) as own:
                    own.prepare(console.print)
                    settings = own.settings()
                    found = asyncio.run(conditions(settings))
                    before = strain()
                    measured = measure(settings, size, own.processes())
                    runs.append({**measured, "before": before, "after": strain()})
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
    if json_output:
        show_json({"conditions": found, "runs": runs})
    else:
        shown = [{**run, "cpu": run["cpu_us_per_event"][SELF]} for run in runs]
        show_rows(shown, _COLUMNS, Output.TABLE)
    if faults := [fault for run in runs for fault in run["faults"]]:
        typer.echo(f"bench: {'; '.join(faults)}", err=True)
        raise typer.Exit(Exit.FAILED)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise Rejected(f"--events {text!r}: give numbers with commas, such as 10000,100000") from None
    for size in sizes:
        if not _SMALLEST <= size <= _LARGEST:
            raise Rejected(f"--events {size}: give {_SMALLEST} to {_LARGEST}")
    return sizes
