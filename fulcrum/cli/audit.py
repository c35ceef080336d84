"""``fulcrum audit``: who changed what, when and why."""

from __future__ import annotations

from typing import Annotated

import typer

from fulcrum.cli.client import Client, Output, OutputOption, note, show_rows

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {
    "at": "at",
    "actor": "who",
    "source": "by",
    "action": "what",
    "target": "target",
    "outcome": "outcome",
    "detail": "detail",
    "before": "before",
    "after": "after",
    "reason": "reason",
    "request_id": "request",
}


@app.callback()
def audit() -> None:
    """Who changed what, when and why."""


@app.command("list")
def list_(
    actor: Annotated[str | None, typer.Option(help="Only what they did.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Only what was done to it: an id, a SKU, a fingerprint or OUTBOX/KEY.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only from this time on, ISO 8601 with its zone.")] = None,
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the list before ended.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what people and programs changed, newest first.

    `began` without an end is still under way, or was cut short.
    """
    page = Client().get("/v1/audit", actor=actor, target=target, since=since, limit=limit, cursor=cursor)
    show_rows(page["items"], _COLUMNS, output)
    if page["next_cursor"]:
        note(f"more: --cursor {page['next_cursor']}")
    elif not page["items"]:
        note("nothing was changed, as far as this selects")
