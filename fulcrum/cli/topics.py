"""``fulcrum topics``: create the Kafka topics, and see which are there."""

from __future__ import annotations

import typer

from fulcrum.cli.client import Output, OutputOption, show_rows
from fulcrum.settings import load_settings
from fulcrum.wire.topic_admin import ensure_topics, partition_counts
from fulcrum.wire.topics import Topics

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
def list_topics(output: OutputOption = Output.TABLE) -> None:
    """Show the topics of this namespace with their partitions; 0 means missing."""
    settings = load_settings()
    found = partition_counts(settings)
    names = Topics(settings.namespace).configs()
    rows = [{"topic": name, "partitions": found.get(name, 0)} for name in names]
    show_rows(rows, {"topic": "topic", "partitions": "partitions"}, output)
