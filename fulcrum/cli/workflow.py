"""``fulcrum wf``: start workflows and see what becomes of them.

Which there are: ``finding``. What else may be asked of them: ``verbs``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from fulcrum.cli import finding, verbs, watching
from fulcrum.cli.agreed import Agreed, DefinitionName, Holds, OnShort, Price, PromisedAt
from fulcrum.cli.attempts import together
from fulcrum.cli.client import (
    Client,
    Output,
    OutputOption,
    note,
    segment,
    show_json,
    show_line,
)
from fulcrum.cli.exits import Exit
from fulcrum.cli.printing import show_entries, show_head, show_why
from fulcrum.errors import Rejected
from fulcrum.readmodel.projection import FINAL

app = typer.Typer(no_args_is_help=True)

_LOOK_EVERY = 0.3

WorkflowId = Annotated[str, typer.Argument(help="Id of the workflow.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the end before exit code 8.")]


@app.command("show")
def show(
    workflow_id: WorkflowId,
    follow: Annotated[bool, typer.Option("--follow", help="Print what happens until the end.")] = False,
    timeout: Timeout = 300.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a workflow and its timeline."""
    client = Client()
    if follow:
        _follow(client, workflow_id, timeout, output)
        return
    workflow = _read(client, workflow_id)
    if output is Output.TABLE:
        show_head(workflow)
        show_entries(together(workflow["timeline"], workflow["attempts"] or ()))
    elif output is Output.JSON:
        show_json(workflow)
    else:
        show_line(workflow)


@app.command("why")
def why(workflow_id: WorkflowId, output: OutputOption = Output.TABLE) -> None:
    """Tell in one sentence what a workflow waits for."""
    told = Client().get(f"/v1/workflows/{segment(workflow_id)}/why")
    if output is Output.JSON:
        show_json(told)
    elif output is Output.NDJSON:
        show_line(told)
    else:
        show_why(told)


@app.command("start")
def start(
    file: Annotated[Path, typer.Option("--file", "-f", help="The intent as JSON; - reads standard input.")],
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating a key starts nothing new; without one a new one is made.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it to its end; exit code 1 when it does not complete.")
    ] = False,
    timeout: Timeout = 300.0,
    definition: DefinitionName = None,
    price: Price = None,
    on_short: OnShort = None,
    promised_at: PromisedAt = None,
    hold: Holds = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start a workflow for an intent. What options say is added to what the file says.

    A line of the file keeps its own on_short.
    """
    client = Client()
    key = idempotency_key or str(uuid4())
    agreed = Agreed(definition, price or (), on_short, promised_at, hold or ())
    reply = client.post("/v1/intents", agreed.added_to(_intent(file)), key)
    if idempotency_key is None:
        note(f"idempotency key {key}")
    if reply.headers.get("Idempotency-Replayed"):
        note("this key came before: nothing new was started")
    if wait:
        _follow(client, reply.body["workflow_id"], timeout, output)
    elif output is Output.TABLE:
        typer.echo(reply.body["workflow_id"])
    elif output is Output.JSON:
        show_json(reply.body)
    else:
        show_line(reply.body)


app.command("watch")(watching.watch)
finding.add_to(app)
verbs.add_to(app)


def _read(client: Client, workflow_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/workflows/{segment(workflow_id)}")
    return found


def _intent(file: Path) -> object:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise Rejected(f"--file {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Rejected(f"--file {file} is not JSON: {error}") from error


def _follow(client: Client, workflow_id: str, timeout: float, output: Output) -> None:
    """Print the timeline as it grows; sets the exit code when the end is no completion."""
    shown, tried = 0, 0
    for workflow in _until_final(client, workflow_id, timeout):
        attempts = workflow["attempts"] or ()
        fresh = together(workflow["timeline"][shown:], attempts[tried:])
        if output is Output.TABLE:
            show_entries(fresh)
        elif output is Output.NDJSON:
            for entry in fresh:
                show_line(entry)
        shown, tried = len(workflow["timeline"]), max(tried, len(attempts))
    if output is Output.TABLE:
        show_head(workflow)
    elif output is Output.JSON:
        show_json(workflow)
    if workflow["status"] not in FINAL:
        note(f"still {workflow['status']} after {timeout:g} s")
        raise typer.Exit(Exit.TIMED_OUT)
    if workflow["status"] != "completed":
        raise typer.Exit(Exit.FAILED)


def _until_final(client: Client, workflow_id: str, timeout: float) -> Iterator[dict[str, Any]]:
    deadline = time.monotonic() + timeout
    try:
        while True:
            workflow = _read(client, workflow_id)
            yield workflow
            if workflow["status"] in FINAL or time.monotonic() >= deadline:
                return
            time.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
