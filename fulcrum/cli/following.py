"""How is an operation shown on a terminal while it moves and when it has ended?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import typer

from fulcrum.cli.client import Client, Output, note, segment, show_fields, show_json, show_line
from fulcrum.cli.exits import Exit

_LOOK_EVERY = 0.3
_MOVING = ("pending", "running")


def follow(client: Client, operation_id: str, timeout: float, output: Output) -> None:
    """Print the operation as it moves; sets the exit code."""
    deadline = time.monotonic() + timeout
    seen = ""
    try:
        while True:
            operation = client.get(path_of(operation_id))
            if (line := told(operation)) != seen:
                seen = line
                if output is Output.TABLE:
                    typer.echo(line)
                elif output is Output.NDJSON:
                    show_line(operation)
            if operation["state"] not in _MOVING or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    if output is Output.JSON:
        show_json(operation)
    if operation["state"] in _MOVING:
        note(f"still {operation['state']} after {timeout:g} s; it goes on by itself")
        raise typer.Exit(Exit.TIMED_OUT)
    if operation["state"] != "done" or operation["failed"]:
        some = operation["state"] == "done" and operation["succeeded"]
        raise typer.Exit(Exit.PARTIAL if some else Exit.FAILED)


def told(operation: Mapping[str, Any]) -> str:
    """An operation on one line."""
    counts = ", ".join(f"{operation[name]} {name}" for name in ("succeeded", "failed", "skipped", "pending"))
    why = f" ({operation['why']})" if operation["why"] else ""
    return (
        f"{operation['id']} {operation['kind']} {operation['state']}{why}: {counts} of {operation['total']}"
    )


def show_operation(operation: Mapping[str, Any], output: Output) -> None:
    """An operation whole."""
    if output is Output.TABLE:
        show_fields(operation)
    elif output is Output.JSON:
        show_json(operation)
    else:
        show_line(operation)


def path_of(operation_id: str) -> str:
    """Where the API has the operation."""
    return f"/v1/operations/{segment(operation_id)}"
