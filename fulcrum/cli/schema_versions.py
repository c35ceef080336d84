"""``fulcrum schema show|diff``: what the schema of a message says, now and in its earlier versions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fulcrum.cli.client import Output, OutputOption, note, show_json, show_line, show_rows
from fulcrum.cli.exits import Exit
from fulcrum.errors import NotFound, Rejected
from fulcrum.wire import history
from fulcrum.wire.compatibility import Version, breaks
from fulcrum.wire.differences import differences
from fulcrum.wire.schemas import MESSAGE_TYPES, MessageType, fullname, schema

_FIELD_COLUMNS = {"field": "field", "type": "type", "default": "default", "doc": ""}
_COLUMNS = {"place": "field", "what": "what", "before": "before", "after": "after"}

Message = Annotated[
    str, typer.Argument(help="Message, such as PaymentAuthorized or fulcrum.events.PaymentAuthorized.")
]


def add_to(app: typer.Typer) -> None:
    """Make them commands of ``app``."""
    app.command("show")(show)
    app.command("diff")(diff)


def show(
    message: Message,
    version: Annotated[
        int | None, typer.Option(min=1, help="A version of schemas/history; the one of this release without.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the schema of a message; json is the schema itself."""
    type_ = _type(message)
    found = schema(type_) if version is None else _version(type_, version)
    if output is not Output.TABLE:
        (show_json if output is Output.JSON else show_line)(found)
        return
    typer.echo(f"{fullname(type_)}: {found.get('doc', '')}")
    rows = [
        {
            "field": field["name"],
            "type": field["type"] if isinstance(field["type"], str) else json.dumps(field["type"]),
            "default": json.dumps(field["default"]) if "default" in field else None,
            "doc": field.get("doc"),
        }
        for field in found["fields"]
    ]
    show_rows(rows, _FIELD_COLUMNS, output)


def diff(
    message: Message,
    from_: Annotated[
        int | None, typer.Option("--from", min=1, help="Version of schemas/history; its newest without.")
    ] = None,
    to: Annotated[
        int | None, typer.Option(min=1, help="Version of schemas/history; the one of this release without.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="An .avsc in place of --to, such as one in work.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what differs between two versions of a schema; exit code 10 when they cannot read each other."""
    if file is not None and to is not None:
        raise Rejected("give --file or --to, not both")
    type_ = _type(message)
    numbers = len(history.committed().versions(fullname(type_)))
    if from_ is None and not numbers:
        raise NotFound(f"{fullname(type_)} has no version in schemas/history yet")
    first = from_ or numbers
    before = _version(type_, first)
    after = _read(file) if file is not None else schema(type_) if to is None else _version(type_, to)
    found = differences(before, after)
    show_rows([asdict(each) for each in found], _COLUMNS, output)
    if not found:
        note(f"{fullname(type_)}: no difference to version {first}")
    if faults := breaks(after, Version(f"version {first}", before)):
        for fault in faults:
            note(f"incompatible: {fault}")
        raise typer.Exit(Exit.FOUND)


def _type(name: str) -> MessageType:
    for type_ in MESSAGE_TYPES:
        if name in (type_.__name__, fullname(type_)) or name.endswith(f"-{fullname(type_)}"):
            return type_
    raise NotFound(f"There is no message {name!r}; `fulcrum schema list` names them")


def _version(type_: MessageType, number: int) -> dict[str, Any]:
    known = history.committed().versions(fullname(type_))
    if number > len(known):
        raise NotFound(f"{fullname(type_)} has no version {number} in schemas/history; it has {len(known)}")
    found: dict[str, Any] = known[number - 1].schema
    return found


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Rejected(f"--file {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Rejected(f"--file {file} is not JSON: {error}") from error
