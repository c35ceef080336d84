"""What did the roles count, over all their lives? A counter dies with its process, so it is read often."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping

import aiohttp

from fulcrum.localstack import Supervisor

_EVERY, _WITHIN = 0.5, 1.0

#: What is added up, by what it says: the metric, and the label values that count.
COUNTED: Mapping[str, tuple[str, str]] = {
    "duplicate events suppressed": ("fulcrum_decisions_total", 'kind="duplicate"'),
    "duplicate commands answered again": ("fulcrum_commands_duplicate_total", ""),
    "commands sent to a retry queue": ("fulcrum_commands_retried_total", ""),
    "commands parked": ("fulcrum_commands_parked_total", ""),
    "events dead-lettered": ("fulcrum_events_dead_lettered_total", ""),
    "gaps in a stream read again": ("fulcrum_stream_gaps_total", ""),
    "timers fired": ("fulcrum_timer_lateness_seconds_count", ""),
    "outbox rows relayed": ("fulcrum_outbox_sent_total", ""),
}
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


def counts(page: str) -> Counter[str]:
    """What a page of metrics says of what is counted here."""
    found: Counter[str] = Counter()
    for name, labels, value in _SAMPLE.findall(page):
        for what, (metric, label) in COUNTED.items():
            if name == metric and label in labels:
                found[what] += int(float(value))
    return found


class Counts:
    """Reads every role's metrics twice a second; what a killed process counted after that is not known."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._lives: dict[tuple[str, int], Counter[str]] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_WITHIN)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                roles = self._supervisor.processes()
                await asyncio.gather(*(self._read(session, name, pid) for name, pid in roles.items()))
                await asyncio.sleep(_EVERY)

    async def _read(self, session: aiohttp.ClientSession, name: str, pid: int) -> None:
        try:
            async with session.get(f"{self._supervisor.url(name)}/metrics") as answer:
                page = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return
        self._lives[name, pid] = counts(page)

    def total(self) -> dict[str, int]:
        """Everything counted so far, at least."""
        found = Counter(dict.fromkeys(COUNTED, 0))
        for life in self._lives.values():
            found.update(life)
        return dict(found)
