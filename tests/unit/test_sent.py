"""Does a process send each decision of a run once, and know what is proven to be in Kafka?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from fulcrum.saga.run import Unsent, WorkflowRun
from fulcrum.saga.sent import Sent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run_with(*versions: int) -> WorkflowRun:
    """Run "a", in whose state these decisions stand as not proven sent."""
    return WorkflowRun(
        workflow_id="a",
        version=versions[-1],
        status="running",
        definition="fulfillment.v1",
        intent=cast(Any, None),
        steps=(),
        seen={},
        started_at=NOON,
        updated_at=NOON,
        unsent=tuple(Unsent(version=version, record=b"d%d" % version) for version in versions),
    )


def versions(sent: Sent, run: WorkflowRun) -> list[int]:
    """The versions that are due."""
    return [unsent.version for unsent in sent.due(run)]


def test_what_an_earlier_process_left_is_sent_with_the_next_decision() -> None:
    """A decision that was stored and not sent must not hide behind the acknowledgement of the next one."""
    assert versions(Sent(), run_with(2, 3)) == [2, 3]


def test_a_decision_is_sent_once_in_the_life_of_a_process() -> None:
    """A repeat that comes while it is on its way does not send it again."""
    sent = Sent()
    sent.due(run_with(2, 3))

    assert versions(sent, run_with(2, 3)) == []
    assert versions(sent, run_with(2, 3, 4)) == [4]


def test_the_highest_proven_version_counts() -> None:
    """Acknowledgements may be heard of in any order; nothing known is 0."""
    sent = Sent()
    sent.prove("a", 3)
    sent.prove("a", 2)

    assert (sent.proven("a"), sent.proven("b")) == (3, 0)
    assert versions(sent, run_with(2, 3)) == []


def test_sending_proves_nothing() -> None:
    """What is on its way stays in the state."""
    sent = Sent()
    sent.due(run_with(1))

    assert sent.proven("a") == 0


def test_the_runs_touched_last_are_kept() -> None:
    """Memory is bounded: the run that was touched longest ago is forgotten first."""
    sent = Sent(most=2)
    sent.prove("a", 1)
    sent.prove("b", 1)
    sent.prove("a", 2)
    sent.prove("c", 1)

    assert [sent.proven(run) for run in "abc"] == [2, 0, 1]


def test_a_forgotten_run_starts_anew() -> None:
    """Nothing is kept of a run that has left the table."""
    sent = Sent()
    sent.prove("a", 3)
    sent.forget("a")

    assert versions(sent, run_with(3)) == [3]
