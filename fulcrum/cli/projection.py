"""``fulcrum projection``: build the read model anew from the journal, compare it, swap it in, and go back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from fulcrum.cli.audited import audited
from fulcrum.cli.client import Output, OutputOption, note, show_json, show_line, show_rows
from fulcrum.cli.exits import Exit
from fulcrum.cli.rebuild_progress import stoppable, telling
from fulcrum.errors import Rejected
from fulcrum.readmodel import control, generations
from fulcrum.readmodel import rebuild as rebuilding
from fulcrum.readmodel import swap as swapping
from fulcrum.readmodel import verify as verifying
from fulcrum.readmodel.decision_log import DecisionLog
from fulcrum.readmodel.generations import Generation
from fulcrum.settings import Settings, load_settings
from fulcrum.store.plain import connected

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {
    "generation": "generation",
    "status": "status",
    "at_work": "at work",
    "decisions": "decisions",
    "lag": "lag",
    "updated_at": "updated",
    "error": "",
}

Reason = Annotated[str | None, typer.Option(help="Why; kept in the audit.")]
Actor = Annotated[str | None, typer.Option(help="Who decides it; the user of this terminal if not given.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The projection; there is one: workflows.")]


@app.command("rebuild")
def rebuild(
    name: Name,
    since: Annotated[
        str | None,
        typer.Option("--from", help="RFC 3339 time; what was decided before is copied, not folded again."),
    ] = None,
    skip: Annotated[
        str | None,
        typer.Option(metavar="PARTITION:OFFSET", help="Leave out the decision that the rebuild stopped at."),
    ] = None,
    reason: Reason = None,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replay the journal into a new generation beside the live one, or go on with the one that was begun.

    Ctrl-C pauses. The live generation is read and written meanwhile as before.
    """
    generations.require_known(name)
    settings, begin, leave_out = load_settings(), _moment(since), _place(skip)
    with (
        audited(settings, "projection.rebuild", name, actor, reason) as seen,
        stoppable() as stopping,
        telling(output) as tell,
    ):
        built = rebuilding.rebuild(settings, begin, tell, stopping, leave_out)
        seen.after = _kept(built)
    _show(built, output)
    if built.status == "ready":
        note(f"next: fulcrum projection verify {name}, then fulcrum projection swap {name}")
    elif built.status == "paused":
        note(f"go on: fulcrum projection rebuild {name}")


@app.command("pause")
def pause(
    name: Name, reason: Reason = None, actor: Actor = None, output: OutputOption = Output.TABLE
) -> None:
    """Ask the rebuild at work to stop after its batch; `rebuild` goes on from there."""
    generations.require_known(name)
    settings = load_settings()
    with audited(settings, "projection.pause", name, actor, reason) as seen:
        paused = control.pause(settings)
        seen.after = _kept(paused)
    _show(paused, output)


@app.command("abort")
def abort(
    name: Name, reason: Reason = None, actor: Actor = None, output: OutputOption = Output.TABLE
) -> None:
    """Give up the generation in work and drop it."""
    generations.require_known(name)
    settings = load_settings()
    with audited(settings, "projection.abort", name, actor, reason) as seen:
        aborted = control.abort(settings)
        seen.after = _kept(aborted)
    _show(aborted, output)


@app.command("status")
def status(name: Name, output: OutputOption = Output.TABLE) -> None:
    """Show every generation: its state, what it has folded, and how many decisions it has not read.

    Exit code 10 when one has failed.
    """
    generations.require_known(name)
    rows = _generations(load_settings())
    show_rows(rows, _COLUMNS, output)
    if failed := [str(row["generation"]) for row in rows if row["status"] == "failed"]:
        note(f"failed: generation {', '.join(failed)}")
        raise typer.Exit(Exit.FOUND)


