"""``fulcrum op``: what is being done to many messages, how far it is, and how it is held up or ended."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from fulcrum.cli.client import Client, Output, OutputOption, note, show_rows
from fulcrum.cli.following import follow, path_of, show_operation, told
from fulcrum.cli.op_start import start

app = typer.Typer(no_args_is_help=True)
app.command("start")(start)

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
    "workflow_id": "workflow",
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
        note("no operations; `fulcrum op start` and `fulcrum parked replay` start one")


@app.command("show")
def show(
    operation_id: OperationId,
    items: Annotated[bool, typer.Option("--items", help="Each item and what became of it.")] = False,
    state: Annotated[str | None, typer.Option(help="With --items, only those of this state.")] = None,
    limit: Annotated[int, typer.Option(help="With --items, how many, 200 at most.")] = 50,
    after: Annotated[int, typer.Option(help="With --items, where the list before ended.")] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show an operation with its counts, or what became of each item."""
    client = Client()
    if not items:
        show_operation(client.get(path_of(operation_id)), output)
        return
    page = client.get(f"{path_of(operation_id)}/items", state=state, limit=limit, after=after)
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
    """Hold an operation up; what is in hand is finished."""
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
    """End an operation; what it has not begun stays as it is."""
    _control("abort", operation_id, reason, actor, output)


def _control(act: str, operation_id: str, reason: str, actor: str | None, output: Output) -> None:
    body = {"actor": actor or getpass.getuser(), "reason": reason}
    operation = Client().post(f"{path_of(operation_id)}/{act}", body).body
    if output is Output.TABLE:
        typer.echo(told(operation))
    else:
        show_operation(operation, output)
