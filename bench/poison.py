"""What does one message in a thousand that cannot be handled cost the others?

A service drains a queue that was filled while its worker was held (SIGSTOP): with good commands only, or with
a bad one among every so many of them. The two alternate, and which goes first does too, so that what drifts
meets both alike. A drain's rate is the number of good commands over the time from the first to the last of
them, by the clock of Postgres. On a machine that others use too, the good commands for each second of the
worker's own CPU time tell more.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from math import sqrt
from statistics import median
from typing import Any

import psutil

from bench.alone import Alone
from bench.commands import Letter, Writer, handled, parked, publish, start_service, until_settled
from bench.conditions import conditions, strain
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.localstack.supervisor import RoleProcess
from fulcrum.settings import Settings
from fulcrum.wire.codec import open_codec

#: What the others may lose, in per cent of their rate.
LIMIT = 5.0
#: Of normal values: their standard deviation is 1.4826 median distances, the error of a median 1.2533 of it.
_MEDIAN_ERROR = 1.4826 * 1.2533
_DRAINED_WITHIN = 120.0


@dataclass(frozen=True)
class Plan:
    """``commands`` good ones a round, one bad one behind every ``every``, ``rounds`` of each kind."""

    services: Sequence[str]
    commands: int
    every: int
    rounds: int


#: All seven tries of a bad command fall into the drain: the sum of the delays is two seconds.
RETRY_UNIT = 0.0005


@dataclass(frozen=True, slots=True)
class Drain:
    """Good commands a second, and for a second of the worker's CPU time."""

    rate: float
    per_cpu: float


def mixed(good: Sequence[Letter], bad: Callable[[], Letter], every: int) -> list[Letter]:
    """``good``, with a bad one in the middle of each ``every`` of them."""
    letters: list[Letter] = []
    for number, letter in enumerate(good):
        if number % every == every // 2:
            letters.append(bad())
        letters.append(letter)
    return letters


def order(rounds: int) -> list[bool]:
    """Which drains have bad ones: both kinds in each round, in turn the one and the other first."""
    return [poisoned for number in range(rounds) for poisoned in ((False, True), (True, False))[number % 2]]


def compared(without: Sequence[float], with_poison: Sequence[float]) -> dict[str, Any]:
    """Medians of the rates, what the bad ones cost, and the noise of that, both in per cent.

    The cost is the median over the rounds, each of which sets its two drains against each other; the noise is
    the standard error of that median, from the median distance of the rounds to it.
    """
    costs = [100 * (1 - under / clean) for clean, under in zip(without, with_poison, strict=True)]
    cost = median(costs)
    noise = _MEDIAN_ERROR * median(abs(each - cost) for each in costs) / sqrt(len(costs))
    return {
        "without": round(median(without), 1),
        "with": round(median(with_poison), 1),
        "cost_percent": round(cost, 2),
        "noise_percent": round(noise, 2),
        "limit_percent": LIMIT,
        "verdict": verdict(cost, noise),
        "rounds_without": [round(rate, 1) for rate in without],
        "rounds_with": [round(rate, 1) for rate in with_poison],
    }


def verdict(cost: float, noise: float) -> str:
    """Whether the cost is below the limit, or whether the noise is too great to tell."""
    if cost + noise < LIMIT:
        return "holds"
    return "fails" if cost - noise >= LIMIT else "cannot be told"


async def measure(plan: Plan, own: Alone, say: Callable[[str], None]) -> dict[str, Any]:
    """Run ``plan``; Unavailable when a command is neither handled nor parked in the end."""
    settings = own.settings()
    under, before = await conditions(settings), strain()
    services = {service: await _service(plan, service, own, settings, say) for service in plan.services}
    return {
        "plan": {**asdict(plan), "retry_unit": RETRY_UNIT},
        "conditions": under,
        "before": before,
        "after": strain(),
        "services": services,
    }


async def _service(
    plan: Plan, service: str, own: Alone, settings: Settings, say: Callable[[str], None]
) -> dict[str, Any]:
    writer = Writer(await open_codec(settings), service)
    bad = cycle((writer.failing, writer.unreadable))
    drains: dict[bool, list[Drain]] = {False: [], True: []}
    publisher = await CommandPublisher.open(settings, "bench")
    try:
        role = await asyncio.to_thread(start_service, own, service)
        await _drain(role, settings, publisher, writer.stock())
        for poisoned in (None, *order(plan.rounds)):  # the first one warms up
            good = writer.good(plan.commands)
            letters = mixed(good, lambda: next(bad)(), plan.every) if poisoned else good
            cpu = await _drain(role, settings, publisher, letters)
            drained = await asyncio.to_thread(_looked_at, settings, service, good, letters, cpu)
            say(f"{service:10} {_kind(poisoned)} {drained.rate:8.1f}/s {drained.per_cpu:8.1f}/CPU s")
            if poisoned is not None:
                drains[poisoned].append(drained)
        await asyncio.to_thread(own.stop, service)
    finally:
        await publisher.close()
    return {
        figure: compared(
            [getattr(each, name) for each in drains[False]], [getattr(each, name) for each in drains[True]]
        )
        for figure, name in (("a second", "rate"), ("a second of the worker's CPU", "per_cpu"))
    }


def _kind(poisoned: bool | None) -> str:
    return "warm-up" if poisoned is None else "poison " if poisoned else "clean  "


async def _drain(
    role: RoleProcess, settings: Settings, publisher: CommandPublisher, letters: Sequence[Letter]
) -> float:
    """Have ``letters`` handled, all of which wait when the first is; the CPU seconds that took the worker."""
    if not letters or role.pid is None:
        return 0.0
    os.kill(role.pid, signal.SIGSTOP)
    try:
        await publish(publisher, letters)
    finally:
        os.kill(role.pid, signal.SIGCONT)
    before = _cpu(role)
    await until_settled(settings, role.role, letters, _DRAINED_WITHIN)
    return _cpu(role) - before


def _cpu(role: RoleProcess) -> float:
    times = psutil.Process(role.pid).cpu_times()
    return float(times.user + times.system)


def _looked_at(
    settings: Settings, service: str, good: Sequence[Letter], letters: Sequence[Letter], cpu: float
) -> Drain:
    """What a drain came to; every good command must be handled and every bad one parked."""
    times, aside = handled(settings.postgres_dsn, service), parked(settings.postgres_dsn, service)
    taken = sorted(times[letter.message_id] for letter in good)
    bad = {letter.message_id for letter in letters} - {letter.message_id for letter in good}
    if missing := bad - aside.keys():
        raise RuntimeError(f"{len(missing)} bad messages took effect, of which {min(missing)} is one")
    return Drain((len(taken) - 1) / (taken[-1] - taken[0]), len(taken) / cpu)


def failed(result: Mapping[str, Any]) -> list[str]:
    """Which services lose too much, as far as can be told; none when it is a success."""
    return [
        f"{service} loses {each['cost_percent']} % {figure}"
        for service, figures in result["services"].items()
        for figure, each in figures.items()
        if each["verdict"] == "fails"
    ]
