"""What do a benchmark's raw times say?"""

from __future__ import annotations

import math
import os

import pytest

from bench import cost
from bench.figures import bounded, percentile, schedule, seconds
from bench.load import Load, Sent
from bench.report import Plan, summary
from fulcrum.errors import Rejected


@pytest.mark.parametrize(("text", "expected"), [("30s", 30.0), ("2m", 120.0), ("500ms", 0.5), ("1.5s", 1.5)])
def test_durations_are_read(text: str, expected: float) -> None:
    """A number with its unit."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["30", "s", "-1s", "1h", ""])
def test_a_bad_duration_is_named(text: str) -> None:
    """The error shows what was given and what is wanted."""
    with pytest.raises(Rejected, match="give a number with ms, s or m"):
        seconds(text)


def test_runs_are_bounded() -> None:
    """Too long or too fast is refused before anything starts."""
    bounded(600, 2000)
    with pytest.raises(Rejected, match="--for 601s"):
        bounded(601, None)
    with pytest.raises(Rejected, match="--rate 2001"):
        bounded(1, 2001)


def test_an_open_loop_sends_evenly() -> None:
    """Due times come from the rate alone."""
    assert list(schedule(4, 1)) == [0, 0.25, 0.5, 0.75]


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank: no interpolation; nothing measured is not zero."""
    values = [float(n) for n in range(1, 101)]

    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert math.isnan(percentile([], 0.5))


def test_an_open_loop_counts_from_the_scheduled_time() -> None:
    """A late sender must not hide the wait: 1 s late and 0.5 s of work are 1.5 s."""
    load = Load(began=0, until=10, sent=[Sent(due=1, sent=2, accepted=2.1, ended=2.5)])
    plan = Plan(rate=1, users=None, duration=10, warmup=0, skus=1, definition="fulfillment.v1")

    told = summary(load, plan)

    assert told["accept_to_complete_ms"] == {"p50": 1500.0, "p95": 1500.0, "p99": 1500.0}
    assert told["intake_ms"]["p50"] == 1100.0
    assert told["completed_per_s"] == 0.1


def test_the_cost_between_two_looks_is_what_was_spent() -> None:
    """CPU time of this process grows by work; a process that is gone is left out."""
    before = cost.look({"gone": 2**22 + 1})
    spent_until = os.times().user + 0.05
    while os.times().user < spent_until:
        pass
    spent = cost.spent(before, cost.look({}))

    assert list(spent) == ["bench"]
    assert spent["bench"].cpu >= 0.04
    assert spent["bench"].rss > 0
