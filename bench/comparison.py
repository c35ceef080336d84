"""What does a set of results say beside an earlier one, on a machine that is not always as fast? Pure.

Each benchmark runs a fixed loop before and after (``conditions.strain``). A rate is taken times the seconds
of that loop, and a time through them: so a machine that was slower for everything does not read as a
regression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: A figure that got worse by more than this counts as a regression: what single runs differ by is about that.
TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a benchmark. ``more``: the larger, the better."""

    name: str
    value: float
    more: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure now and then. ``ratio`` is above 1 when it is better now, the machine's speed left out."""

    name: str
    now: float
    then: float
    ratio: float

    @property
    def worse(self) -> bool:
        """Whether it is a regression."""
        return self.ratio < 1 - TOLERANCE


def figures(part: str, result: Mapping[str, Any]) -> list[Figure]:
    """The numbers of a part that are compared; KeyError for a part that is not known."""
    return [each for each in _FIGURES[part](result) if each.value is not None]


def seconds_of_loop(result: Mapping[str, Any]) -> float:
    """How long the fixed loop took around a benchmark, the quicker of the two: the other was disturbed."""
    strain = result.get("strain", result)
    if "runs" in result and "before" not in strain:
        strain = result["runs"][-1]
    return float(min(strain["before"]["calibration_s"], strain["after"]["calibration_s"]))


def compare(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[Compared]:
    """Every figure of the parts that both sets have."""
    for part in now.keys() & then.keys():
        slower = seconds_of_loop(now[part]) / seconds_of_loop(then[part])
        before = {each.name: each.value for each in figures(part, then[part])}
        for each in figures(part, now[part]):
            if (known := before.get(each.name)) and each.value:
                grown = each.value / known
                ratio = grown * slower if each.more else slower / grown
                yield Compared(f"{part}: {each.name}", each.value, known, round(ratio, 2))


def _system(result: Mapping[str, Any]) -> Iterator[Figure]:
    yield Figure("completed/s", result["completed_per_s"], more=True)
    yield Figure("intake p99 ms", result["intake_ms"]["p99"], more=False)
    for share in ("p50", "p99"):
        yield Figure(f"accept to complete {share} ms", result["accept_to_complete_ms"][share], more=False)
    spent = sum(each["cpu_ms_a_saga"] for name, each in result["processes"].items() if name != "bench")
    yield Figure("CPU ms a workflow", spent, more=False)


def _relay(result: Mapping[str, Any]) -> Iterator[Figure]:
    for each in result["sizes"]:
        yield Figure(f"messages/s behind {each['backlog']}", each["messages_per_s"], more=True)


def _payment(result: Mapping[str, Any]) -> Iterator[Figure]:
    for each in result["runs"]:
        yield Figure(f"commands/s with {each['calls']} calls", each["rate"], more=True)


def _inventory(result: Mapping[str, Any]) -> Iterator[Figure]:
    for each in result["figures"]:
        where = f"{each['skus']} SKUs, {each['processes']} processes, {each['in_flight'] or 'all'} in flight"
        yield Figure(f"{each['way']}, {where}: reservations/s", each["per_second"], more=True)


def _projection(result: Mapping[str, Any]) -> Iterator[Figure]:
    for name, each in result["figures"].items():
        yield Figure(f"lag p99 ms by {name}", each["lag_ms"]["p99"], more=False)


def _reads(result: Mapping[str, Any]) -> Iterator[Figure]:
    for name, each in result["figures"].items():
        yield Figure(f"{name} p99 ms", each["p99"], more=False)


def _rebuild(result: Mapping[str, Any]) -> Iterator[Figure]:
    for each in result["runs"]:
        yield Figure(f"decisions/s of {each['events']}", each["events_per_s"], more=True)


_FIGURES = {
    "system, 32 users": _system,
    "system, 50/s": _system,
    "relay": _relay,
    "payment": _payment,
    "inventory": _inventory,
    "projection": _projection,
    "reads": _reads,
    "rebuild": _rebuild,
}
