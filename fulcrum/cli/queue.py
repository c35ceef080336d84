"""``fulcrum queue``: what waits on RabbitMQ."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from fulcrum.cli.again import EveryOption, FailAboveOption, WatchOption, shown
from fulcrum.cli.client import Output, OutputOption, note, show_rows
from fulcrum.commands.depth import depths
from fulcrum.settings import load_settings

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {name: name for name in ("queue", "ready", "unacked", "consumers")}


@app.callback()
def queue() -> None:
    """The RabbitMQ queues of commands."""


@app.command("list")
def list_(
    watch: WatchOption = False,
    every: EveryOption = 1.0,
    fail_above: FailAboveOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how many messages wait on each queue, and how many consumers it has.

    ``unacked`` needs FULCRUM_RABBITMQ_MANAGEMENT_URL. ``--fail-above`` compares what is ready on each queue.
    """
    settings = load_settings()

    def look() -> bool:
        found = asyncio.run(depths(settings, tell_unacked=True))
        show_rows([asdict(each) for each in found], _COLUMNS, output)
        if not found:
            note(f"no queue of namespace {settings.namespace} exists; a role that starts declares them")
        over = [each for each in found if fail_above is not None and each.ready > fail_above]
        if over:
            note(f"ready above {fail_above}: {', '.join(f'{each.queue} {each.ready}' for each in over)}")
        return not over

    shown(look, watch, every, output)
