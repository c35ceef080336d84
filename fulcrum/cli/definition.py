"""``fulcrum definition``: the workflow definitions of this version, and are they what was published?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fulcrum.cli.client import Output, OutputOption, note, show_document, show_rows
from fulcrum.cli.definition_migrate import migrate
from fulcrum.cli.exits import Exit
from fulcrum.errors import NotFound, Rejected
from fulcrum.saga.definitions import DEFAULT_DEFINITION, DEFINITIONS, Definition, Step
from fulcrum.saga.describe import page
from fulcrum.saga.fingerprint import changed, of_definition, of_steps, unpublished
from fulcrum.saga.graph import FORMS
from fulcrum.saga.published import PUBLISHED

app = typer.Typer(no_args_is_help=True)
app.command("migrate")(migrate)

_COLUMNS = {
    "definition": "definition",
    "default": "default",
    "published": "published",
    "fingerprint": "fingerprint",
    "steps": "steps",
}
_FAULT_COLUMNS = {"definition": "definition", "fault": "what is wrong"}
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
            {
                **row,
                "steps": " > ".join(row["steps"]),
                "default": "yes" if row["default"] else "",
                "published": "yes" if row["published"] else "",
            }
            for row in rows
        ]
    show_rows(rows, _COLUMNS, output)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Such as fulfillment.v1.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the steps of a definition: commands, answers, deadlines (seconds), and how each is undone."""
    found = _find(name)
    steps = [_step(step) for step in found.steps]
    if output is Output.TABLE:
        show_rows(steps, _STEP_COLUMNS, output)
    else:
        show_document({**_row(found), "steps": steps}, output)


@app.command("graph")
def graph(
    name: Annotated[str, typer.Argument(help="Such as fulfillment.v1.")],
    form: Annotated[str, typer.Option("--format", help=f"One of: {', '.join(FORMS)}.")] = "mermaid",
) -> None:
    """Print how a workflow goes on from each step, and back, as text that draws itself."""
    write = FORMS.get(form)
    if write is None:
        raise Rejected(f"--format {form}: there is no such form; one of {', '.join(FORMS)}")
    typer.echo(write(_find(name)), nl=False)


@app.command("check")
def check(output: OutputOption = Output.TABLE) -> None:
    """Compare the definitions with what was published; exit code 10 when one differs or is not published.

    For one that is not published, the lines that a release adds to fulcrum/saga/published.py are printed.
    """
    rows = [
        {"definition": fault.partition(" ")[0], "fault": fault} for fault in changed(DEFINITIONS, PUBLISHED)
    ]
    new = unpublished(DEFINITIONS, PUBLISHED)
    rows += [{"definition": name, "fault": f"{name} is not published"} for name in new]
    if rows or output is not Output.TABLE:
        show_rows(rows, _FAULT_COLUMNS, output)
    else:
        note(f"{len(PUBLISHED)} definitions are what was published")
    for name in new:
        note("\n".join(_lines(DEFINITIONS[name])))
    if rows:
        raise typer.Exit(Exit.FOUND)


def _lines(definition: Definition) -> list[str]:
    """What a release adds to the published definitions."""
    rows = [f'        "{name}": "{print_}",' for name, print_ in of_steps(definition).items()]
    return [f'    "{definition.name}": {{', *rows, "    },"]


def _find(name: str) -> Definition:
    found = DEFINITIONS.get(name)
    if found is None:
        raise NotFound(f"There is no definition {name!r}; one of {', '.join(DEFINITIONS)}")
    return found


@app.command("docs")
def docs() -> None:
    """Print docs/reference/saga.md: steps, states, and what every event does in every state."""
    typer.echo(page(), nl=False)


def _row(each: Definition) -> dict[str, Any]:
    return {
        "definition": each.name,
        "default": each.name == DEFAULT_DEFINITION,
        "published": each.name in PUBLISHED,
        "fingerprint": of_definition(each),
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
