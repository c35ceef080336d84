"""How a command that shows a state shows it again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

EXIT_ABOVE, EXIT_INTERRUPTED = 10, 130

WatchOption = Annotated[bool, typer.Option("--watch", help="Show it again and again, until interrupted.")]
EveryOption = Annotated[float, typer.Option(min=0.1, help="Seconds between looks with --watch.")]
FailAboveOption = Annotated[
    int | None, typer.Option(min=0, help="End with exit code 10 as soon as one has more than this.")
]


def shown(look: Callable[[], bool], watch: bool, every: float) -> None:
    """Call ``look``, which shows and says whether all is well; exit code 10 as soon as it is not."""
    try:
        while True:
            if not look():
                raise typer.Exit(EXIT_ABOVE)
            if not watch:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
