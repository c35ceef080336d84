"""``fulcrum definition migrate``: move live workflows to another definition, after a look at which."""

from __future__ import annotations

import getpass
from typing import Annotated, Any
from uuid import uuid4

import typer

from fulcrum.cli.client import Client, Output, OutputOption, note, show_fields, show_json, show_line
from fulcrum.cli.consent import agreed
from fulcrum.cli.following import follow, show_operation, told
from fulcrum.cli.op_start import selected
from fulcrum.errors import Rejected
from fulcrum.operations.kinds import MIGRATE_KIND


def migrate(
    source: Annotated[str, typer.Option("--from", help="The definition that they are under.")],
    target: Annotated[str, typer.Option("--to", help="The definition that they go on under.")],
    reason: Annotated[str, typer.Option(help="Why; every workflow's timeline shows it.")],
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE,...",
            help="Only those for which all of this holds: status=, step= (that they wait for), tenant=, "
            "older_than=15m, or id= as often as needed.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Take so many at most, oldest first.")] = None,
    rate: Annotated[float | None, typer.Option(help="Workflows a second at most.")] = None,
    canary: Annotated[int, typer.Option(help="Ask so many first, and the rest if none refuses.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print how many would be moved, and why not the others.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the end before exit code 8.")] = 300.0,
    actor: Annotated[
        str | None, typer.Option(help="Who decides it; the user of this terminal if not given.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move live workflows to another definition, and print how many were moved and how many refused.

    Only those that sit before the first step in which the two differ are moved; each workflow decides that
    itself, and total = succeeded + failed + skipped + pending holds at every moment. Exit code 6 when some
    refused, 1 when all did.
    """
    body = {
        "kind": MIGRATE_KIND,
        "actor": actor or getpass.getuser(),
        "reason": reason,
        "selection": chosen(source, where or ()),
        "arguments": {"definition": target},
        "canary": canary,
        **{name: value for name, value in (("limit", limit), ("rate", rate)) if value is not None},
    }
    client = Client()
    if dry_run or not yes:
        plan = client.post("/v1/operations", {**body, "dry_run": True}).body
        if dry_run:
            _show(plan, output)
            return
        left_out = ", ".join(f"{number} {why}" for why, number in plan["excluded"].items()) or "none"
        agreed(f"move {plan['total']} workflows from {source} to {target} (left out: {left_out})?")
    operation = client.post("/v1/operations", body, str(uuid4())).body
    note(told(operation))
    if operation["state"] == "done":
        show_operation(operation, output)
        return
    follow(client, operation["id"], timeout, output)


def chosen(source: str, where: Any) -> dict[str, Any]:
    """The selection as the API names it; Rejected when it names a definition of its own."""
    parts = [part for each in where for part in each.split(",")]
    found = selected(parts)
    if "definition" in found:
        raise Rejected("--where definition= is what --from says; leave it out")
    return {**found, "definition": source}


def _show(plan: dict[str, Any], output: Output) -> None:
    if output is Output.TABLE:
        show_fields(plan)
    elif output is Output.JSON:
        show_json(plan)
    else:
        show_line(plan)
