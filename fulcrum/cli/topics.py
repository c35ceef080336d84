"""``fulcrum topics``: create the Kafka topics, and see which are there."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fulcrum.settings import load_settings
from fulcrum.wire.topics import Topics, ensure_topics, partition_counts

app = typer.Typer(no_args_is_help=True)


@app.command("create")
def create() -> None:
    """Create the topics that are missing; one that has another partition count is an error."""
    settings = load_settings()
    created = ensure_topics(settings)
    for name in created:
        typer.echo(f"created {name}")
    if not created:
        typer.echo(f"All {len(Topics(settings.namespace).configs())} topics are there.")


@app.command("list")
def list_topics(
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Show the topics of this namespace with their partitions; 0 means missing."""
    settings = load_settings()
    found = partition_counts(settings)
    rows = {name: found.get(name, 0) for name in Topics(settings.namespace).configs()}
    if output == "json":
        typer.echo(json.dumps([{"topic": n, "partitions": p} for n, p in rows.items()], indent=2))
        return
    table = Table("topic", "partitions")
    for name, count in rows.items():
        table.add_row(name, str(count))
    Console().print(table)
