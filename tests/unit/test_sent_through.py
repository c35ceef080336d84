"""Does the orchestrator remember what it has proven to be in Kafka?"""

from __future__ import annotations

from fulcrum.agents.orchestrator import SentThrough


def test_the_highest_proven_version_counts() -> None:
    """Acknowledgements may come in any order; nothing known is 0."""
    sent = SentThrough()
    sent.note("a", 3)
    sent.note("a", 2)

    assert (sent.through("a"), sent.through("b")) == (3, 0)


def test_the_runs_touched_last_are_kept() -> None:
    """Memory is bounded: the run that was noted longest ago is forgotten first."""
    sent = SentThrough(most=2)
    sent.note("a", 1)
    sent.note("b", 1)
    sent.note("a", 2)
    sent.note("c", 1)

    assert [sent.through(run) for run in "abc"] == [2, 0, 1]
