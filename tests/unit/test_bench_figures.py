"""What do a benchmark's raw times say?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from decisions import NOON, decision

from bench import cost
from bench.figures import bounded, milliseconds, percentile, schedule, seconds
from bench.load import End, Load, Sent
from bench.run import Plan, cores_busy, costs, failed, summary
from fulcrum.errors import Rejected

OPEN = Plan(rate=1, users=None, duration=10, warmup=0, skus=1, definition="fulfillment.v1")
CLOSED = Plan(rate=None, users=4, duration=10, warmup=0, skus=1, definition="fulfillment.v1")


def end(at: float, status: str = "completed") -> End:
    """A final decision that arrived at ``at``, 40 ms after its last step was answered."""
    return End(at, NOON + timedelta(milliseconds=40), decision(status=status))


@pytest.mark.parametrize(("text", "expected"), [("30s", 30.0), ("2m", 120.0), ("500ms", 0.5), ("1.5s", 1.5)])
def test_durations_are_read(text: str, expected: float) -> None:
    """A number with its unit."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["30", "s", "-1s", "1h", ""])
def test_a_bad_duration_is_named(text: str) -> None:
    """The error shows what was given and what is wanted."""
    with pytest.raises(Rejected, match="give a number with ms, s or m"):
        seconds(text)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((601, 0, None), "--for 601s"),
        ((0, 0, None), "--for 0s"),
        ((30, 601, None), "--warmup 601s"),
        ((30, 0, 2001), "--rate 2001"),
        ((30, 0, 0), "--rate 0"),
    ],
)
def test_runs_are_bounded(given: tuple[float, float, float | None], named: str) -> None:
    """Too short, too long or too fast is refused before anything starts."""
    with pytest.raises(Rejected, match=named):
        bounded(*given)


def test_the_largest_run_is_allowed() -> None:
    """The bounds belong to what may be asked for."""
    bounded(600, 600, 2000)


