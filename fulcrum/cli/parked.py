"""``fulcrum parked``: messages that no worker could handle, seen, grouped by cause, and edited."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Mapping
from pathlib import Path
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
from fulcrum.cli.parked_acts import (
    Actor,
    Group,
    Reason,
    Service,
    Since,
    Type,
    Until,
    Workflow,
    discard,
    replay,
    restore,
    selected,
)
from fulcrum.errors import Rejected

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {
    "id": "id",
    "parked_at": "parked",
    "service": "service",
    "type": "type",
    "status": "status",
    "attempts": "attempts",
    "fingerprint": "group",
    "error_class": "error",
    "error": "",
}
_KEY_COLUMNS = {
    "outbox": "outbox",
    "key": "key",
    "key_text": "as text",
    "rows": "events",
    "parked_at": "parked",
    "error": "error",
}
_GROUP_COLUMNS = {
    "fingerprint": "group",
    "service": "service",
    "type": "type",
    "waiting": "waiting",
    "last_hour": "1 h",
    "last_day": "24 h",
    "last_week": "7 d",
    "last_seen": "last seen",
    "error_class": "error",
    "error": "",
    "owner": "owner",
    "note": "note",
}

ParkedId = Annotated[str, typer.Argument(help="Id in the list of parked messages.")]


@app.command("list")
def list_(
    status: Annotated[
        str | None, typer.Option(help="parked, replaying, replayed, edited or discarded; without it all.")
    ] = None,
    service: Service = None,
    type_: Type = None,
    group: Group = None,
    workflow: Workflow = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the list before ended.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List parked messages, newest first."""
    chosen = selected(service, type_, group, workflow, since, until)
    page = Client().get("/v1/parked", status=status, limit=limit, cursor=cursor, **chosen)
    show_rows(page["items"], _COLUMNS, output)
    if page["next_cursor"]:
        note(f"more: --cursor {page['next_cursor']}")
    elif not page["items"]:
        note("no parked messages")


@app.command("groups")
def groups(
    service: Service = None,
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the causes for which messages were parked, those with the most that wait first."""
    found = Client().get("/v1/parked-groups", service=service, limit=limit)
    show_rows(found["items"], _GROUP_COLUMNS, output)
    if not found["items"]:
        note("no parked messages wait, and none was parked within 7 days")


@app.command("note")
def note_(
    group: Annotated[str, typer.Argument(help="Fingerprint of the group.")],
    text: Annotated[str, typer.Argument(help="What is known about it, in one line.")],
    owner: Annotated[str | None, typer.Option(help="Who looks after it.")] = None,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Note what is known about a group, in place of what was noted before."""
    body = {"actor": actor or getpass.getuser(), "note": text, "owner": owner}
    _show(Client().post(f"/v1/parked-groups/{segment(group)}/note", body).body, output)


@app.command("show")
def show(parked_id: ParkedId, output: OutputOption = Output.TABLE) -> None:
    """Show all that is kept of a parked message."""
    _show(Client().get(f"/v1/parked/{segment(parked_id)}"), output)


@app.command("keys")
def keys(
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the keys of outboxes that have stopped, because Kafka does not take one of their events."""
    found = Client().get("/v1/parked-keys", limit=limit)
    show_rows(found["items"], _KEY_COLUMNS, output)
    if not found["items"]:
        note("no key is parked")


@app.command("release")
def release(
    outbox: Annotated[str, typer.Argument(help="intake, payments, inventory, warehouse or courier.")],
    key: Annotated[str, typer.Argument(help="The key as `fulcrum parked keys` shows it.")],
    reason: Reason,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a key go on: its events are sent in their order, as soon as the relay begins anew."""
    body = {"actor": actor or getpass.getuser(), "reason": reason}
    released = Client().post(f"/v1/parked-keys/{segment(outbox)}/{segment(key)}/release", body).body
    if output is Output.TABLE:
        typer.echo(f"{released['total']} events of {outbox} go on")
    else:
        _show(released, output)


@app.command("edit")
def edit(
    parked_id: ParkedId,
    patch: Annotated[Path, typer.Option("--patch", help="JSON Patch of the decoded body; - reads stdin.")],
    reason: Reason,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a message changed, under a new id, in place of the old one. Off by default."""
    body = {"actor": actor or getpass.getuser(), "reason": reason, "patch": _patch(patch)}
    message = Client().post(f"/v1/parked/{segment(parked_id)}/edit", body).body
    if output is Output.TABLE:
        typer.echo(f"{message['id']} {message['status']} as {message['edited_as']}")
    else:
        _show(message, output)


for _name, _act in (("replay", replay), ("discard", discard), ("restore", restore)):
    app.command(_name)(_act)


def _patch(file: Path) -> object:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise Rejected(f"--patch {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Rejected(f"--patch {file} is not JSON: {error}") from error


def _show(message: Mapping[str, Any], output: Output) -> None:
    if output is Output.TABLE:
        show_fields(message)
    elif output is Output.JSON:
        show_json(message)
    else:
        show_line(message)
