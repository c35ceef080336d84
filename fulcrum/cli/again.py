"""How a command that shows a state shows it again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

from fulcrum.cli.client import Output
from fulcrum.cli.exits import Exit
from fulcrum.errors import Rejected

WatchOption = Annotated[bool, typer.Option("--watch", help="Show it again and again, until interrupted.")]
EveryOption = Annotated[float, typer.Option(min=0.1, help="Seconds between looks with --watch.")]
FailAboveOption = Annotated[
    int | None, typer.Option(min=0, help="End with exit code 10 as soon as one has more than this.")
]


def shown(look: Callable[[], bool], watch: bool, every: float, output: Output) -> None:
    """Call ``look``, which shows and says whether all is well; exit code 10 as soon as it is not."""
    if watch and output is Output.JSON:
        raise Rejected("-o json is one document and --watch has no end: use -o ndjson")
    try:
        while True:
            if not look():
                raise typer.Exit(Exit.FOUND)
            if not watch:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
