"""``fulcrum demo``: the whole of Fulcrum on real servers, in nine stories that a person can watch."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fulcrum.cli.client import show_json
from fulcrum.cli.exits import Exit
from fulcrum.cli.interrupt import interruptible
from fulcrum.cli.telling import Check, tell
from fulcrum.localstack import Running, Stack, running

_WIDTH = 110


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the checks as JSON at the end.")] = False,
) -> None:
    """Start the servers and every role, drive nine stories through the API, and check how each ends."""
    out = sys.stderr if json_output else sys.stdout
    width = None if out.isatty() else _WIDTH
    console = Console(soft_wrap=True, highlight=False, stderr=json_output, width=width)
    with interruptible():
        try:
            with running(Stack(), say=console.print) as found:
                checks = tell(found, console)
                _print_checks(checks, console)
                _print_addresses(found, console, keep=keep)
                if json_output:
                    show_json([{**asdict(check), "held": check.held} for check in checks])
                if keep:
                    console.print("\nEverything is left running; Ctrl-C stops it.")
                    with suppress(KeyboardInterrupt):
                        threading.Event().wait()
        except KeyboardInterrupt:
            console.print("Stopped.")
            raise typer.Exit(Exit.INTERRUPTED) from None
    if not all(check.held for check in checks):
        raise typer.Exit(Exit.FAILED)


def _print_checks(checks: list[Check], console: Console) -> None:
    table = Table("story", "what", "expected", "seen", "", box=box.SIMPLE_HEAD, pad_edge=False)
    story = ""
    for check in checks:
        mark = Text("ok", style="green") if check.held else Text("DIFFERS", style="bold red")
        name = Text("" if check.story == story else check.story, style="bold")
        table.add_row(name, Text(check.what), Text(check.expected), Text(check.seen), mark)
        story = check.story
    held = sum(check.held for check in checks)
    console.print()
    console.print(table)
    console.print(
        f"{held} of {len(checks)} as expected\n", style="green" if held == len(checks) else "bold red"
    )


def _print_addresses(found: Running, console: Console, *, keep: bool) -> None:
    agents = found.supervisor.url("agents")
    console.print(f"API                  {found.api}  ({found.api}/openapi.json)")
    console.print(f"orchestrator's runs  {agents}/runs  {agents}/runs/overview  {agents}/table/")
    console.print(
        f"RabbitMQ management  {found.env.get('FULCRUM_RABBITMQ_MANAGEMENT_URL', '-')}  (guest, guest)"
    )
    console.print(f"logs                 {found.supervisor.roles['intake'].log.parent}")
    stops = "Ctrl-C here" if keep else "stops now; `--keep` leaves it running until Ctrl-C"
    console.print(f"to stop              {stops}; `fulcrum stack down` stops servers that ran before")
