"""The ``fulcrum`` command: every sub-command by name, and one way to report an error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import Annotated

import typer

import fulcrum
from fulcrum.cli import exits
from fulcrum.cli.completion import VARIABLE, words_to_complete
from fulcrum.cli.roles import CONCURRENCY, ROLES, run_role
from fulcrum.errors import FulcrumError
from fulcrum.settings import load_settings

#: Here and not with its module, which is loaded only when it runs.
ABOUT_BENCH = """Measure throughput, latency and cost; exit code 1 when an invariant is broken afterwards.

Without a sub-command it is the whole system, each sub-command measures one part by itself. Servers and roles
are started for it, on names of their own that are removed at the end. With FULCRUM_API set, the system there
is measured instead, without the cost of its processes.
"""

app = typer.Typer(
    name="fulcrum",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    # What it would add installs itself; `fulcrum completion` prints.
    add_completion=False,
    help=f"""Order-fulfilment control plane: run it, feed it, look into it.

\b
Exit codes of every command:
{exits.table()}
""",
)

#: Groups of commands by name: the module that has them as ``app``, and what they are about.
_GROUPS = {
    "stack": (
        "fulcrum.cli.stack",
        "The servers on this machine: Kafka, RabbitMQ, Postgres, Redis, registry.",
    ),
    "db": ("fulcrum.cli.db", "The Postgres schema."),
    "topics": ("fulcrum.cli.topics", "The Kafka topics."),
    "schema": ("fulcrum.cli.schema", "The Avro schemas and their registry."),
    "config": ("fulcrum.cli.config", "The settings of this environment."),
    "wf": ("fulcrum.cli.workflow", "Workflow runs."),
    "stuck": ("fulcrum.cli.stuck", "Workflow runs that do not move by themselves."),
    "definition": ("fulcrum.cli.definition", "The workflow definitions."),
    "parked": ("fulcrum.cli.parked", "Messages that no worker could handle."),
    "op": ("fulcrum.cli.operation", "Operations on many messages or workflows."),
    "audit": ("fulcrum.cli.audit", "Who changed what, when and why."),
    "stock": ("fulcrum.cli.stock", "Stock on hand."),
    "projection": ("fulcrum.cli.projection", "The read model: rebuild it from the journal, swap, roll back."),
    "queue": ("fulcrum.cli.queue", "The RabbitMQ queues of commands."),
    "events": ("fulcrum.cli.events", "The events on Kafka."),
    "bench": ("fulcrum.cli.bench", ABOUT_BENCH),
}
#: Single commands: the module that has a function of that name.
_COMMANDS = {
    "dev": "fulcrum.cli.dev",
    "demo": "fulcrum.cli.demo",
    "simulate": "fulcrum.cli.simulate",
    "doctor": "fulcrum.cli.doctor",
    "lag": "fulcrum.cli.lag",
    "health": "fulcrum.cli.health",
    "api": "fulcrum.cli.api",
    "completion": "fulcrum.cli.completion",
    "reference": "fulcrum.cli.reference",
}
_loaded: set[str] = set()


@app.command("run")
def run(
    role: Annotated[str, typer.Argument(help=f"One of: {', '.join(ROLES)}, or all.")],
    concurrency: Annotated[
        int | None,
        typer.Option(
            help="Work in progress at once: commands of payment or courier, transactions of inventory."
        ),
    ] = None,
) -> None:
    """Run one role in this process, or all of them under one supervisor.

    Start a role again under another FULCRUM_INSTANCE to have more of it.
    """
    if concurrency is not None and role not in CONCURRENCY:
        raise typer.BadParameter(f"role {role!r} takes no --concurrency; {' and '.join(CONCURRENCY)} do")
    if role == "all":
        from fulcrum.cli.dev import run_all

        run_all()
        return
    if role not in ROLES:
        raise typer.BadParameter(f"role {role!r} is unknown; one of {', '.join(ROLES)}, all")
    given = {} if concurrency is None else {CONCURRENCY[role]: concurrency}
    run_role(role, load_settings(**given))


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(fulcrum.__version__)


def _load(wanted: str) -> None:
    """Import the command called ``wanted``, or all of them when it is none (for help and for typing errors).

    A role is started by this program too: it should not load what it does not run.
    """
    known = {"run", "version", *_GROUPS, *_COMMANDS}
    for name in (*_GROUPS, *_COMMANDS):
        if name in _loaded or (wanted in known and wanted != name):
            continue
        _loaded.add(name)
        if name in _GROUPS:
            module, about = _GROUPS[name]
            app.add_typer(import_module(module).app, name=name, help=about)
        else:
            app.command(name)(getattr(import_module(_COMMANDS[name]), name))


def whole() -> typer.Typer:
    """The program with every command loaded."""
    _load("")
    return app


def main() -> None:
    """Run the command line; an expected error prints one line and sets the exit code.

    With -o json or ndjson that line is JSON too, so that a program need not read prose.
    """
    words = words_to_complete(os.environ) or sys.argv
    _load(words[1] if len(words) > 1 else "")
    try:
        app(prog_name="fulcrum", complete_var=VARIABLE)
    except FulcrumError as error:
        code = exits.of_error(error)
        told = {"error": type(error).__name__, "detail": str(error), "exit_code": int(code)}
        line = json.dumps(told, ensure_ascii=False) if _for_program(sys.argv) else f"fulcrum: {error}"
        print(line, file=sys.stderr)  # noqa: T201
        sys.exit(code)


def _for_program(words: Sequence[str]) -> bool:
    """Whether the command line asks for JSON."""
    given = " ".join(words).replace("=", " ").split()
    follows = any(name in ("-o", "--output") and form in ("json", "ndjson") for name, form in pairwise(given))
    return follows or bool({"-ojson", "-ondjson"} & {*given})
