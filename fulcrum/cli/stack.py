"""``fulcrum stack``: the servers on this machine, started, shown, stopped, removed."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from fulcrum.cli.client import Output, OutputOption, show_rows
from fulcrum.cli.consent import agreed
from fulcrum.cli.exits import Exit
from fulcrum.cli.interrupt import interruptible
from fulcrum.localstack import Stack

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {name: name for name in ("server", "pid", "address", "ready", "log")}


def _say(line: str) -> None:
    typer.echo(line)


@app.command("up")
def up() -> None:
    """Start what does not run yet, and leave it running."""
    with interruptible():
        Stack().up(_say)


@app.command("down")
def down() -> None:
    """Stop every server of this home."""
    Stack().down(_say)


@app.command("status")
def status(output: OutputOption = Output.TABLE) -> None:
    """Show each server, its address and its log. Exit code 7 when one does not serve."""
    rows = Stack().status()
    shown = [
        {
            "server": row.name,
            "pid": row.pid,
            "address": row.address,
            "ready": row.ready,
            "log": str(row.log) if row.log else None,
        }
        for row in rows
    ]
    show_rows(shown, _COLUMNS, output)
    if not rows or not all(row.ready for row in rows):
        raise typer.Exit(Exit.UNREACHABLE)


@app.command("wipe")
def wipe(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    downloads: Annotated[bool, typer.Option("--downloads", help="Kafka and the registry too.")] = False,
) -> None:
    """Stop the servers and remove their data, logs and ports; downloads stay unless named."""
    stack = Stack()
    if not yes:
        agreed(f"Remove all data in {stack.home.path}?")
    stack.wipe(_say, downloads=downloads)


@app.command("env")
def env() -> None:
    """Print what another shell needs: eval "$(fulcrum stack env)"."""
    for name, value in Stack().env().items():
        typer.echo(f"export {name}={shlex.quote(value)}")
