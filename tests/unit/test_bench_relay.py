"""What may ``fulcrum bench relay`` be asked, and what does it call a failure?"""

from __future__ import annotations

import pytest

from bench.relay import failed
from fulcrum.cli.bench_relay import sizes_of
from fulcrum.errors import Rejected


def test_sizes_are_rows_by_comma() -> None:
    """Several sizes are measured in the order in which they are given."""
    assert sizes_of("0, 10000,1000000") == (0, 10_000, 1_000_000)


@pytest.mark.parametrize("given", ["", "ten", "1,,2", "-1", "6000000", "1,2,3,4,5,6,7"])
def test_what_is_no_size_is_refused(given: str) -> None:
    """The error names the option, the value and what to give."""
    with pytest.raises(Rejected, match=r"--backlog .*: give "):
        sizes_of(given)


def test_only_lost_or_disordered_messages_fail_a_run() -> None:
    """A slow run is a result; one that lost something is none."""
    good = {"backlog": 0, "faults": 0, "messages_per_s": 1}
    assert failed({"sizes": [good]}) == []
    [reason] = failed({"sizes": [good, {"backlog": 10, "faults": 2, "messages_per_s": 9000}]})
    assert reason == "with 10 rows behind them, 2 messages were lost or out of order"
