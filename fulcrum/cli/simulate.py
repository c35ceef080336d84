"""``fulcrum simulate``: the saga in virtual time under seeded faults, and the way back to what failed."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from fulcrum.cli.client import show_json
from fulcrum.cli.exits import Exit
from fulcrum.errors import NotFound
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.simulation.campaign import Failure, Result, run_worlds
from fulcrum.simulation.faults import FAULTS, parse

_FAULTS_HELP = f"all, none, or some of {', '.join(FAULTS)}; each may have a rate of its own: crash=0.01."


def simulate(
    seed: Annotated[int, typer.Option(min=0, help="All chance comes from it.")] = 1,
    workflows: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many.")] = 1000,
    faults: Annotated[str, typer.Option(help=_FAULTS_HELP)] = "all",
    definition: Annotated[
        list[str] | None, typer.Option(help="Only workflows of this definition; may be given more than once.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run workflows in virtual time without servers; exit code 1 when an invariant is broken.

    The same seed gives the same output, byte for byte; how long it took goes to standard error. A failure
    prints what happened to the workflow, in order, and the command that shows exactly that again.
    """
    chosen, definitions = parse(faults), tuple(definition or ())
    if unknown := [name for name in definitions if name not in DEFINITIONS]:
        raise NotFound(f"There is no definition {unknown[0]!r}; one of {', '.join(DEFINITIONS)}")
    began = time.perf_counter()
    result = run_worlds(seed, workflows, chosen, definitions)
    took = time.perf_counter() - began
    if json_output:
        show_json(_as_json(result, seed, faults))
    else:
        _tell(result)
    speed = f"{result.workflows / took:,.0f} workflows/s, {result.steps / took:,.0f} steps/s"
    typer.echo(f"simulate: {took:.1f} s: {speed}", err=True)
    if result.failure is not None:
        if json_output:
            typer.echo(f"simulate: {result.failure.invariant}: {result.failure.detail}", err=True)
        raise typer.Exit(Exit.FAILED)


def _tell(result: Result) -> None:
    rows = {"workflows": result.workflows, "worlds": result.worlds, "steps": result.steps}
    for name, count in [*rows.items(), *sorted(result.counts.items())]:
        typer.echo(f"{name:<32}{count:>12,}")
    typer.echo(f"{'fingerprint':<32}{result.fingerprint}")
    if result.failure is None:
        typer.echo("Every invariant held.")
        return
    failure = result.failure
    typer.echo(f"\nVIOLATED  {failure.invariant}: {failure.detail}")
    if failure.workflow_id is not None:
        typer.echo(f"workflow  {failure.workflow_id}, and what concerned all, in order:")
    for happened in failure.schedule:
        typer.echo(str(happened))
    typer.echo(f"\nAgain: {_replay(failure)}")


def _as_json(result: Result, seed: int, faults: str) -> dict[str, Any]:
    failure = result.failure
    return {
        "seed": seed,
        "faults": faults,
        "workflows": result.workflows,
        "worlds": result.worlds,
        "steps": result.steps,
        "counts": dict(sorted(result.counts.items())),
        "fingerprint": result.fingerprint,
        "failure": None
        if failure is None
        else {
            "invariant": failure.invariant,
            "detail": failure.detail,
            "workflow_id": failure.workflow_id,
            "schedule": [str(happened) for happened in failure.schedule],
            "replay": _replay(failure),
        },
    }


def _replay(failure: Failure) -> str:
    world = f"--seed {failure.seed} --workflows {failure.workflows}"
    only = "".join(f" --definition {name}" for name in failure.definitions)
    return f"fulcrum simulate {world} --faults {failure.faults.text}{only}"
