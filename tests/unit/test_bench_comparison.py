"""What do results say beside earlier ones?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import whole
from bench.comparison import Compared, compare, figures, seconds_of_loop
from fulcrum.errors import Rejected


def rebuilt(rate: float, loop: float) -> dict[str, Any]:
    """A result of a rebuild on a machine that takes ``loop`` seconds for the fixed loop."""
    strain = {"before": {"calibration_s": loop * 2}, "after": {"calibration_s": loop}}
    return {"runs": [{"events": 100_000, "events_per_s": rate, **strain}]}


def lagging(p99: float, loop: float) -> dict[str, Any]:
    strain = {"before": {"calibration_s": loop}, "after": {"calibration_s": loop}}
    return {"figures": {"rate": {"lag_ms": {"p99": p99}}}, **strain}


def only(now: dict[str, Any], then: dict[str, Any]) -> Compared:
    (found,) = compare(now, then)
    return found


@pytest.mark.parametrize(
    ("rate", "loop", "ratio", "worse"),
    [
        (10_000, 0.05, 1.0, False),
        (12_000, 0.05, 1.2, False),
        (5_000, 0.10, 1.0, False),
        (5_000, 0.05, 0.5, True),
        (10_000, 0.03, 0.6, True),
    ],
    ids=["same", "better", "slower machine", "worse", "faster machine"],
)
def test_a_rate_is_compared_by_what_the_machine_could(
    rate: float, loop: float, ratio: float, worse: bool
) -> None:
    """Half the rate on half the machine is the same."""
    found = only({"rebuild": rebuilt(rate, loop)}, {"rebuild": rebuilt(10_000, 0.05)})

    assert (found.ratio, found.worse) == (ratio, worse)


@pytest.mark.parametrize(("p99", "loop", "ratio"), [(100, 0.05, 1.0), (50, 0.05, 2.0), (200, 0.1, 1.0)])
def test_a_time_is_better_when_it_is_shorter(p99: float, loop: float, ratio: float) -> None:
    """And may be twice as long on half the machine."""
    assert only({"projection": lagging(p99, loop)}, {"projection": lagging(100, 0.05)}).ratio == ratio


def test_what_is_new_or_gone_is_not_compared() -> None:
    """A part, or a figure of it, that only one set has."""
    now = {"rebuild": rebuilt(1, 1), "projection": lagging(1, 1)}
    then = {"rebuild": {**rebuilt(1, 1), "runs": [{**rebuilt(1, 1)["runs"][0], "events": 7}]}}

    assert list(compare(now, then)) == []


def test_the_quicker_loop_counts() -> None:
    """The other one was disturbed by something."""
    assert seconds_of_loop(rebuilt(1, 0.05)) == 0.05


def test_every_part_can_be_compared_with_what_is_committed() -> None:
    """The committed results are of the shape that the benchmarks have today."""
    for file in whole.RESULTS.glob("*-cores.json"):
        kept = json.loads(file.read_text())
        assert kept.keys() == whole.PARTS.keys()
        for part, result in kept.items():
            assert figures(part, result)
        assert {each.ratio for each in compare(kept, kept)} == {1.0}


def test_an_unknown_part_is_named() -> None:
    """Before anything runs."""
    with pytest.raises(Rejected, match="--part 'all' is unknown; one of system, 32 users"):
        whole.main(["--part", "all"])
