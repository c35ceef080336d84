"""How does a benchmark of the command line end: its result told, and its exit code set?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import typer
from rich.console import Console

from fulcrum.cli.client import show_json
from fulcrum.cli.exits import Exit
from fulcrum.cli.interrupt import interruptible

_Result = TypeVar("_Result", bound=dict[str, Any])


def measured(
    name: str,
    json_output: bool,
    measure: Callable[[Console], _Result],
    tell: Callable[[_Result, Console], None],
    failed: Callable[[_Result], Sequence[str]],
) -> None:
    """Measure, tell the result, and exit with 1 when ``failed`` gives reasons.

    With ``json_output`` people read stderr and programs stdout. Ctrl-C stops what was started for it.
    """
    console = Console(soft_wrap=True, highlight=False, stderr=json_output)
    with interruptible():
        try:
            result = measure(console)
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
    tell(result, console)
    if json_output:
        show_json(result)
    if reasons := failed(result):
        typer.echo(f"{name}: {'; '.join(reasons)}", err=True)
        raise typer.Exit(Exit.FAILED)
