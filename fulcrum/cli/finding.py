"""``fulcrum wf list``, ``wf find`` and ``wf counts``: which workflows are there, and how many?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fulcrum.cli.client import Client, Output, OutputOption, note, show_json, show_line, show_rows
from fulcrum.errors import NotFound

_COLUMNS = {
    "workflow_id": "workflow",
    "status": "status",
    "step": "waits for",
    "version": "version",
    "definition": "definition",
    "tenant": "tenant",
    "started_at": "started",
    "reason": "reason",
}
_FOUND = {"what": "found as", "transition": "transition", **_COLUMNS}


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_)
    app.command("find")(find)
    app.command("counts")(counts)


def list_(
    status: Annotated[str | None, typer.Option(help="Only those of this status.")] = None,
    paused: Annotated[
        bool | None, typer.Option("--paused/--not-paused", help="Only paused ones, or only the others.")
    ] = None,
    attention: Annotated[
        bool | None,
        typer.Option("--attention/--no-attention", help="Only those that need attention, or the others."),
    ] = None,
    step: Annotated[str | None, typer.Option(help="Only those that wait for this step.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only those of this tenant.")] = None,
    definition: Annotated[str | None, typer.Option(help="Only those of this definition.")] = None,
    sku: Annotated[str | None, typer.Option(help="Only those with a line of this SKU.")] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only those that started so long ago, such as 90s, 4h or 7d.")
    ] = None,
    started_before: Annotated[str | None, typer.Option(help="Such as 2026-03-01T12:00:00Z.")] = None,
    started_after: Annotated[str | None, typer.Option(help="Such as 2026-03-01T12:00:00Z.")] = None,
    limit: Annotated[int, typer.Option(help="How many, 200 at most.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(help="Where the list before ended; give the same filters again.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List workflows, newest first."""
    given = {
        "status": status,
        "paused": _flag(paused),
        "attention": _flag(attention),
        "step": step,
        "tenant": tenant,
        "definition": definition,
        "sku": sku,
        "older_than": older_than,
        "started_before": started_before,
        "started_after": started_after,
    }
    page = Client().get("/v1/workflows", **given, limit=limit, cursor=cursor)
    show_rows(page["items"], _COLUMNS, output)
    if page["next_cursor"]:
        note(f"more: --cursor {page['next_cursor']}")
    elif not page["items"]:
        filtered = any(value is not None for value in (*given.values(), cursor))
        hint = "leave a filter out" if filtered else "`fulcrum wf start -f intent.json` starts one"
        note(f"no workflows; {hint}")


def find(
    text: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Id of a workflow, intent, command or event; correlation id; customer_ref; SKU.",
        ),
    ],
    output: OutputOption = Output.TABLE,
) -> None:
    """Find the workflows that an id belongs to, and what it is to them; exit code 3 when there is none."""
    result = Client().get("/v1/search", q=text)
    if not result["items"]:
        raise NotFound(f"no workflow has to do with {text!r}; ids are given whole")
    if output is Output.JSON:
        show_json(result)
    elif output is Output.NDJSON:
        for each in result["items"]:
            show_line(each)
    else:
        show_rows([_row(each) for each in result["items"]], _FOUND, output)
    if result["more"]:
        note("only the newest are shown; `fulcrum wf list --sku` pages through those of a SKU")


def counts(
    tenant: Annotated[str | None, typer.Option(help="Only those of this tenant.")] = None,
    limit: Annotated[int, typer.Option(help="How many tenants, 200 at most.")] = 50,
    after: Annotated[str | None, typer.Option(help="Where the list of tenants before ended.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Count the workflows of each status, all of them and those of each tenant; exact, and of one moment."""
    counted = Client().get("/v1/workflows/counts", tenant=tenant, limit=limit, after=after)
    if output is Output.JSON:
        show_json(counted)
        return
    if output is Output.NDJSON:
        for each in counted["tenants"]:
            show_line(each)
    else:
        columns = {name: name for name in ("tenant", "total", *counted["by_status"])}
        rows = [{"tenant": "all", **counted}, *counted["tenants"]]
        show_rows([{**row, **row["by_status"]} for row in rows], columns, output)
    if counted["next_after"]:
        note(f"more tenants: --after {counted['next_after']}")


def _row(found: dict[str, Any]) -> dict[str, Any]:
    return {"what": found["what"], "transition": found["version"], **found["workflow"]}


def _flag(given: bool | None) -> str | None:
    return None if given is None else str(given).lower()
