"""``fulcrum op start``: ask the same of many workflows, after a look at which ones."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from fulcrum.cli.client import Client, Output, OutputOption, note, show_fields, show_json, show_line
from fulcrum.cli.consent import agreed
from fulcrum.cli.following import follow, show_operation, told
from fulcrum.errors import Rejected
from fulcrum.operations.kinds import MIGRATE_KIND, WORKFLOW_KINDS

#: ``fulcrum definition migrate`` is the way to that one.
_KINDS = tuple(kind for kind in WORKFLOW_KINDS if kind != MIGRATE_KIND)
_FIELDS = ("status", "step", "definition", "tenant", "older_than", "id")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"([0-9]{1,9})([smhd])\Z")


def start(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of: {', '.join(_KINDS)}.")],
    reason: Annotated[str, typer.Option(help="Why; every workflow's timeline shows it.")],
    where: Annotated[
        list[str],
        typer.Option(
            metavar="FIELD=VALUE",
            help="Which workflows, all that is given must hold: status=, step= (that they wait for), "
            "definition=, tenant=, older_than=15m, or id= as often as needed.",
        ),
    ],
    step: Annotated[
        str | None, typer.Option(help="The step that is meant; the one that is waited for if not given.")
    ] = None,
    seconds: Annotated[int | None, typer.Option(help="extend: seconds from now for the step.")] = None,
    result: Annotated[
        Path | None, typer.Option(help="skip: what the step would have answered, a file with a JSON object.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Take so many at most, oldest first.")] = None,
    rate: Annotated[float | None, typer.Option(help="Workflows a second at most.")] = None,
    canary: Annotated[int, typer.Option(help="Ask so many first, and the rest if none refuses.")] = 0,
    stop_ratio: Annotated[
        float | None, typer.Option(help="Stop when a larger share than this has refused, such as 0.1.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be taken.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Print the counts until it ends.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the end before exit code 8.")] = 300.0,
    actor: Annotated[
        str | None, typer.Option(help="Who decides it; the user of this terminal if not given.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask the same of many workflows: retry, skip, pause, resume, compensate, extend, terminate or cancel.

    The workflows are fixed when it is stored. Each ends with what it decided, and asking twice has no effect.
    """
    given = {"step": step, "seconds": seconds, "result": None if result is None else _read(result)}
    body = {
        "kind": kind,
        "actor": actor or getpass.getuser(),
        "reason": reason,
        "selection": selected(where),
        "arguments": _given(given),
        **_given({"limit": limit, "rate": rate, "canary": canary, "stop_ratio": stop_ratio}),
    }
    client = Client()
    if dry_run or not yes:
        plan = client.post("/v1/operations", {**body, "dry_run": True}).body
        if dry_run:
            _show(plan, output)
            return
        _confirm(kind, plan)
    operation = client.post("/v1/operations", body, str(uuid4())).body
    if wait:
        note(told(operation))
        follow(client, operation["id"], timeout, output)
        return
    if output is Output.TABLE:
        typer.echo(told(operation))
        note(f"it goes on by itself: `fulcrum op watch {operation['id']}`")
    else:
        show_operation(operation, output)


def selected(where: Sequence[str]) -> dict[str, Any]:
    """The selection as the API names it; Rejected for what is no ``field=value`` of it."""
    chosen: dict[str, Any] = {}
    for part in where:
        name, separator, value = part.partition("=")
        if not separator or name not in _FIELDS or not value:
            raise Rejected(f"--where {part!r} selects nothing; write FIELD=VALUE with {', '.join(_FIELDS)}")
        if name == "id":
            chosen.setdefault("ids", []).append(value)
        elif name in chosen:
            raise Rejected(f"--where {name} is given more than once; only id can be")
        else:
            chosen[name] = _seconds(value) if name == "older_than" else value
    return chosen


def _seconds(age: str) -> int:
    found = _AGE.match(age)
    if found is None:
        raise Rejected(f"--where older_than={age} is no age; write it as 90s, 15m, 4h or 2d")
    return int(found[1]) * _SECONDS[found[2]]


def _confirm(kind: str, plan: Mapping[str, Any]) -> None:
    left_out = ", ".join(f"{number} {why}" for why, number in plan["excluded"].items()) or "none"
    agreed(f"{kind}: {plan['total']} workflows (left out: {left_out})?")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Rejected(f"--result {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Rejected(f"--result {file} is not JSON: {error}") from error


def _show(value: Mapping[str, Any], output: Output) -> None:
    if output is Output.TABLE:
        show_fields(value)
    elif output is Output.JSON:
        show_json(value)
    else:
        show_line(value)
