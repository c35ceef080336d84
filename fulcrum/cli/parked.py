"""``fulcrum parked``: messages that no worker could handle, and what to do about them."""

from __future__ import annotations

import getpass
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

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {
    "id": "id",
    "parked_at": "parked",
    "service": "service",
    "type": "type",
    "status": "status",
    "attempts": "attempts",
    "error_class": "error",
    "error": "",
}

ParkedId = Annotated[str, typer.Argument(help="Id in the list of parked messages.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the message.")]
Actor = Annotated[str | None, typer.Option(help="Who decides it; the user of this terminal if not given.")]


@app.command("list")
def list_(
    status: Annotated[
        str | None, typer.Option(help="parked, replaying, replayed or discarded; without it all.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the list before ended.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List parked messages, newest first."""
    page = Client().get("/v1/parked", status=status, limit=limit, cursor=cursor)
    show_rows(page["items"], _COLUMNS, output)
    if page["next_cursor"]:
        note(f"more: --cursor {page['next_cursor']}")
    elif not page["items"]:
        note("no parked messages")


@app.command("show")
def show(parked_id: ParkedId, output: OutputOption = Output.TABLE) -> None:
    """Show all that is kept of a parked message."""
    _show(Client().get(f"/v1/parked/{segment(parked_id)}"), output)


@app.command("replay")
def replay(
    parked_id: ParkedId, reason: Reason, actor: Actor = None, output: OutputOption = Output.TABLE
) -> None:
    """Send a message to its service again, under its own id."""
    _act("replay", parked_id, reason, actor, output)


@app.command("discard")
def discard(
    parked_id: ParkedId, reason: Reason, actor: Actor = None, output: OutputOption = Output.TABLE
) -> None:
    """Decide that a message is not needed."""
    _act("discard", parked_id, reason, actor, output)


def _act(act: str, parked_id: str, reason: str, actor: str | None, output: Output) -> None:
    body = {"actor": actor or getpass.getuser(), "reason": reason}
    message = Client().post(f"/v1/parked/{segment(parked_id)}/{act}", body).body
    if output is Output.TABLE:
        typer.echo(f"{message['id']} {message['status']}")
    else:
        _show(message, output)


def _show(message: Mapping[str, Any], output: Output) -> None:
    if output is Output.TABLE:
        show_fields(message)
    elif output is Output.JSON:
        show_json(message)
    else:
        show_line(message)
