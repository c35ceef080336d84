"""``fulcrum wf watch``: one workflow as it moves, or whatever moves."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from fulcrum.cli.client import Client, Output, OutputOption, clock, note, segment, show_json, show_line
from fulcrum.cli.event_stream import follow
from fulcrum.cli.exits import Exit
from fulcrum.cli.printing import show_entry, show_parts, state_of
from fulcrum.errors import Rejected
from fulcrum.readmodel.projection import FINAL

_WATCHED = 50


def watch(
    workflow_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the workflow; without it, all that move.")
    ] = None,
    after: Annotated[int, typer.Option(min=0, help="With an id: only what comes behind this version.")] = 0,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="With an id: seconds to wait for the end before exit code 8.")
    ] = None,
    status: Annotated[str | None, typer.Option(help="Without an id: only those of this status.")] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Without an id: seconds between looks.")] = 1.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the transitions of a workflow as they happen, to its end; or each of the newest that moves.

    A workflow is followed over restarts of intake: nothing is told twice or left out. Exit code 0 when it
    completes, 1 when it ends otherwise. Without an id it goes on until interrupted.
    """
    client = Client()
    try:
        if workflow_id is not None:
            _one(client, workflow_id, after, timeout, output)
        else:
            _newest(client, status, every, output)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


def _one(client: Client, workflow_id: str, after: int, timeout: float | None, output: Output) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    entries: list[Any] = []
    status: str | None = None
    for heard in follow(client, workflow_id, after, deadline, note):
        if heard.event == "finished":
            status = heard.data["status"]
        elif output is Output.TABLE:
            show_entry(heard.data)
        elif output is Output.NDJSON:
            show_line(heard.data)
        else:
            entries.append(heard.data)
    if output is Output.JSON:
        show_json(entries)
    if status is None:
        # It had ended before, or it has not: the stream of the first is empty, that of the second cut off.
        status = client.get(f"/v1/workflows/{segment(workflow_id)}")["status"]
    if status not in FINAL:
        note(f"still {status}: go on with --after and the version of the last line")
        raise typer.Exit(Exit.TIMED_OUT)
    note(f"{workflow_id} {status}")
    if status != "completed":
        raise typer.Exit(Exit.FAILED)


def _newest(client: Client, status: str | None, every: float, output: Output) -> None:
    if output is Output.JSON:
        raise Rejected("-o json is one document and watching has no end: use -o ndjson, or give an id")
    seen: dict[str, int] = {}
    while True:
        page = client.get("/v1/workflows", status=status, limit=_WATCHED)
        moved = [row for row in page["items"] if seen.get(row["workflow_id"]) != row["version"]]
        for row in reversed(moved):
            if output is Output.TABLE:
                show_parts(clock(row["updated_at"]), row["workflow_id"], state_of(row), row["reason"] or "")
            else:
                show_line(row)
        seen = {row["workflow_id"]: row["version"] for row in page["items"]}
        time.sleep(every)
