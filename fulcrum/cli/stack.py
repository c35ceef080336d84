"""``fulcrum stack``: the servers on this machine, started, shown, stopped, removed."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from fulcrum.cli.interrupt import interruptible
from fulcrum.localstack import Stack

app = typer.Typer(no_args_is_help=True)


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
def status() -> None:
    """Show each server, its address and its log. Exit code 1 when one does not serve."""
    rows = Stack().status()
    table = Table(
        "server", "pid", Column("address", overflow="fold"), "serves", Column("log", overflow="fold")
    )
    for row in rows:
        pid = str(row.pid) if row.pid else "-"
        table.add_row(row.name, pid, row.address, "yes" if row.ready else "no", str(row.log or "-"))
    Console().print(table)
    if not rows or not all(row.ready for row in rows):
        raise typer.Exit(1)


@app.command("wipe")
def wipe(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    downloads: Annotated[bool, typer.Option("--downloads", help="Kafka and the registry too.")] = False,
) -> None:
    """Stop the servers and remove their data, logs and ports; downloads stay unless named."""
    stack = Stack()
    if not yes:
        typer.confirm(f"Remove all data in {stack.home.path}?", abort=True)
    stack.wipe(_say, downloads=downloads)


@app.command("env")
def env() -> None:
    """Print what another shell needs: eval "$(fulcrum stack env)"."""
    for name, value in Stack().env().items():
        typer.echo(f"export {name}={shlex.quote(value)}")
