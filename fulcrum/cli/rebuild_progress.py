"""How does a rebuild tell a terminal or a program how far it is, and hear that it should stop?"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from fulcrum.cli.client import Output, console, show_line
from fulcrum.readmodel.rebuild import Progress

_TELL_EVERY = 0.5


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one interrupts."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def telling(output: Output) -> Iterator[Callable[[Progress], None]]:
    """What takes the progress: a bar for people, a line now and then for programs."""
    if output is not Output.TABLE:
        yield _Lines(output)
        return
    columns = (
        TextColumn("generation {task.fields[generation]} {task.fields[phase]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console()) as progress:
        task = progress.add_task("", generation="", phase="", rate=0.0)

        def tell(seen: Progress) -> None:
            progress.update(
                task,
                completed=seen.done,
                total=seen.total,
                generation=seen.generation,
                phase=seen.phase,
                rate=seen.rate,
            )

        yield tell


class _Lines:
    """Progress as lines of JSON, at most two a second, and one for each new phase."""

    def __init__(self, output: Output) -> None:
        self._silent = output is Output.JSON
        self._last = 0.0
        self._phase = ""

    def __call__(self, seen: Progress) -> None:
        now = time.monotonic()
        if self._silent or (seen.phase == self._phase and now - self._last < _TELL_EVERY):
            return
        self._last, self._phase = now, seen.phase
        eta = None if seen.eta is None else round(seen.eta, 1)
        show_line({**asdict(seen), "rate": round(seen.rate, 1), "eta_s": eta})
