"""One measured run from conditions to invariants, and how it is told."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench import cost
from bench.figures import percentile
from bench.invariants import Violation, check_all
from bench.load import Ends, Generator, Load
from fulcrum.settings import Settings
from fulcrum.wire.codec import open_codec

_SETTLE_WITHIN = 30.0
_CALIBRATION = 2_000_000


@dataclass(frozen=True)
class Plan:
    """What to measure. One of ``rate`` and ``users`` is given; ``duration`` and ``warmup`` in seconds."""

    rate: float | None
    users: int | None
    duration: float
    warmup: float
    skus: int
    definition: str


def calibrate() -> float:
    """Seconds for a fixed loop: how fast this machine is just now, to compare runs by."""
    began, total = time.perf_counter(), 0
    for number in range(_CALIBRATION):
        total += number
    return time.perf_counter() - began


def conditions() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "calibration_s": round(calibrate(), 4),
        "durable": "fsync on in Postgres, quorum queues with confirms, acks=all; one broker, one node each",
    }


async def measure(
    plan: Plan, env: Mapping[str, str], pids: Callable[[], Mapping[str, int]]
) -> dict[str, Any]:
    """Run ``plan`` against the system of ``env``; ``pids`` names the processes whose cost is counted."""
    given = {name.removeprefix("FULCRUM_").lower(): value for name, value in env.items()}
    settings = Settings(**{k: v for k, v in given.items() if k in Settings.model_fields})  # type: ignore[arg-type]
    ends = Ends(env, await open_codec(settings), asyncio.get_running_loop())
    generator = Generator(env["FULCRUM_API"], ends, plan.skus, plan.definition)
    try:
        await generator.stock(1_000_000)
        if plan.warmup > 0:
            await _run(generator, plan, plan.warmup)
        start = conditions()
        before = cost.look(pids())
        load = await _run(generator, plan, plan.duration)
        after = cost.look(pids())
        end = conditions()
    finally:
        await generator.close()
        await asyncio.to_thread(ends.close)
    violations = await _settled(env)
    return {
        "plan": asdict(plan),
        "before": start,
        "after": end,
        **summary(load, plan),
        "processes": _costs(cost.spent(before, after), load),
        "violations": [asdict(violation) for violation in violations],
    }


async def _run(generator: Generator, plan: Plan, duration: float) -> Load:
    if plan.rate is not None:
        return await generator.open_loop(plan.rate, duration)
    assert plan.users is not None
    return await generator.closed_loop(plan.users, duration)


async def _settled(env: Mapping[str, str]) -> list[Violation]:
    """What is wrong once the system has come to rest: the projector may be a moment behind the journal."""
    deadline = time.monotonic() + _SETTLE_WITHIN
    while True:
        found = await check_all(env)
        if not found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)


def summary(load: Load, plan: Plan) -> dict[str, Any]:
    """Rates and latencies; an open loop counts from when the intent was due, not from when it was sent."""
    accepted = [s for s in load.sent if s.accepted is not None]
    ended = [s for s in load.sent if s.ended is not None]
    in_time = [s for s in ended if s.ended is not None and s.ended <= load.until]
    span = load.until - load.began
    intake = [(s.accepted or 0) - s.due for s in accepted]
    if plan.rate is not None:
        whole = [(s.ended or 0) - s.due for s in ended]
    else:
        whole = [(s.ended or 0) - (s.accepted or 0) for s in ended]
    return {
        "sent": len(load.sent),
        "refused": load.refused,
        "accepted": len(accepted),
        "ended": len(ended),
        "accepted_per_s": round(len([s for s in accepted if (s.accepted or 0) <= load.until]) / span, 1),
        "completed_per_s": round(len(in_time) / span, 1),
        "intake_ms": _milliseconds(intake, (0.5, 0.99)),
        "accept_to_complete_ms": _milliseconds(whole, (0.5, 0.95, 0.99)),
    }


def _milliseconds(values: list[float], shares: tuple[float, ...]) -> dict[str, float]:
    return {f"p{share * 100:g}": round(percentile(values, share) * 1000, 1) for share in shares}


def _costs(spent: Mapping[str, cost.Cost], load: Load) -> dict[str, dict[str, float]]:
    ended = max(1, len([s for s in load.sent if s.ended is not None]))
    return {
        name: {"cpu_ms_a_saga": round(each.cpu * 1000 / ended, 3), "rss_mb": round(each.rss / 2**20, 1)}
        for name, each in spent.items()
    }


def tell(result: Mapping[str, Any], console: Console) -> None:
    """Print a result for people."""
    plan, before, after = result["plan"], result["before"], result["after"]
    kind = (
        f"open loop, {plan['rate']:g}/s"
        if plan["rate"] is not None
        else f"closed loop, {plan['users']} users"
    )
    console.print(
        f"\n{kind} for {plan['duration']:g} s after {plan['warmup']:g} s, {plan['definition']}, "
        f"{plan['skus']} SKUs; {before['cores']} cores, {before['memory_gb']} GB, Python {before['python']}, "
        f"load {before['load_average']:.1f} to {after['load_average']:.1f}, "
        f"calibration {before['calibration_s']} and {after['calibration_s']} s\n{before['durable']}\n"
        "an end is the arrival of the final decision on Kafka; "
        + ("latency counts from the scheduled time" if plan["rate"] is not None else "from the answer")
    )
    figures = Table("figure", "value")
    for name in ("sent", "refused", "accepted", "ended", "accepted_per_s", "completed_per_s"):
        figures.add_row(name.replace("_", " "), str(result[name]))
    for name in ("intake_ms", "accept_to_complete_ms"):
        shown = "  ".join(f"{share} {value}" for share, value in result[name].items())
        figures.add_row(name.replace("_", " "), shown)
    console.print(figures)
    costs = Table("process", "CPU ms a saga", "RSS MB")
    for name, each in result["processes"].items():
        costs.add_row(name, f"{each['cpu_ms_a_saga']:.2f}", f"{each['rss_mb']:.0f}")
    whole = [each for name, each in result["processes"].items() if name != "bench"]
    costs.add_row(
        "all but bench",
        f"{sum(each['cpu_ms_a_saga'] for each in whole):.2f}",
        f"{sum(each['rss_mb'] for each in whole):.0f}",
    )
    console.print(costs)
    broken = result["violations"]
    console.print(f"invariants: {'all hold' if not broken else f'{len(broken)} BROKEN'}")
    for violation in broken[:20]:
        console.print(json.dumps(violation), markup=False)
