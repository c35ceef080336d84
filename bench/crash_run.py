"""One crash run: steady load, hit after hit, then everything must have ended and every invariant hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from bench.crash_load import Sent, Steady
from bench.crash_metrics import Counts
from bench.crash_report import Hit, matrix, seen, slow, wrong_ends
from bench.crash_schedule import Deed
from bench.crash_targets import Targets
from bench.load import Ends
from bench.run import settled
from fulcrum.doctor.invariants import settings_of
from fulcrum.errors import Unavailable
from fulcrum.localstack import Running, Stack
from fulcrum.wire.codec import open_codec

#: Delays of retries are a small part of those in use, and there are more of them: an outage that was made on
#: purpose is short, and its end is waited for. Warehouse and courier are looked at often, and move quickly.
LIMITS = {
    "FULCRUM_RETRY_UNIT": "0.005",
    "FULCRUM_RETRY_LIMIT": "40",
    "FULCRUM_WAREHOUSE_PACE": "0.05",
    "FULCRUM_WAREHOUSE_POLL_INTERVAL": "0.3",
    "FULCRUM_WAREHOUSE_SWEEP_AFTER": "3",
    "FULCRUM_COURIER_PACE": "0.2",
    "FULCRUM_COURIER_POLL": "3",
    "FULCRUM_COURIER_POLL_INTERVAL": "1",
    "FULCRUM_COURIER_SWEEP_AFTER": "3",
    "FULCRUM_COURIER_SWEEP_INTERVAL": "1",
}

#: Nothing makes good a lost message: a workflow that misses one never ends.
UNFORGIVING = {"FULCRUM_CLOCK": "false", "FULCRUM_RECONCILE_GRACE": "86400"}

_WARM = 10
_RECOVERED_WITHIN = 90.0
_DRAIN_WITHIN = 240.0
_LOOK = 0.05
#: Hits in a row that did not work out, after which there is no use in going on.
_HOPELESS = 3


@dataclass(frozen=True)
class Plan:
    """``duration`` in seconds, ``rate`` in intents a second; ``most`` hits at most."""

    deeds: Iterable[Deed]
    duration: float
    most: int
    rate: float
    seed: int


async def crash(plan: Plan, stack: Stack, running: Running, say: Callable[[str], None]) -> dict[str, Any]:
    """Carry out ``plan`` on the system of ``running``; the result is what ``bench.crash_report`` tells."""
    began = time.perf_counter()
    codec = await open_codec(settings_of(running.env))
    ends = Ends(running.env, codec, asyncio.get_running_loop())
    load = Steady(running.api, ends, plan.rate, plan.seed)
    counts = Counts(running.supervisor)
    counting = asyncio.create_task(counts.run())
    hits: list[Hit] = []
    sending: asyncio.Task[None] | None = None
    try:
        await load.stock()
        sending = asyncio.create_task(load.run())
        await _until(
            lambda: sum(each.shown is not None for each in load.sent) >= _WARM,
            "the first workflows did not end",
        )
        await _hit_all(plan, Targets(stack, running), load, hits, began, say)
        load.stop()
        await sending
        say("drain      waiting for what is under way")
        left = await load.drain(_DRAIN_WITHIN)
        say("check      every invariant, from outside")
        violations = await settled(running.env)
    finally:
        for task in (counting, sending):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await load.close()
        await asyncio.to_thread(ends.close)
    return {
        "seed": plan.seed,
        "rate": plan.rate,
        "hits": len(hits),
        "seconds": round(time.perf_counter() - began, 1),
        "sent": len(load.sent),
        "ended": sum(each.ended is not None for each in load.sent),
        "tries": sum(each.tries for each in load.sent),
        "matrix": matrix(hits, load.sent),
        "each": [{**asdict(hit.deed), **asdict(seen(hit, load.sent)), "error": hit.error} for hit in hits],
        "counts": counts.total(),
        "slow": slow(hits, load.sent),
        "errors": [f"{hit.deed.target} {hit.deed.name}: {hit.error}" for hit in hits if hit.error],
        "wrong_ends": wrong_ends(load.sent),
        "unfinished": [_unfinished(each) for each in left],
        "violations": [asdict(violation) for violation in violations],
    }


async def _hit_all(
    plan: Plan, targets: Targets, load: Steady, hits: list[Hit], began: float, say: Callable[[str], None]
) -> None:
    for number, deed in enumerate(plan.deeds, start=1):
        if number > plan.most or time.perf_counter() - began > plan.duration:
            return
        await asyncio.sleep(deed.wait)
        hit = await _hit(deed, targets, load)
        hits.append(hit)
        after = seen(hit, load.sent).next
        told = hit.error or (f"next completion after {after:.2f} s" if after is not None else "none yet")
        say(f"hit {number:<6} {deed.target}: {deed.name}: {told}")
        if len(hits) >= _HOPELESS and all(each.error for each in hits[-_HOPELESS:]):
            return


async def _hit(deed: Deed, targets: Targets, load: Steady) -> Hit:
    """One deed, and the wait until a workflow that was posted after it is shown to have completed, and those
    from before it, too."""
    start = time.perf_counter()
    alone, error = start, None
    try:
        alone = await targets.hit(deed)
        await _until(lambda: _completed_since(load, alone), "no later workflow was shown to complete")
        await targets.ready()
        if deed.calm:
            await _until(
                lambda: all(each.sent >= alone for each in load.waiting.values()),
                "workflows posted before it did not end",
            )
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    return Hit(deed, start, alone, time.perf_counter(), error)


def _completed_since(load: Steady, moment: float) -> bool:
    fresh = takewhile(lambda each: each.sent >= moment, reversed(load.sent))
    return any(each.shown is not None and each.status == "completed" for each in fresh)


async def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _RECOVERED_WITHIN
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"{otherwise} within {_RECOVERED_WITHIN:g} s")
        await asyncio.sleep(_LOOK)


def _unfinished(each: Sent) -> str:
    where = "ended, but is not shown" if each.ended else "accepted" if each.accepted else "never accepted"
    return f"{each.workflow_id} ({each.story.name}): {where}, {each.tries} tries, last {each.error}"
