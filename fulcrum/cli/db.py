"""``fulcrum db``: the Postgres schema."""

from __future__ import annotations

from dataclasses import asdict

import typer

from fulcrum.cli.client import Output, OutputOption, note, show_document
from fulcrum.cli.exits import Exit
from fulcrum.settings import load_settings
from fulcrum.store import migrate as migrations

app = typer.Typer(no_args_is_help=True)


@app.command("migrate")
def migrate() -> None:
    """Bring the database to the schema of this version. Does nothing when it is there."""
    before = migrations.migrate(load_settings().postgres_dsn)
    if before.pending:
        typer.echo(f"applied {', '.join(before.pending)}; the database is at {before.head}")
    else:
        typer.echo(f"the database is at {before.head}")


@app.command("status")
def status(output: OutputOption = Output.TABLE) -> None:
    """Say which revision the database is at; exit code 10 when one is missing."""
    found = migrations.status(load_settings().postgres_dsn)
    if output is Output.TABLE:
        typer.echo(f"database {found.current or 'empty'}, this version {found.head}")
    else:
        show_document({**asdict(found), "pending": list(found.pending)}, output)
    if found.pending:
        note(f"missing {', '.join(found.pending)}: run `fulcrum db migrate`")
        raise typer.Exit(Exit.FOUND)
