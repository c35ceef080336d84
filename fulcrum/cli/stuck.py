"""``fulcrum stuck``: workflows that do not move by themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from fulcrum.attention.rules import NAMES, RULES
from fulcrum.cli.client import Client, Output, OutputOption, note, show_rows
from fulcrum.cli.exits import Exit

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {
    "workflow_id": "workflow",
    "rule": "rule",
    "since": "since",
    "detail": "detail",
    "suggestion": "suggestion",
}
_SILENT = frozenset(rule.name for rule in RULES if not rule.alarms)


@app.callback()
def stuck() -> None:
    """Workflows that do not move by themselves."""


@app.command("list")
def list_(
    rule: Annotated[str | None, typer.Option(help=f"Only those that match it: {', '.join(NAMES)}.")] = None,
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the list before ended.")] = None,
    fail: Annotated[
        bool, typer.Option("--fail", help="Exit code 10 when there are any; paused ones do not count.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List workflows that do not move, and the command that helps; the longest-standing first."""
    client = Client()
    page = client.get("/v1/attention", rule=rule, limit=limit, cursor=cursor)
    show_rows(page["items"], _COLUMNS, output)
    if page["next_cursor"]:
        note(f"more: --cursor {page['next_cursor']}")
    elif not page["items"]:
        note("every workflow moves")
    if fail and _alarming(client, rule, page["items"]):
        raise typer.Exit(Exit.FOUND)


def _alarming(client: Client, rule: str | None, items: list[dict[str, str]]) -> bool:
    """Whether any workflow matches a rule that raises an alarm, on whatever page."""
    if any(item["rule"] not in _SILENT for item in items):
        return True
    wanted = [rule] if rule is not None else [name for name in NAMES if name not in _SILENT]
    return any(
        client.get("/v1/attention", rule=name, limit=1)["items"] for name in wanted if name not in _SILENT
    )
