"""``fulcrum definition``: the workflow definitions of this version, as their reference page."""

from __future__ import annotations

import typer

from fulcrum.saga.describe import page

app = typer.Typer(no_args_is_help=True)


@app.callback()
def definition() -> None:
    """The workflow definitions."""


@app.command("docs")
def docs() -> None:
    """Print docs/reference/saga.md: steps, states, and what every event does in every state."""
    typer.echo(page(), nl=False)
