"""What does one message in a thousand that cannot be handled cost the others?

A service drains a queue that was filled while it was away: with good commands only, or with a bad one behind
every so many of them. The two alternate, and which goes first does too, so that what drifts meets both alike.
A round's rate is the number of good commands over the time from the first to the last of them, by the clock
of Postgres; the start of the worker is not in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from math import sqrt
from statistics import median
from typing import Any

from bench.alone import Alone
from bench.commands import Letter, Writer, handled, parked, publish, start_service, until_settled
from bench.conditions import conditions, strain
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.settings import Settings
from fulcrum.wire.codec import open_codec

#: What the others may lose, in per cent.
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
    """Medians (commands a second), what the bad ones cost, and the noise of that, both in per cent.

    The cost is the median over the rounds, each of which sets its two drains against each other; the noise is
    the standard error of that median, from the median distance of the rounds to it.
    """
    costs = [100 * (1 - under / clean) for clean, under in zip(without, with_poison, strict=True)]
    cost = median(costs)
    noise = _MEDIAN_ERROR * median(abs(each - cost) for each in costs) / sqrt(len(costs))
    return {
        "without_per_s": round(median(without), 1),
        "with_per_s": round(median(with_poison), 1),
        "cost_percent": round(cost, 2),
        "noise_percent": round(noise, 2),
        "limit_percent": LIMIT,
        "verdict": verdict(cost, noise),
        "rounds_without_per_s": [round(rate, 1) for rate in without],
        "rounds_with_per_s": [round(rate, 1) for rate in with_poison],
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
    rates: dict[bool, list[float]] = {False: [], True: []}
    publisher = await CommandPublisher.open(settings, "bench")
    try:
        stock = writer.stock()
        await publish(publisher, stock)
        await _drain(own, service, settings, stock)
        for poisoned in (None, *order(plan.rounds)):  # the first one warms up
            good = writer.good(plan.commands)
            letters = mixed(good, lambda: next(bad)(), plan.every) if poisoned else good
            await publish(publisher, letters)
            await _drain(own, service, settings, letters)
            rate = await asyncio.to_thread(_rate, settings, service, good, letters)
            say(f"{service:10} {_kind(poisoned)} {rate:8.1f}/s")
            if poisoned is not None:
                rates[poisoned].append(rate)
    finally:
        await publisher.close()
    return compared(rates[False], rates[True])


def _kind(poisoned: bool | None) -> str:
    return "warm-up" if poisoned is None else "poison " if poisoned else "clean  "


async def _drain(own: Alone, service: str, settings: Settings, letters: Sequence[Letter]) -> None:
    if not letters:
        return
    await asyncio.to_thread(start_service, own, service)
    await until_settled(settings, service, letters, _DRAINED_WITHIN)
    await asyncio.to_thread(own.stop, service)


def _rate(settings: Settings, service: str, good: Sequence[Letter], letters: Sequence[Letter]) -> float:
    """Good commands a second; every good one must be handled and every bad one parked."""
    times, aside = handled(settings.postgres_dsn, service), parked(settings.postgres_dsn, service)
    taken = sorted(times[letter.message_id] for letter in good)
    bad = {letter.message_id for letter in letters} - {letter.message_id for letter in good}
    if missing := bad - aside.keys():
        raise RuntimeError(f"{len(missing)} bad messages took effect, of which {min(missing)} is one")
    return (len(taken) - 1) / (taken[-1] - taken[0])


def failed(result: Mapping[str, Any]) -> list[str]:
    """Which services lose too much, as far as can be told; none when it is a success."""
    return [
        f"{service} loses {each['cost_percent']} %"
        for service, each in result["services"].items()
        if each["verdict"] == "fails"
    ]
