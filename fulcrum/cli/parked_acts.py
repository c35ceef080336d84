"""``fulcrum parked replay|discard|restore``: one message, or a selection as an operation.

A selection is planned first. On a terminal the plan is shown and asked about; a program is never asked.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import uuid4

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
)
from fulcrum.cli.consent import agreed, on_terminal
from fulcrum.cli.following import follow, show_operation, told
from fulcrum.errors import Rejected

OneOrNone = Annotated[str | None, typer.Argument(help="One message; without it, those that options select.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the message.")]
Actor = Annotated[str | None, typer.Option(help="Who decides it; the user of this terminal if not given.")]
Service = Annotated[str | None, typer.Option(help="Only those of this service; `events` are those of Kafka.")]
Type = Annotated[str | None, typer.Option("--type", help="Only those of this message type.")]
Group = Annotated[str | None, typer.Option(help="Only those of this group, by its fingerprint.")]
Workflow = Annotated[str | None, typer.Option(help="Only those of this workflow.")]
Since = Annotated[str | None, typer.Option(help="Only those parked then or later: ISO 8601 with its zone.")]
Until = Annotated[str | None, typer.Option(help="Only those parked before: ISO 8601 with its zone.")]
All = Annotated[bool, typer.Option("--all", help="Every message that can be taken.")]
Most = Annotated[int | None, typer.Option(help="Take so many, the oldest.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be taken.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow it; exit code 6 when some failed.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the end before exit code 8.")]


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be done, to which messages, by whom and why."""

    kind: str
    reason: str
    actor: str
    chosen: Mapping[str, str]
    everything: bool
    limit: int | None
    pace: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Manner:
    """How this program goes about it."""

    dry_run: bool
    yes: bool
    wait: bool
    timeout: float


def replay(
    reason: Reason,
    parked_id: OneOrNone = None,
    service: Service = None,
    type_: Type = None,
    group: Group = None,
    workflow: Workflow = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    limit: Most = None,
    rate: Annotated[float | None, typer.Option(help="Messages a second at most.")] = None,
    canary: Annotated[int, typer.Option(help="Send so many first, and the rest if none parks again.")] = 0,
    stop_ratio: Annotated[
        float | None, typer.Option(help="Stop when a larger share than this has failed, such as 0.1.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
    timeout: Timeout = 300.0,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send messages again, under their own ids: commands to their service, events to their topic."""
    chosen = selected(service, type_, group, workflow, since, until)
    pace = {"rate": rate, "canary": canary, "stop_ratio": stop_ratio}
    wish = _Wish("replay", reason, actor or getpass.getuser(), chosen, everything, limit, pace)
    _do(wish, parked_id, _Manner(dry_run, yes, wait, timeout), output)


def discard(
    reason: Reason,
    parked_id: OneOrNone = None,
    service: Service = None,
    type_: Type = None,
    group: Group = None,
    workflow: Workflow = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    limit: Most = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
    timeout: Timeout = 300.0,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Decide that messages are not needed. They can be restored until their bodies are deleted."""
    chosen = selected(service, type_, group, workflow, since, until)
    wish = _Wish("discard", reason, actor or getpass.getuser(), chosen, everything, limit)
    _do(wish, parked_id, _Manner(dry_run, yes, wait, timeout), output)


def restore(
    reason: Reason,
    parked_id: OneOrNone = None,
    service: Service = None,
    type_: Type = None,
    group: Group = None,
    workflow: Workflow = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    limit: Most = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
    timeout: Timeout = 300.0,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take back that messages are not needed: they wait again."""
    chosen = selected(service, type_, group, workflow, since, until)
    wish = _Wish("restore", reason, actor or getpass.getuser(), chosen, everything, limit)
    _do(wish, parked_id, _Manner(dry_run, yes, wait, timeout), output)


def selected(
    service: str | None,
    type_: str | None,
    group: str | None,
    workflow: str | None,
    since: str | None,
    until: str | None,
) -> dict[str, str]:
    """What the options select, as the API names it."""
    given = {
        "service": service,
        "type": type_,
        "group": group,
        "workflow_id": workflow,
        "since": since,
        "until": until,
    }
    return {name: value for name, value in given.items() if value is not None}


def _do(wish: _Wish, parked_id: str | None, manner: _Manner, output: Output) -> None:
    if parked_id is None:
        _many(wish, manner, output)
        return
    if wish.chosen or wish.everything or manner.dry_run:
        raise Rejected("give an id, or options that select messages; not both")
    body = {"actor": wish.actor, "reason": wish.reason}
    message = Client().post(f"/v1/parked/{segment(parked_id)}/{wish.kind}", body).body
    if output is Output.TABLE:
        typer.echo(f"{message['id']} {message['status']}")
    else:
        _show(message, output)


def _many(wish: _Wish, manner: _Manner, output: Output) -> None:
    if not wish.chosen and not wish.everything:
        raise Rejected("nothing is selected: give an id, options such as --group, or --all")
    client = Client()
    paced = {name: value for name, value in wish.pace.items() if value is not None}
    body = {
        "kind": wish.kind,
        "actor": wish.actor,
        "reason": wish.reason,
        "selection": dict(wish.chosen),
        "limit": wish.limit,
        **paced,
    }
    if manner.dry_run or (on_terminal() and not manner.yes):
        plan = client.post("/v1/operations", {**body, "dry_run": True}).body
        if manner.dry_run:
            _show(plan, output)
            return
        left_out = ", ".join(f"{number} {why}" for why, number in plan["excluded"].items()) or "none"
        agreed(f"{wish.kind} {plan['total']} messages (left out: {left_out})?")
    operation = client.post("/v1/operations", body, str(uuid4())).body
    if manner.wait:
        note(told(operation))
        follow(client, operation["id"], manner.timeout, output)
        return
    if output is Output.TABLE:
        typer.echo(told(operation))
        note(f"it goes on by itself: `fulcrum op watch {operation['id']}`")
    else:
        show_operation(operation, output)


def _show(value: Mapping[str, Any], output: Output) -> None:
    if output is Output.TABLE:
        show_fields(value)
    elif output is Output.JSON:
        show_json(value)
    else:
        show_line(value)
