"""What may be asked of a workflow on the terminal, and what is printed of it: what was decided."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from fulcrum.cli.client import Client, Output, OutputOption, note, segment, show_json, show_line
from fulcrum.cli.exits import Exit
from fulcrum.cli.printing import command_line, show_parts, state_of
from fulcrum.errors import Rejected
from fulcrum.saga.signals import HOLDS, SIGNALS

_LOOK_EVERY = 0.3

WorkflowId = Annotated[str, typer.Argument(help="Id of the workflow.")]
Reason = Annotated[str, typer.Option(help="Why; the timeline shows it.")]
Actor = Annotated[str | None, typer.Option(help="Who asks; the user of this terminal if not given.")]
Key = Annotated[
    str | None, typer.Option(help="Repeating a key asks for nothing new; without one a new one is made.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Ask for nothing; print what would follow.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the decision before exit code 8.")]
StepName = Annotated[str | None, typer.Option(help="The step; the one that is waited for if not given.")]
Result = Annotated[
    Path | None,
    typer.Option("--result", help="What the step would have answered, as a file with a JSON object."),
]


def add_to(app: typer.Typer) -> None:
    """Make the verbs commands of ``app``."""
    commands: tuple[Callable[..., None], ...] = (
        retry, skip, pause, resume, cancel, compensate, extend, terminate, signal,
    )  # fmt: skip
    for command in commands:
        app.command(command.__name__)(command)


def retry(
    workflow_id: WorkflowId,
    reason: Reason,
    step: StepName = None,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    wait: Wait = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Retry the step that a workflow waits for, now; also an undo that was given up."""
    body = _body(reason, dry_run, step=step)
    _ask("retry", workflow_id, body, actor, idempotency_key, wait, output)


def skip(
    workflow_id: WorkflowId,
    reason: Reason,
    step: StepName = None,
    result: Result = None,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    wait: Wait = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Go on as if a step had answered. It is undone with the others when the workflow is."""
    body = _body(reason, dry_run, step=step, result=None if result is None else _read(result))
    _ask("skip", workflow_id, body, actor, idempotency_key, wait, output)


def pause(
    workflow_id: WorkflowId,
    reason: Reason,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    wait: Wait = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let nothing leave a workflow until it is resumed; answers are still taken."""
    _ask("pause", workflow_id, _body(reason, dry_run), actor, idempotency_key, wait, output)


def resume(
    workflow_id: WorkflowId,
    reason: Reason,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    wait: Wait = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send what a paused workflow has held back."""
    _ask("resume", workflow_id, _body(reason, dry_run), actor, idempotency_key, wait, output)


def compensate(
    workflow_id: WorkflowId,
    reason: Reason,
    step: StepName = None,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    wait: Wait = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Undo a step and those before it, or everything; also when the workflow needs attention."""
    body = _body(reason, dry_run, step=step)
    _ask("compensate", workflow_id, body, actor, idempotency_key, wait, output)


def extend(
    workflow_id: WorkflowId,
    reason: Reason,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds from now that the step may take.")],
    step: StepName = None,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    wait: Wait = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give the step that a workflow waits for more time."""
    body = _body(reason, dry_run, step=step, seconds=seconds)
    _ask("extend", workflow_id, body, actor, idempotency_key, wait, output)


def terminate(
    workflow_id: WorkflowId,
    reason: Reason,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    wait: Wait = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give a workflow up. Nothing is undone: what was done stays, and is printed."""
    _ask("terminate", workflow_id, _body(reason, dry_run), actor, idempotency_key, wait, output)


def cancel(
    workflow_id: WorkflowId,
    reason: Reason,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Undo a workflow: what was done is compensated in reverse order. Not once it is completed."""
    body = _body(reason, dry_run)
    reply = Client().post(_path(workflow_id, "cancel"), body, idempotency_key or str(uuid4()), _who(actor))
    if dry_run:
        _show(reply.body, output)
        return
    if output is Output.TABLE:
        show_parts(workflow_id, state_of(reply.body), reply.body["reason"] or "")
    else:
        _dump(reply.body, output)
    if not reply.body["decided"]:
        note(f"stored, but not decided upon yet: `fulcrum wf show {workflow_id} --follow`")
    elif reply.body["event_id"] is None:
        note("it was being undone already: nothing new was asked for")


def signal(
    workflow_id: WorkflowId,
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(SIGNALS)}.")],
    hold: Annotated[str, typer.Option(help=f"The reason to wait, one of: {', '.join(HOLDS)}.")],
    reason: Reason,
    actor: Actor = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    wait: Wait = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hold a workflow for a reason, or release it; it goes on when nothing holds it any more."""
    body = _body(reason, dry_run, hold=hold)
    _ask(f"signals/{segment(name)}", workflow_id, body, actor, idempotency_key, wait, output)


# --- asking ---------------------------------------------------------------------------------------


def _ask(
    verb: str,
    workflow_id: str,
    body: Mapping[str, Any],
    actor: str | None,
    idempotency_key: str | None,
    wait: float,
    output: Output,
) -> None:
    """Ask until it is decided: the repeats have the same key, so they ask for nothing new."""
    client, key = Client(), idempotency_key or str(uuid4())
    deadline = time.monotonic() + wait
    while True:
        told = client.post(_path(workflow_id, verb), body, key, _who(actor)).body
        if told["outcome"] is not None or time.monotonic() >= deadline:
            break
        time.sleep(_LOOK_EVERY)
    _show(told, output)
    if told["outcome"] is None:
        note(f"stored, but not decided upon within {wait:g} s: `fulcrum wf show {workflow_id} --follow`")
        raise typer.Exit(Exit.TIMED_OUT)
    if told["outcome"] == "refused":
        raise typer.Exit(Exit.CONFLICT)


def _show(told: Mapping[str, Any], output: Output) -> None:
    if output is not Output.TABLE:
        _dump(told, output)
        return
    outcome = told["outcome"] or "undecided"
    why = f"{outcome}: {told['refused']}" if told["refused"] else outcome
    would = "would be " if told["dry_run"] else ""
    show_parts(told["verb"], told["workflow_id"], f"{would}{why}")
    before = f"was {told['status_before']}" if told["status_before"] else ""
    show_parts("status", state_of(told), before, f"version {told['version']}")
    for name, value in (
        ("step", told["step"]),
        ("sends", ", ".join(command_line(command) for command in told["commands"])),
        ("held", ", ".join(told["held"])),
        ("stands", ", ".join(told["standing"])),
    ):
        if value:
            show_parts(f"{name:<6}", value)


def _dump(value: object, output: Output) -> None:
    if output is Output.JSON:
        show_json(value)
    else:
        show_line(value)


def _path(workflow_id: str, verb: str) -> str:
    return f"/v1/workflows/{segment(workflow_id)}/{verb}"


def _who(actor: str | None) -> str:
    return actor or getpass.getuser()


def _body(reason: str, dry_run: bool, **own: Any) -> dict[str, Any]:
    given = {name: value for name, value in own.items() if value is not None}
    return {"reason": reason, **given, **({"dry_run": True} if dry_run else {})}


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Rejected(f"--result {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Rejected(f"--result {file} is not JSON: {error}") from error
