"""``fulcrum definition``: the workflow definitions of this version, and their reference page."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fulcrum.cli.client import Output, OutputOption, show_document, show_rows
from fulcrum.errors import NotFound
from fulcrum.saga.definitions import DEFAULT_DEFINITION, DEFINITIONS, Definition, Step
from fulcrum.saga.describe import page

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {"definition": "definition", "default": "default", "steps": "steps"}
_STEP_COLUMNS = {
    "step": "step",
    "kind": "kind",
    "do": "command",
    "done": "done by",
    "refused": "refused by",
    "undo": "undone by",
    "deadline_s": "deadline s",
    "patience": "patience",
    "query": "asked by",
}


@app.callback()
def definition() -> None:
    """The workflow definitions."""


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """List the definitions with their steps in order."""
    rows = [_row(each) for each in DEFINITIONS.values()]
    if output is Output.TABLE:
        rows = [
            {**row, "steps": " > ".join(row["steps"]), "default": "yes" if row["default"] else ""}
            for row in rows
        ]
    show_rows(rows, _COLUMNS, output)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Such as fulfillment.v1.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the steps of a definition: commands, answers, deadlines (seconds), and how each is undone."""
    found = DEFINITIONS.get(name)
    if found is None:
        raise NotFound(f"There is no definition {name!r}; one of {', '.join(DEFINITIONS)}")
    steps = [_step(step) for step in found.steps]
    if output is Output.TABLE:
        show_rows(steps, _STEP_COLUMNS, output)
    else:
        show_document({**_row(found), "steps": steps}, output)


@app.command("docs")
def docs() -> None:
    """Print docs/reference/saga.md: steps, states, and what every event does in every state."""
    typer.echo(page(), nl=False)


def _row(each: Definition) -> dict[str, Any]:
    return {
        "definition": each.name,
        "default": each.name == DEFAULT_DEFINITION,
        "steps": [step.name for step in each.steps],
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "step": step.name,
        "kind": str(step.kind),
        "do": step.do.__name__,
        "done": step.done.__name__,
        "refused": step.refused.__name__,
        "undo": step.undo.__name__ if step.undo else None,
        "deadline_s": step.deadline.total_seconds(),
        "patience": step.patience,
        "query": step.query.__name__ if step.query else None,
        "lapsed": step.lapsed.__name__ if step.lapsed else None,
        "keeps": step.keeps,
    }
