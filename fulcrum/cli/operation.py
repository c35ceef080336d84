"""``fulcrum op``: what is being done to many messages, how far it is, and how it is held up or ended."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fulcrum.cli.client import (
    Client,
    Output,
    OutputOption,
    note,
    segment,
    show_fields,
    show_json,
    show_line,
    show_rows,
)
from fulcrum.cli.exits import Exit

app = typer.Typer(no_args_is_help=True)

_LOOK_EVERY = 0.3
_MOVING = ("pending", "running")
_COLUMNS = {
    "id": "id",
    "kind": "kind",
    "state": "state",
    "total": "total",
    "succeeded": "succeeded",
    "failed": "failed",
    "skipped": "skipped",
    "pending": "pending",
    "created_at": "created",
    "actor": "by",
    "reason": "reason",
}
_ITEM_COLUMNS = {
    "number": "#",
    "parked_id": "parked message",
    "state": "state",
    "outcome": "outcome",
    "ended_at": "ended",
}

OperationId = Annotated[str, typer.Argument(help="Id of the operation.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the operation.")]
Actor = Annotated[str | None, typer.Option(help="Who decides it; the user of this terminal if not given.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the end before exit code 8.")]


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only those of this state.")] = None,
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the list before ended.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List operations, newest first."""
    page = Client().get("/v1/operations", state=state, limit=limit, cursor=cursor)
    show_rows(page["items"], _COLUMNS, output)
    if page["next_cursor"]:
        note(f"more: --cursor {page['next_cursor']}")
    elif not page["items"]:
        note("no operations; `fulcrum parked replay --group FINGERPRINT --reason ...` starts one")


@app.command("show")
def show(
    operation_id: OperationId,
    items: Annotated[bool, typer.Option("--items", help="Each message and what became of it.")] = False,
    state: Annotated[str | None, typer.Option(help="With --items, only those of this state.")] = None,
    limit: Annotated[int, typer.Option(help="With --items, how many, 200 at most.")] = 50,
    after: Annotated[int, typer.Option(help="With --items, where the list before ended.")] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show an operation with its counts, or what became of each message."""
    client = Client()
    if not items:
        show_operation(client.get(_path(operation_id)), output)
        return
    page = client.get(f"{_path(operation_id)}/items", state=state, limit=limit, after=after)
    show_rows(page["items"], _ITEM_COLUMNS, output)
    if page["next_after"]:
        note(f"more: --after {page['next_after']}")


@app.command("watch")
def watch(operation_id: OperationId, timeout: Timeout = 300.0, output: OutputOption = Output.TABLE) -> None:
    """Print the counts as they move, until the operation ends or needs a person.

    Exit code 6 when some messages failed, 1 when all did or it did not come to its end.
    """
    follow(Client(), operation_id, timeout, output)


@app.command("pause")
def pause(
    operation_id: OperationId, reason: Reason, actor: Actor = None, output: OutputOption = Output.TABLE
) -> None:
    """Hold an operation up; the message in hand is finished."""
    _control("pause", operation_id, reason, actor, output)


@app.command("resume")
def resume(
    operation_id: OperationId, reason: Reason, actor: Actor = None, output: OutputOption = Output.TABLE
) -> None:
    """Let an operation go on that is paused, or that stopped by itself."""
    _control("resume", operation_id, reason, actor, output)


@app.command("abort")
def abort(
    operation_id: OperationId, reason: Reason, actor: Actor = None, output: OutputOption = Output.TABLE
) -> None:
    """End an operation; messages that it has not begun stay as they are."""
    _control("abort", operation_id, reason, actor, output)


def _control(act: str, operation_id: str, reason: str, actor: str | None, output: Output) -> None:
    body = {"actor": actor or getpass.getuser(), "reason": reason}
    operation = Client().post(f"{_path(operation_id)}/{act}", body).body
    if output is Output.TABLE:
        typer.echo(told(operation))
    else:
        show_operation(operation, output)


def follow(client: Client, operation_id: str, timeout: float, output: Output) -> None:
    """Print the operation as it moves; sets the exit code."""
    deadline = time.monotonic() + timeout
    seen = ""
    try:
        while True:
            operation = client.get(_path(operation_id))
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


def _path(operation_id: str) -> str:
    return f"/v1/operations/{segment(operation_id)}"
