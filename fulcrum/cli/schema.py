"""``fulcrum schema``: put the schemas in the registry, and find out what a change would break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, NoReturn

import typer

from fulcrum.cli import schema_versions
from fulcrum.cli.client import Output, OutputOption, note, show_json, show_line, show_rows
from fulcrum.cli.exits import Exit
from fulcrum.settings import Settings, load_settings
from fulcrum.wire import history
from fulcrum.wire.compatibility import Fault, same_bytes
from fulcrum.wire.registry import Registry, check_registered, check_rules
from fulcrum.wire.schemas import MESSAGE_TYPES, fullname, schema, schema_text, schemas_dir, subject

app = typer.Typer(no_args_is_help=True)
schema_versions.add_to(app)

_COLUMNS = {
    "message": "message",
    "subject": "subject",
    "version": "version",
    "id": "id",
    "versions": "registered",
    "history": "in history",
}


@app.command("register")
def register() -> None:
    """Put every schema in the registry under FULL_TRANSITIVE; what is there stays as it is."""
    asyncio.run(_register(load_settings()))


async def _register(settings: Settings) -> None:
    registry = Registry(settings.registry_url)
    try:
        # Before anything is written: the registry itself would let some of these pass.
        if faults := await check_registered(registry, settings.namespace):
            _fail(faults)
        for type_ in MESSAGE_TYPES:
            done = await registry.register(subject(settings.namespace, type_), schema_text(type_))
            typer.echo(f"{done.subject}  version {done.version}  id {done.schema_id}")
    finally:
        await registry.close()


@app.command("check")
def check(
    offline: Annotated[bool, typer.Option("--offline", help="Only against the committed history.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what is wrong with this release's schemas; exit 10 when something is.

    Each is checked by itself, against every version in schemas/history, and against every version in the
    registry, both ways.
    """
    faults = history.check(history.committed())
    if not offline:
        faults += asyncio.run(_check_registry(load_settings()))
    faults = list(dict.fromkeys(faults))
    if output is Output.JSON:
        show_json([asdict(fault) for fault in faults])
    elif output is Output.NDJSON:
        for fault in faults:
            show_line(asdict(fault))
    elif not faults:
        held = "the history" if offline else "the history and the registry"
        typer.echo(f"{len(MESSAGE_TYPES)} schemas are fine against {held}.")
    if faults:
        _fail(faults if output is Output.TABLE else [])


async def _check_registry(settings: Settings) -> list[Fault]:
    registry = Registry(settings.registry_url)
    try:
        faults = await check_registered(registry, settings.namespace)
        return faults + await check_rules(registry, settings.namespace)
    finally:
        await registry.close()


@app.command("list")
def list_schemas(output: OutputOption = Output.TABLE) -> None:
    """Show every message with its subject and the version and id that the registry has for it."""
    show_rows(asyncio.run(_list(load_settings())), _COLUMNS, output)


async def _list(settings: Settings) -> list[dict[str, Any]]:
    registry = Registry(settings.registry_url)
    rows = []
    try:
        for type_ in MESSAGE_TYPES:
            name = subject(settings.namespace, type_)
            registered = await registry.versions(name)
            ours = next((v for v in registered if same_bytes(json.loads(v.text), schema(type_))), None)
            rows.append(
                {
                    "message": fullname(type_),
                    "subject": name,
                    "version": ours.version if ours else None,
                    "id": ours.schema_id if ours else None,
                    "versions": len(registered),
                    "history": len(history.committed().versions(fullname(type_))),
                }
            )
    finally:
        await registry.close()
    return rows


@app.command("snapshot")
def snapshot() -> None:
    """Add the schemas that changed to schemas/history, as versions that never change again."""
    if faults := history.broken(history.committed()):
        _fail(faults)
    added = history.snapshot(history.committed())
    for path in added:
        typer.echo(f"added {path.relative_to(schemas_dir().parent)}")
    if not added:
        typer.echo("No schema has changed.")


def _fail(faults: Sequence[Fault]) -> NoReturn:
    for fault in faults:
        note(str(fault))
    raise typer.Exit(Exit.FOUND)
