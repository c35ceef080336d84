"""What do the times of an outage, and of drains with poison, say?"""

from __future__ import annotations

from bench.commands import Letter
from bench.outage import Sent, failed, overtaken, told
from bench.poison import compared, mixed, order


def _sent(*at: float) -> dict[str, Sent]:
    return {f"c{number}": Sent(number, when) for number, when in enumerate(at)}


def test_an_outage_that_is_caught_up_with_holds() -> None:
    """What waited is the backlog; it is caught up with when one is again handled at once."""
    sent = _sent(0, 10, 20, 31, 40)
    times = {"c0": 0.1, "c1": 30.5, "c2": 31.0, "c3": 33.0, "c4": 40.1}
    found = told(sent, times, stopped=5, back=30, away=25)
    assert (found["offered"], found["backlog"], found["backlog_gone_s"]) == (5, 2, 1.0)
    assert (found["caught_up_s"], found["longest_wait_s"]) == (10.1, 20.5)
    assert found["handled_per_s_meanwhile"] == 0.3
    assert found["holds"]
    assert failed(found) == []


def test_what_was_lost_or_never_caught_up_with_is_said() -> None:
    """A command without an outcome, and a last one that still had to wait."""
    found = told(_sent(0, 10, 31), {"c0": 0.1, "c2": 40.0}, stopped=5, back=30, away=25)
    assert (found["missing"], found["caught_up_s"], found["holds"]) == (["c1"], None, False)
    assert failed(found) == ["1 commands or more were lost", "caught up after None s"]


def test_too_late_is_no_success() -> None:
    """It may take as long as the outage did, and no longer."""
    found = told(_sent(0, 10, 50), {"c0": 0.1, "c1": 40.0, "c2": 50.0}, stopped=5, back=30, away=9)
    assert failed(found) == ["caught up after 20.0 s"]


def test_only_an_earlier_transaction_overtakes() -> None:
    """Those of one transaction have one time and no order; who comes later was overtaken by all before."""
    assert overtaken([(1.0, 1), (1.0, 2), (2.0, 0), (3.0, 3)]) == [0, 0, 2, 0]


def test_newest_first_is_seen() -> None:
    """A stack instead of a queue: each is overtaken by all that were published after it."""
    count = 400
    sent = _sent(*(number / 100 for number in range(count)))
    times = {f"c{number}": 30.0 + count - number for number in range(count)}
    found = told(sent, times, stopped=5, back=30, away=1000)
    assert (found["overtaken"]["most"], found["oldest_first"], found["holds"]) == (count - 1, False, False)


def test_each_round_has_both_kinds_and_they_take_turns() -> None:
    """What drifts over a run meets clean and poisoned drains alike."""
    assert order(3) == [False, True, True, False, False, True]


def test_poison_is_spread_evenly() -> None:
    """One behind every so many good ones, away from the ends."""
    good, bad = ([Letter(kind, "inventory", "t", b"", {})] for kind in ("good", "bad"))
    ids = [letter.message_id for letter in mixed(good * 20, lambda: bad[0], 10)]
    assert [place for place, id_ in enumerate(ids) if id_ == "bad"] == [5, 16]


def test_the_cost_is_the_median_of_the_rounds() -> None:
    """Each round is compared in itself, so that a machine that slows down costs nothing."""
    found = compared([200, 100, 50], [196, 98, 49])
    assert (found["cost_percent"], found["noise_percent"], found["verdict"]) == (2.0, 0.0, "holds")
    assert compared([100, 100, 100], [93, 93, 93])["verdict"] == "fails"
    assert compared([100, 100, 100, 100], [80, 90, 98, 110])["verdict"] == "cannot be told"
