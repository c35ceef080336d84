"""Does a service that was away catch up, oldest first, while the load goes on?

First the service is saturated: as many commands are kept under way as it takes, published by the program that
publishes later. Then half of that rate is offered, without a pause, while the service's worker is stopped,
stays away, comes back and catches up. It has caught up when commands are again handled within a second of
their publication.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from bench.alone import Alone
from bench.commands import (
    IN_FLIGHT,
    Letter,
    Writer,
    count_handled,
    handled,
    publish,
    send,
    start_service,
    until,
    until_settled,
)
from bench.conditions import conditions, strain
from bench.figures import FASTEST, percentile, schedule
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.settings import Settings
from fulcrum.wire.codec import open_codec

#: Seconds of saturation, seconds of half load before the outage, seconds of it after the service caught up.
_SATURATED, _BEFORE, _AFTER = 15.0, 5.0, 5.0
#: A command handled within so many seconds of its publication is one that met no backlog.
_AT_ONCE = 1.0
_SETTLED_WITHIN = 300.0
#: To count what was handled costs Postgres some, and so the drain that is measured.
_LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """``away`` is the outage in seconds; ``most`` commands a second are offered at most."""

    service: str
    away: float
    most: float = FASTEST


@dataclass(frozen=True, slots=True)
class Sent:
    """A command as it was offered: its place in the order, and when it was sent (calendar seconds)."""

    number: int
    at: float


async def measure(plan: Plan, own: Alone, say: Callable[[str], None]) -> dict[str, Any]:
    """Run ``plan``; Unavailable when a command is not handled in the end."""
    settings = own.settings()
    under, before = await conditions(settings), strain()
    writer = Writer(await open_codec(settings), plan.service)
    publisher = await CommandPublisher.open(settings, "bench")
    try:
        await asyncio.to_thread(start_service, own, plan.service)
        stock = writer.stock()
        await publish(publisher, stock)
        await until_settled(settings, plan.service, stock, _SETTLED_WITHIN)
        saturation = await _saturate(plan, writer, publisher, settings)
        rate = min(saturation / 2, plan.most)
        say(f"{plan.service}: {saturation:.0f} commands/s at most; {rate:.0f}/s are offered")
        result = await _outage(plan, rate, writer, publisher, own, say)
    finally:
        await publisher.close()
    return {
        "plan": asdict(plan),
        "conditions": under,
        "before": before,
        "after": strain(),
        "saturation_per_s": round(saturation, 1),
        "offered_per_s": round(rate, 1),
        **result,
    }


async def _saturate(plan: Plan, writer: Writer, publisher: CommandPublisher, settings: Settings) -> float:
    """Commands a second when there is always one waiting, publishing included."""
    dsn = settings.postgres_dsn
    first, began = await asyncio.to_thread(count_handled, dsn, plan.service), time.monotonic()
    sent, done = 0, 0
    letters: list[Letter] = []
    while (spent := time.monotonic() - began) < _SATURATED:
        done = await asyncio.to_thread(count_handled, dsn, plan.service) - first
        # Enough for the next look, and no backlog that would have to be waited for.
        wanted = max(500, int(2 * done / spent)) - (sent - done) if spent else 500
        batch = writer.good(max(0, wanted))
        letters += batch
        sent += len(batch)
        await publish(publisher, batch)
        if not batch:
            await asyncio.sleep(0.1)
    done = await asyncio.to_thread(count_handled, dsn, plan.service) - first
    rate = done / (time.monotonic() - began)
    await until_settled(settings, plan.service, letters, _SETTLED_WITHIN)
    return rate


async def _outage(
    plan: Plan,
    rate: float,
    writer: Writer,
    publisher: CommandPublisher,
    own: Alone,
    say: Callable[[str], None],
) -> dict[str, Any]:
    settings = own.settings()
    sent: dict[str, Sent] = {}
    letters: list[Letter] = []
    over = asyncio.Event()
    first = await asyncio.to_thread(count_handled, settings.postgres_dsn, plan.service)
    load = asyncio.create_task(_offer(rate, writer, publisher, over, sent, letters))
    try:
        await asyncio.sleep(_BEFORE)
        await asyncio.to_thread(own.stop, plan.service)
        stopped = time.time()
        await asyncio.sleep(plan.away)
        back = time.time()
        say(f"{plan.service}: back after {back - stopped:.0f} s, {len(sent)} commands were offered so far")
        await asyncio.to_thread(start_service, own, plan.service)
        ready = time.time()
        await _until_caught_up(settings, plan, first, sent, load)
        await asyncio.sleep(_AFTER)
    finally:
        over.set()
        await load
    await until_settled(settings, plan.service, letters, _SETTLED_WITHIN)
    times = await asyncio.to_thread(handled, settings.postgres_dsn, plan.service)
    found = told(sent, times, stopped, back, plan.away)
    return {**found, "start_s": round(ready - back, 2)}


async def _offer(
    rate: float,
    writer: Writer,
    publisher: CommandPublisher,
    over: asyncio.Event,
    sent: dict[str, Sent],
    letters: list[Letter],
) -> None:
    """An open loop: each command leaves when it is due, in order, until ``over``."""
    free = asyncio.Semaphore(IN_FLIGHT)
    began = time.perf_counter()

    async def one(letter: Letter) -> None:
        try:
            await send(publisher, letter)
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        for offset in schedule(rate, 2 * _SETTLED_WITHIN + 1200):
            if over.is_set():
                return
            await asyncio.sleep(max(0.0, began + offset - time.perf_counter()))
            await free.acquire()
            (letter,) = writer.good(1)
            letters.append(letter)
            sent[letter.message_id] = Sent(len(sent), time.time())
            group.create_task(one(letter))


async def _until_caught_up(
    settings: Settings, plan: Plan, first: int, sent: Mapping[str, Sent], load: asyncio.Task[None]
) -> None:
    """Wait until no more are open than were sent since the last look. ``first`` were handled before."""
    before = len(sent)

    async def caught_up() -> bool:
        nonlocal before
        if load.done():
            load.result()
        done = await asyncio.to_thread(count_handled, settings.postgres_dsn, plan.service) - first
        grown, before = len(sent) - before, len(sent)
        return len(sent) - done <= grown

    await until(caught_up, _SETTLED_WITHIN, f"{plan.service} caught up", _LOOK_SECONDS)


# --- what it comes to: pure -------------------------------------------------------------------------


def told(
    sent: Mapping[str, Sent], times: Mapping[str, float], stopped: float, back: float, away: float
) -> dict[str, Any]:
    """What the times of publishing and of handling say. The worker was gone, and told to start, at these."""
    missing = sorted(sent.keys() - times.keys())
    taken = sorted((times[each], sent[each].number) for each in sent if each in times)
    caught_up = _caught_up(sent, times, back)
    waited = [times[each] - sent[each].at for each in sent if each in times and sent[each].at < back]
    waiting = [each for each in sent if sent[each].at < back and times.get(each, back) >= back]
    backlog_gone = max((times[each] for each in waiting if each in times), default=back) - back
    late = overtaken(taken)
    allowed = 2 * IN_FLIGHT
    return {
        "offered": len(sent),
        "missing": missing[:10],
        "away_s": round(back - stopped, 2),
        "backlog": len(waiting),
        "backlog_gone_s": round(backlog_gone, 2),
        "caught_up_s": None if caught_up is None else round(caught_up - back, 2),
        "caught_up_within_s": away,
        "handled_per_s_meanwhile": None if caught_up is None else _rate(times, back, caught_up),
        "longest_wait_s": round(max(waited, default=0.0), 2),
        "overtaken": {
            "p50": percentile(late, 0.5),
            "p99": percentile(late, 0.99),
            "most": max(late, default=0),
            "allowed": allowed,
            "means": "commands that were published later and handled in an earlier transaction",
        },
        "oldest_first": max(late, default=0) <= allowed,
        "holds": not missing
        and caught_up is not None
        and caught_up - back <= away
        and max(late, default=0) <= allowed,
    }


def _rate(times: Mapping[str, float], begin: float, end: float) -> float | None:
    handled_then = sum(begin <= at < end for at in times.values())
    return round(handled_then / (end - begin), 1) if end > begin else None


def _caught_up(sent: Mapping[str, Sent], times: Mapping[str, float], back: float) -> float | None:
    """When a command was first handled again within a second of its publication; None: none was."""
    after = ((times[each], times[each] - sent[each].at) for each in sent if times.get(each, 0.0) >= back)
    return min((at for at, waited in after if waited <= _AT_ONCE), default=None)


def overtaken(taken: Sequence[tuple[float, int]]) -> list[int]:
    """For each command, how many that were published later were handled in an earlier transaction.

    ``taken`` are the time of its transaction and its place in the order of publishing, sorted.
    """
    before: list[int] = []
    counts: list[int] = []
    for _, batch in groupby(taken, key=lambda each: each[0]):
        numbers = [number for _, number in batch]
        counts += [len(before) - bisect_left(before, number) for number in numbers]
        for number in numbers:
            insort(before, number)
    return counts


def failed(result: Mapping[str, Any]) -> list[str]:
    """Why it is no success; empty when it is one."""
    reasons = {
        f"{len(result['missing'])} commands or more were lost": bool(result["missing"]),
        f"caught up after {result['caught_up_s']} s": result["caught_up_s"] is None
        or result["caught_up_s"] > result["caught_up_within_s"],
        "commands were overtaken": not result["oldest_first"],
    }
    return [reason for reason, seen in reasons.items() if seen]
