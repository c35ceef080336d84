"""What did each process of the stack cost: CPU time between two looks, and memory at the second?"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds since the process began, children that have ended included, and resident bytes."""

    cpu: float
    rss: int


def look(pids: Mapping[str, int]) -> dict[str, Cost]:
    """The cost so far of each process tree, and of this process alone, which may be the parent of others.

    A process that is gone is left out.
    """
    own = psutil.Process()
    times = own.cpu_times()
    found = {"bench": Cost(times.user + times.system, own.memory_info().rss)}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found[name] = _tree(root)
    return found


def _tree(root: psutil.Process) -> Cost:
    cpu, rss = 0.0, 0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # A Postgres backend that ends in between is counted by the parent that waits for it.
            cpu += times.user + times.system + times.children_user + times.children_system
            rss += process.memory_info().rss
    return Cost(cpu, rss)


def spent(before: Mapping[str, Cost], after: Mapping[str, Cost]) -> dict[str, Cost]:
    """CPU seconds between the looks and memory at the second, for what was there both times."""
    return {
        name: Cost(max(0.0, cost.cpu - before[name].cpu), cost.rss)
        for name, cost in after.items()
        if name in before
    }
