"""``python -m bench.crash``: kill everything, again and again, and check that nothing was lost or doubled.

It starts servers and roles of its own, in a folder that is removed at the end, and touches nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.crash_report import failed, tell
from bench.crash_run import LIMITS, UNFORGIVING, Plan, crash
from bench.crash_schedule import schedule
from bench.figures import seconds
from bench.program import run
from fulcrum.cli.client import console
from fulcrum.errors import Rejected
from fulcrum.localstack import Stack, running

_LONGEST, _MOST, _FASTEST = 4 * 3600.0, 5000, 50.0


def plan_of(arguments: Sequence[str]) -> tuple[Plan, dict[str, str], Path | None]:
    """The plan that was asked for, what the roles are told beyond the usual, and where the result goes.

    Rejected when it is out of bounds.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.crash", description=__doc__)
    parser.add_argument(
        "--for", dest="duration", default="30m", help="how long, such as 90s or 30m; 4h at most"
    )
    parser.add_argument("--kills", type=int, default=_MOST, help="end after so many hits")
    parser.add_argument("--seed", type=int, default=1, help="the same seed hits the same in the same order")
    parser.add_argument("--rate", type=float, default=8.0, help="intents a second, 50 at most")
    parser.add_argument("--clock", action="store_true", help="let the clock and the reconciler help")
    parser.add_argument("--json", dest="file", type=Path, help="write the result to this file")
    given = parser.parse_args(arguments)
    duration = seconds(given.duration)
    for name, value, most in (
        ("--for", duration, _LONGEST),
        ("--kills", given.kills, _MOST),
        ("--rate", given.rate, _FASTEST),
    ):
        if not 0 < value <= most:
            raise Rejected(f"{name} {value:g}: give more than 0 and at most {most:g}")
    plan = Plan(schedule(given.seed), duration, given.kills, given.rate, given.seed)
    return plan, {} if given.clock else UNFORGIVING, given.file


def main(arguments: Sequence[str]) -> int:
    """Run, print, and write what was found; 0 when everything ended and every invariant holds."""
    out = console()
    plan, more, file = plan_of(arguments)
    folder = Path(tempfile.mkdtemp(prefix="fulcrum-crash-"))
    folder.chmod(0o755)
    stack = Stack(folder, Stack().home.dist)
    keep = True
    try:
        with running(stack, say=out.print, namespace="crash", env={**LIMITS, **more}) as found:
            result = asyncio.run(crash(plan, stack, found, out.print))
        tell(result, out)
        if file is not None:
            file.write_text(json.dumps(result, indent=1))
        reasons = failed(result)
        keep = bool(reasons)
    except KeyboardInterrupt:
        keep = False
        raise
    finally:
        if keep:
            out.print(f"left for looking into: {folder}")
        else:
            stack.wipe(lambda line: None)
            shutil.rmtree(folder, ignore_errors=True)
    for reason in reasons:
        print(f"crash: {reason}", file=sys.stderr)
    return 1 if reasons else 0


if __name__ == "__main__":
    run("crash", main)