@app.command("verify")
def verify(
    name: Name,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Compare so many workflows at random; all if not given.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many differing rows are named.")] = 20,
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare the new generation with the live one at the same offsets; exit code 10 when they differ."""
    generations.require_known(name)
    found = verifying.verify(load_settings(), sample, most)
    if output is Output.TABLE:
        columns = {"relation": "relation", "live": "live", "new": "new", "buckets": "buckets differ"}
        show_rows([asdict(each) for each in found.compared], columns, output)
        if found.differences:
            columns = {
                "relation": "relation",
                "workflow_id": "workflow",
                "version": "version",
                "what": "differs",
            }
            show_rows([asdict(each) for each in found.differences], columns, output)
    else:
        (show_json if output is Output.JSON else show_line)({"same": found.same, **asdict(found)})
    if not found.same:
        note(f"generation {found.generation} differs from the live one")
        raise typer.Exit(Exit.FOUND)


@app.command("swap")
def swap(name: Name, reason: Reason = None, actor: Actor = None, output: OutputOption = Output.TABLE) -> None:
    """Make the ready generation the one that people read; the one before is kept."""
    generations.require_known(name)
    _swap("projection.swap", swapping.swap, name, reason, actor, output)


@app.command("rollback")
def rollback(
    name: Name, reason: Reason = None, actor: Actor = None, output: OutputOption = Output.TABLE
) -> None:
    """Bring the generation before up to date and make it live again."""
    generations.require_known(name)
    _swap("projection.rollback", swapping.rollback, name, reason, actor, output)


@app.command("drop")
def drop(
    name: Name,
    generation: Annotated[int, typer.Option(min=1, help="Its number in `fulcrum projection status`.")],
    reason: Reason = None,
    actor: Actor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a generation that is not live. After that nothing can be rolled back to it."""
    generations.require_known(name)
    settings = load_settings()
    with audited(settings, "projection.drop", name, actor, reason) as seen:
        dropped = control.drop(settings, generation)
        seen.after = _kept(dropped)
    _show(dropped, output)


def _swap(
    action: str,
    act: Callable[[Settings], swapping.Swapped],
    name: str,
    reason: str | None,
    actor: str | None,
    output: Output,
) -> None:
    settings = load_settings()
    with audited(settings, action, name, actor, reason) as seen:
        swapped = act(settings)
        seen.before, seen.after = {"live": swapped.previous}, {"live": swapped.live}
    _tell_swap(swapped, output)


def _kept(generation: Generation) -> dict[str, Any]:
    """What the audit keeps of a generation."""
    return {"generation": generation.generation, "status": generation.status}


def _generations(settings: Settings) -> list[dict[str, Any]]:
    with connected(settings.postgres_dsn, "fulcrum-projection") as connection:
        found = generations.all_of(connection)
        read = {each.generation: generations.offsets_of(connection, each.generation) for each in found}
        busy = generations.worked_on(connection)
    log = DecisionLog(settings, f"{settings.namespace}-rebuild-status")
    try:
        ends = log.ends()
        projector = log.committed(f"{settings.namespace}-projector")
    finally:
        log.close()
    rows = []
    for each in found:
        offsets = read[each.generation]
        if each.status == "live":
            offsets = {place: max(offset, offsets.get(place, 0)) for place, offset in projector.items()}
        behind = sum(max(0, end - offsets.get(place, 0)) for place, end in ends.items())
        at_work = busy and each.status in generations.IN_WORK
        lag = None if each.status == "dropped" else behind
        rows.append({**_plain(each), "at_work": at_work, "lag": lag})
    return rows


def _plain(generation: Generation) -> dict[str, Any]:
    return {
        field: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
        for field, value in asdict(generation).items()
    }


def _show(generation: Generation, output: Output) -> None:
    if output is Output.TABLE:
        typer.echo(
            f"generation {generation.generation} {generation.status}: {generation.decisions} decisions"
        )
    else:
        (show_json if output is Output.JSON else show_line)(_plain(generation))


def _tell_swap(swapped: swapping.Swapped, output: Output) -> None:
    if output is Output.TABLE:
        typer.echo(f"generation {swapped.live} is live; generation {swapped.previous} is kept")
    else:
        (show_json if output is Output.JSON else show_line)(asdict(swapped))
    if not swapped.cache_told:
        note(
            "Redis did not hear of it: it may show the generation before until that expires, an hour at most"
        )


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Rejected(
            f"--from {text!r} is no RFC 3339 time; give one such as 2026-03-01T12:00:00Z"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _place(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise Rejected(f"--skip {text!r} is no place; give the partition and the offset, such as 3:1207")
    return int(partition), int(offset)