def test_an_open_loop_sends_evenly() -> None:
    """Due times come from the rate alone."""
    assert list(schedule(4, 1)) == [0, 0.25, 0.5, 0.75]


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank: no interpolation; nothing measured is not zero."""
    values = [float(n) for n in range(1, 101)]

    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([], 0.5) is None


def test_figures_of_nothing_are_still_json() -> None:
    """A run in which nothing ended is printed as null, not as NaN, which no JSON reader takes."""
    assert json.loads(json.dumps(milliseconds([], 0.5, 0.999))) == {"p50": None, "p99.9": None}


def test_an_open_loop_counts_from_the_scheduled_time() -> None:
    """A late sender must not hide the wait: 1 s late and 0.5 s of work are 1.5 s."""
    load = Load(began=0, until=10, sent=[Sent(due=1, sent=2, accepted=2.1, end=end(2.5))])

    told = summary(load, OPEN)

    assert told["accept_to_complete_ms"] == {"p50": 1500.0, "p95": 1500.0, "p99": 1500.0}
    assert told["intake_ms"]["p50"] == 1100.0
    assert told["late_ms"]["p50"] == 1000.0
    assert told["completed_per_s"] == 0.1


def test_a_closed_loop_counts_from_the_answer() -> None:
    """A user waits for the workflow from when its intent was accepted."""
    load = Load(began=0, until=10, sent=[Sent(due=1, sent=1, accepted=1.25, end=end(2.0))])

    assert summary(load, CLOSED)["accept_to_complete_ms"]["p50"] == 750.0


def test_only_what_completes_in_time_counts_as_throughput() -> None:
    """Not the cancelled, not those that end while the load drains, not those that never end."""
    sent = [
        Sent(due=0, sent=0, accepted=0.1, end=end(1)),
        Sent(due=1, sent=1, accepted=1.1, end=end(2, "cancelled")),
        Sent(due=9, sent=9, accepted=9.1, end=end(11)),
        Sent(due=9.5, sent=9.5, accepted=10.5, end=None),
        Sent(due=9.9, sent=9.9),
    ]

    told = summary(Load(began=0, until=10, sent=sent, refused=1), OPEN)

    assert (told["sent"], told["refused"], told["accepted"]) == (5, 1, 4)
    assert (told["completed"], told["cancelled"], told["unfinished"]) == (2, 1, 1)
    assert (told["accepted_per_s"], told["completed_per_s"]) == (0.3, 0.1)


def test_stages_tell_where_the_time_went() -> None:
    """From the intent to each answer in the order they came, and to the arrival of the end."""
    load = Load(began=0, until=10, sent=[Sent(due=1, sent=1, accepted=1.1, end=end(3.2))])

    stages = summary(load, OPEN)["stages_ms"]

    assert {name: shares["p50"] for name, shares in stages.items()} == {
        "intent to authorize_payment": 1000.0,
        "authorize_payment to reserve_stock": 1000.0,
        "reserve_stock to end seen": 40.0,
    }


def test_a_run_fails_for_each_reason_and_names_it() -> None:
    """A broken invariant, a refusal, a workflow without end and one that was cancelled."""
    fine = {"violations": [], "refused": 0, "unfinished": 0, "cancelled": 0}

    assert failed(fine) == []
    assert failed({**fine, "violations": [{}]}) == ["invariants are broken"]
    assert failed({**fine, "refused": 1, "unfinished": 2, "cancelled": 3}) == [
        "intents were refused",
        "workflows did not end",
        "workflows were cancelled",
    ]


# --- cost -----------------------------------------------------------------------------------------


def test_the_cost_between_two_looks_is_what_was_spent() -> None:
    """CPU time of this process grows by work, and the machine's with it; what is gone is left out."""
    before = cost.look({"gone": 2**22 + 1})
    spent_until = os.times().user + 0.05
    while os.times().user < spent_until:
        pass
    spent = cost.spent(before, cost.look({}))

    assert set(spent) == {cost.SELF, cost.MACHINE}
    assert spent[cost.SELF].cpu >= 0.04
    assert spent[cost.MACHINE].cpu >= 0.04
    assert spent[cost.SELF].rss > 0


def test_the_cost_of_children_that_have_ended_counts() -> None:
    """A server that does its work in short-lived processes is charged for them."""
    program = (
        "import os, subprocess, sys\n"
        "input()\n"
        "burn = 'import os\\nwhile os.times().user < 0.2: pass'\n"
        "subprocess.run([sys.executable, '-c', burn], check=True)\n"
        "print('done', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        before = cost.look({"server": parent.pid})
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "done\n"
        after = cost.look({"server": parent.pid})
        parent.stdin.write("\n")
        parent.stdin.flush()

    assert cost.spent(before, after)["server"].cpu >= 0.15


def test_a_process_that_came_later_is_not_compared() -> None:
    """What was not there at the first look has no difference."""
    assert cost.spent({"a": cost.Cost(1, 5)}, {"a": cost.Cost(3, 7), "b": cost.Cost(9, 9)}) == {
        "a": cost.Cost(2, 7)
    }


def test_costs_are_by_workflow_and_without_the_machine() -> None:
    """CPU milliseconds a workflow and megabytes; when none ended, the sum."""
    spent = {cost.MACHINE: cost.Cost(9, 0), "kafka": cost.Cost(0.5, 2**21)}

    assert costs(spent, 100) == {"kafka": {"cpu_ms_a_saga": 5.0, "rss_mb": 2.0}}
    assert costs(spent, 0) == {"kafka": {"cpu_ms_a_saga": 500.0, "rss_mb": 2.0}}


def test_cores_are_told_apart_by_who_kept_them_busy() -> None:
    """What neither the stack nor the benchmark used was used by others."""
    spent = {cost.MACHINE: cost.Cost(15, 0), cost.SELF: cost.Cost(1, 0), "kafka": cost.Cost(4, 0)}

    assert cores_busy(spent, 10) == {"all": 1.5, "fulcrum": 0.4, "bench": 0.1, "others": 1.0}
