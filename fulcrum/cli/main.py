"""The ``fulcrum`` command: every sub-command by name, and one way to report an error."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import fulcrum
from fulcrum.cli import config, db, parked, schema, stack, stock, topics, workflow
from fulcrum.cli.bench import bench
from fulcrum.cli.demo import demo
from fulcrum.cli.dev import dev
from fulcrum.cli.roles import ROLES, run_role
from fulcrum.errors import Conflict, FulcrumError, NotFound, Unavailable
from fulcrum.settings import load_settings

app = typer.Typer(
    name="fulcrum",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Order-fulfilment control plane: run it, feed it, look into it.",
)
app.add_typer(stack.app, name="stack", help="The servers on this machine: Kafka, RabbitMQ, Postgres, ...")
app.add_typer(db.app, name="db", help="The Postgres schema.")
app.add_typer(topics.app, name="topics", help="The Kafka topics.")
app.add_typer(schema.app, name="schema", help="The Avro schemas and their registry.")
app.add_typer(config.app, name="config", help="The settings of this environment.")
app.add_typer(workflow.app, name="wf", help="Workflow runs.")
app.add_typer(parked.app, name="parked", help="Messages that no worker could handle.")
app.add_typer(stock.app, name="stock", help="Stock on hand.")
app.command("dev")(dev)
app.command("demo")(demo)
app.command("bench")(bench)

#: Exit codes by error, most special first.
_EXIT_CODES: tuple[tuple[type[FulcrumError], int], ...] = (
    (NotFound, 3),
    (Conflict, 5),
    (Unavailable, 7),
    (FulcrumError, 1),
)


@app.command("run")
def run(
    role: Annotated[str, typer.Argument(help=f"One of: {', '.join(ROLES)}, or all.")],
) -> None:
    """Run one role in this process, or all of them under one supervisor."""
    if role == "all":
        from fulcrum.cli.dev import run_all

        run_all()
        return
    if role not in ROLES:
        raise typer.BadParameter(f"role {role!r} is unknown; one of {', '.join(ROLES)}, all")
    run_role(role, load_settings())


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(fulcrum.__version__)


def main() -> None:
    """Run the command line; an expected error prints one line and sets the exit code."""
    try:
        app()
    except FulcrumError as error:
        print(f"fulcrum: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
