"""One measured run: load, what it took, what it cost, and whether everything held."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import cost
from bench.conditions import conditions, strain
from bench.figures import milliseconds
from bench.hops import ends, hops
from bench.load import Ends, Generator, Load, Sent
from fulcrum.doctor.invariants import Violation, at_rest, check_all, settings_of
from fulcrum.wire.codec import open_codec

_SETTLE_WITHIN = 60.0
_LOOK_EVERY = 0.25
_UNITS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """What to measure. One of ``rate`` and ``users`` is given; ``duration`` and ``warmup`` in seconds."""

    rate: float | None
    users: int | None
    duration: float
    warmup: float
    skus: int
    definition: str


async def measure(
    plan: Plan, env: Mapping[str, str], pids: Callable[[], Mapping[str, int]]
) -> dict[str, Any]:
    """Run ``plan`` against the system of ``env``; ``pids`` names the processes whose cost is counted."""
    settings = settings_of(env)
    codec = await open_codec(settings)
    watched = Ends(env, codec, asyncio.get_running_loop())
    generator = Generator(env["FULCRUM_API"], watched, plan.skus, plan.definition)
    try:
        under = await conditions(settings)
        await generator.stock(_UNITS)
        if plan.warmup > 0:
            await _load(generator, plan, plan.warmup)
        since = await asyncio.to_thread(ends, settings)
        start, began, before = strain(), time.perf_counter(), cost.look(pids())
        load = await _load(generator, plan, plan.duration)
        after, took, end = cost.look(pids()), time.perf_counter() - began, strain()
        violations = await settled(env) + await generator.disagreements(load)
        told = await asyncio.to_thread(hops, settings, codec, since)
    finally:
        await generator.close()
        await asyncio.to_thread(watched.close)
    spent = cost.spent(before, after)
    return {
        "plan": asdict(plan),
        "conditions": under,
        "before": start,
        "after": end,
        **summary(load, plan),
        "hops_ms": told,
        "cores_busy": cores_busy(spent, took),
        "processes": costs(spent, len(load.ended)),
        "violations": [asdict(violation) for violation in violations],
    }


async def _load(generator: Generator, plan: Plan, duration: float) -> Load:
    if plan.rate is not None:
        return await generator.open_loop(plan.rate, duration)
    assert plan.users is not None
    return await generator.closed_loop(plan.users, duration)


async def settled(env: Mapping[str, str]) -> list[Violation]:
    """What is wrong once the system has come to rest: the projector may be a moment behind the journal."""
    deadline = time.monotonic() + _SETTLE_WITHIN
    await asyncio.to_thread(_until_at_rest, env, deadline)
    while True:
        found = await check_all(env)
        if not found or time.monotonic() > deadline:
            return found
        # What is acknowledged last (a cached view, an emptied queue) may be seen a moment later.
        await asyncio.sleep(_LOOK_EVERY)


def _until_at_rest(env: Mapping[str, str], deadline: float) -> None:
    while not at_rest(env) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)


def summary(load: Load, plan: Plan) -> dict[str, Any]:
    """Rates and latencies; an open loop counts from when the intent was due, not from when it was sent."""
    accepted = [s for s in load.sent if s.accepted is not None]
    completed = [s for s in load.ended if s.end and s.end.decision.status == "completed"]
    in_time = [s for s in completed if s.end and s.end.at <= load.until]
    answered_in_time = [s for s in accepted if s.accepted and s.accepted <= load.until]
    span = load.until - load.began
    begins = {id(s): s.due if plan.rate is not None else s.accepted or s.due for s in load.ended}
    return {
        "sent": len(load.sent),
        "refused": load.refused,
        "accepted": len(accepted),
        "completed": len(completed),
        "cancelled": len(load.ended) - len(completed),
        "unfinished": len(accepted) - len(load.ended),
        "accepted_per_s": round(len(answered_in_time) / span, 1),
        "completed_per_s": round(len(in_time) / span, 1),
        "late_ms": milliseconds([s.sent - s.due for s in load.sent], 0.5, 0.99),
        "intake_ms": milliseconds([(s.accepted or 0) - s.due for s in accepted], 0.5, 0.99),
        "accept_to_complete_ms": milliseconds(
            [s.end.at - begins[id(s)] for s in load.ended if s.end], 0.5, 0.95, 0.99
        ),
        "stages_ms": stages(load.ended),
    }


def stages(ended: Collection[Sent]) -> dict[str, dict[str, float | None]]:
    """Where the time went, by the services' own clocks: intent to each step's answer, and from the last
    answer to the arrival of the final decision."""
    times: dict[str, list[float]] = defaultdict(list)
    for each in ended:
        if each.end is None:
            continue
        decision = each.end.decision
        last, name = decision.started_at, "intent"
        done = [step for step in decision.steps if step.finished_at is not None]
        for step in sorted(done, key=lambda step: str(step.finished_at)):
            assert step.finished_at is not None
            times[f"{name} to {step.name}"].append((step.finished_at - last).total_seconds())
            last, name = step.finished_at, step.name
        times[f"{name} to end seen"].append((each.end.wall - last).total_seconds())
    return {stage: milliseconds(values, 0.5, 0.99) for stage, values in times.items()}


def costs(spent: Mapping[str, cost.Cost], ended: int) -> dict[str, dict[str, float]]:
    """CPU milliseconds a workflow that ended, and resident megabytes, by process."""
    return {
        name: {
            "cpu_ms_a_saga": round(each.cpu * 1000 / max(1, ended), 3),
            "rss_mb": round(each.rss / 2**20, 1),
        }
        for name, each in spent.items()
        if name != cost.MACHINE
    }


def cores_busy(spent: Mapping[str, cost.Cost], seconds: float) -> dict[str, float]:
    """How many cores were busy on average, and with whom: what others used, these figures did not get."""
    machine, own = spent[cost.MACHINE].cpu, spent[cost.SELF].cpu
    stack = sum(each.cpu for name, each in spent.items() if name not in (cost.MACHINE, cost.SELF))
    parts = {"all": machine, "fulcrum": stack, "bench": own, "others": max(0.0, machine - stack - own)}
    return {name: round(part / seconds, 2) for name, part in parts.items()}


def failed(result: Mapping[str, Any]) -> Sequence[str]:
    """Why a run is no success; empty when it is one."""
    reasons = {
        "invariants are broken": result["violations"],
        "intents were refused": result["refused"],
        "workflows did not end": result["unfinished"],
        "workflows were cancelled": result["cancelled"],
    }
    return [reason for reason, seen in reasons.items() if seen]
