"""Does a crash run hit everything, in an order that a seed repeats, and tell truly what came of it?"""

from __future__ import annotations

from itertools import islice

import pytest

from bench.crash import plan_of
from bench.crash_load import STORIES, Sent
from bench.crash_metrics import counts
from bench.crash_report import Hit, failed, matrix, seen, slow, wrong_ends
from bench.crash_schedule import ROLES, SECOND, SERVERS, Deed, Way, schedule
from fulcrum.crashpoint import POINTS
from fulcrum.errors import Rejected

_TWO_DECKS = 140


def test_a_seed_repeats_its_schedule() -> None:
    """The same seed hits the same in the same order, another seed does not."""
    first, again, other = (list(islice(schedule(seed), _TWO_DECKS)) for seed in (7, 7, 8))

    assert first == again != other


def test_everything_has_its_turn() -> None:
    """Roles and servers in three ways, their points, and a second worker that comes, is hit, and goes."""
    hit = {(deed.target, deed.way) for deed in islice(schedule(3), _TWO_DECKS)}
    points = {deed.point for seed in range(4) for deed in islice(schedule(seed), _TWO_DECKS)}

    assert {(t, w) for t in (*ROLES, *SERVERS, SECOND) for w in (Way.KILL, Way.TERM, Way.PAUSE)} <= hit
    assert points - {None} == {point for point, (role, _) in POINTS.items() if role in ROLES}


@pytest.mark.parametrize("seed", range(5))
def test_the_second_worker_is_hit_only_while_it_is_there(seed: int) -> None:
    """It is never hit before it has joined nor after it has left."""
    there = False
    for deed in islice(schedule(seed), 300):
        if deed.way is Way.JOIN or deed.point == "partitions.revoked":
            assert not there
            there = True
        elif deed.target == SECOND:
            assert there
            there = deed.way is not Way.LEAVE


@pytest.mark.parametrize(
    "arguments", [["--for", "5h"], ["--kills", "0"], ["--rate", "500"], ["--for", "soon"]]
)
def test_a_run_is_bounded(arguments: list[str]) -> None:
    """What would run for ever or load the machine is refused."""
    with pytest.raises(Rejected):
        plan_of(arguments)


# --- what is told ---------------------------------------------------------------------------------

_COMPLETES = STORIES[0]


def _sent(at: float, *, accepted: float, ended: float, shown: float, status: str = "completed") -> Sent:
    return Sent(_COMPLETES, at, 1, f"w{at}", accepted, ended, status, shown)


def test_times_count_from_when_the_system_was_left_alone() -> None:
    """The next end is anybody's; the rest is that of a workflow posted afterwards."""
    hit = Hit(Deed("agents", Way.KILL), began=10, alone=11, over=20)
    sent = [
        _sent(9, accepted=9.1, ended=10.5, shown=10.6),
        _sent(10.5, accepted=10.6, ended=12, shown=15),
        _sent(11.5, accepted=11.75, ended=13, shown=13.5),
        _sent(12, accepted=12.1, ended=14, shown=14.1),
        _sent(21, accepted=21.1, ended=40, shown=41),
    ]

    found = seen(hit, sent)

    assert (found.next, found.accepted, found.completed, found.shown) == (1, 0.75, 2, 2.5)
    assert found.caught_up == 4


def test_the_matrix_keeps_the_largest() -> None:
    """Two hits of a kind are one row with the worse of both."""
    hits = [Hit(Deed("kafka", Way.KILL), 0, 0, 10), Hit(Deed("kafka", Way.KILL, seconds=1), 10, 10, 20)]
    sent = [_sent(1, accepted=1, ended=2, shown=2), _sent(11, accepted=12, ended=14, shown=14)]

    (row,) = matrix(hits, sent)

    assert (row["target"], row["way"], row["times"], row["next_max_s"]) == ("kafka", "SIGKILL", 2, 4)


def test_a_slow_return_is_told() -> None:
    """After kill -9 of a role the next completion is due within 3 s, after that of Kafka within 10 s."""
    sent = [_sent(1, accepted=1, ended=5, shown=5)]

    assert len(slow([Hit(Deed("agents", Way.KILL), 0, 0, 9)], sent)) == 1
    assert slow([Hit(Deed("kafka", Way.KILL), 0, 0, 9)], sent) == []
    assert slow([Hit(Deed("agents", Way.TERM), 0, 0, 9)], sent) == []


def test_what_fails_a_run() -> None:
    """A broken invariant, a workflow without an end or with a wrong one, a hit that did not work out."""
    sound = {"violations": [], "unfinished": [], "wrong_ends": [], "errors": []}

    assert failed(sound) == []
    assert [failed({**sound, name: ["x"]}) for name in sound] == [
        ["1 invariants are broken"],
        ["1 workflows did not end"],
        ["1 workflows ended otherwise than they must"],
        ["1 hits did not work out"],
    ]
    assert wrong_ends([_sent(1, accepted=1, ended=2, shown=3, status="cancelled")]) == [
        "w1 (completes) ended cancelled"
    ]


def test_counters_are_read_from_a_page() -> None:
    """Samples of one metric are added up over their labels; others count for nothing."""
    page = """# HELP fulcrum_decisions_total Events
fulcrum_decisions_total{kind="duplicate",status="running"} 2.0
fulcrum_decisions_total{kind="duplicate",status="completed"} 3.0
fulcrum_decisions_total{kind="made",status="completed"} 9.0
fulcrum_stream_gaps_total{topic="t"} 1.0
"""

    assert counts(page) == {"duplicate events suppressed": 5, "gaps in a stream read again": 1}
