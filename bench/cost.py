"""What did each process of the stack cost: CPU time between two looks, and memory at the second?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

#: The name under which this process itself, and what the whole machine did, are listed.
SELF, MACHINE = "bench", "machine"


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds since the process began, children that have ended included, and resident bytes.

    Of several processes the memory that they share (the buffers of Postgres) is counted once.
    """

    cpu: float
    rss: int


def look(pids: Mapping[str, int]) -> dict[str, Cost]:
    """The cost so far of each process tree, of this process alone (it may be the parent of others), and the
    CPU seconds that the machine was busy.

    A process that is gone is left out.
    """
    found = {MACHINE: Cost(_busy(), 0), SELF: _of([psutil.Process()], ended=False)}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found[name] = _of([root, *root.children(recursive=True)])
    return found


def _busy() -> float:
    """Seconds in which a core of this machine did anything for anybody, time stolen by the host included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _of(processes: Iterable[psutil.Process], *, ended: bool = True) -> Cost:
    cpu, own, shared = 0.0, 0, 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times, memory = process.cpu_times(), process.memory_info()
            cpu += times.user + times.system
            if ended:
                # A Postgres backend that ends in between is counted by the parent that waits for it.
                cpu += times.children_user + times.children_system
            own += memory.rss - memory.shared
            shared = max(shared, memory.shared)
    return Cost(cpu, own + shared)


def spent(before: Mapping[str, Cost], after: Mapping[str, Cost]) -> dict[str, Cost]:
    """CPU seconds between the looks and memory at the second, for what was there both times."""
    return {
        name: Cost(max(0.0, cost.cpu - before[name].cpu), cost.rss)
        for name, cost in after.items()
        if name in before
    }
