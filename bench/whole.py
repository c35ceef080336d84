"""``python -m bench.whole``: every benchmark in turn, beside the last results that were committed.

The results go to bench/results/local with a plot of how they compare. With --keep they take the place of the
committed ones of a machine with as many cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.comparison import Compared, compare
from bench.program import run
from fulcrum.cli.client import console
from fulcrum.errors import Rejected

RESULTS = Path(__file__).parent / "results"
#: Each part with its arguments: together they take a quarter of an hour.
PARTS: Mapping[str, Sequence[str]] = {
    "system, 32 users": ("--users", "32", "--for", "20s", "--warmup", "10s"),
    "system, 50/s": ("--rate", "50", "--for", "20s"),
    "relay": ("relay", "--backlog", "0,100000"),
    "payment": ("payment",),
    "inventory": ("inventory",),
    "projection": ("projection", "--for", "15s"),
    "reads": ("reads", "--workflows", "100000"),
    "rebuild": ("rebuild", "--events", "100000"),
}

Say = Callable[[str], None]


def measure(names: Sequence[str], say: Say) -> tuple[dict[str, Any], list[str]]:
    """The results by part, and the parts that failed; one that missed a target has a result all the same."""
    results: dict[str, Any] = {}
    failed = []
    for name in names:
        began = time.monotonic()
        argv = [sys.executable, "-m", "fulcrum", "bench", *PARTS[name], "--json"]
        ended = subprocess.run(argv, capture_output=True, text=True, check=False)
        if ended.stdout.strip():
            results[name] = json.loads(ended.stdout)
        if ended.returncode:
            told = ended.stderr.strip().splitlines()
            failed.append(f"{name}: exit code {ended.returncode}: {told[-1] if told else 'it said nothing'}")
        say(f"{name:18} {time.monotonic() - began:.0f} s")
    return results, failed


def committed(cores: int) -> Path:
    """Where the committed results of a machine with so many cores are."""
    return RESULTS / f"{cores}-cores.json"


def plot(compared: Sequence[Compared], file: Path) -> None:
    """Draw every ratio as a bar, the worst on top."""
    from matplotlib import pyplot

    shown = sorted(compared, key=lambda each: each.ratio, reverse=True)
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.25 * len(shown)))
    colours = ["tab:red" if each.worse else "tab:blue" for each in shown]
    axes.barh([each.name for each in shown], [each.ratio for each in shown], color=colours)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("now beside then: above 1 is better")
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def main(arguments: Sequence[str]) -> int:
    """Run, compare and write; 1 when a part failed or a figure is a regression."""
    parser = argparse.ArgumentParser(prog="python -m bench.whole", description=__doc__)
    parser.add_argument("--part", action="append", help=f"which; several times: {', '.join(PARTS)}")
    parser.add_argument("--keep", action="store_true", help="commit these: write them where those are")
    given = parser.parse_args(arguments)
    names = given.part or list(PARTS)
    if unknown := set(names) - PARTS.keys():
        raise Rejected(f"--part {min(unknown)!r} is unknown; one of {', '.join(PARTS)}")
    out = console()
    results, failed = measure(names, lambda line: out.print(line, markup=False))
    cores = os.cpu_count() or 1
    local = RESULTS / "local"
    local.mkdir(parents=True, exist_ok=True)
    (local / "results.json").write_text(json.dumps(results, indent=1))
    known = committed(cores)
    compared: list[Compared] = []
    if known.exists():
        compared = sorted(compare(results, json.loads(known.read_text())), key=lambda each: each.ratio)
        table = Table("figure", "then", "now", "ratio")
        for each in compared:
            table.add_row(each.name, f"{each.then:g}", f"{each.now:g}", f"{each.ratio:g}")
        out.print(table)
        plot(compared, local / "results.svg")
    else:
        out.print(f"there are no committed results of {cores} cores to compare with")
    out.print(f"written to {local}", markup=False)
    if given.keep:
        kept = {**(json.loads(known.read_text()) if known.exists() else {}), **results}
        known.write_text(json.dumps(kept, indent=1) + "\n")
    worse = [f"{each.name}: {each.ratio:g} of what it was" for each in compared if each.worse]
    for reason in (*failed, *worse):
        print(f"bench: {reason}", file=sys.stderr)
    return 1 if failed or worse else 0


if __name__ == "__main__":
    run("bench", main)
