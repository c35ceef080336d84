"""Names on the wire: topics, subjects, and what a topic is created with."""

from __future__ import annotations

import pytest

from fulcrum.saga.messages import EVENT_STREAMS, AuthorizePayment, DecisionMade, PaymentAuthorized
from fulcrum.saga.run import WorkflowRun
from fulcrum.wire.codec import MESSAGE_TYPES, subject
from fulcrum.wire.topics import Topics


def test_every_name_begins_with_the_namespace() -> None:
    """Two namespaces share no topic, so they can live on one Kafka."""
    names = set(Topics("one").configs())
    assert all(name.startswith(("one.", "one-")) for name in names)
    assert not names & set(Topics("two").configs())


def test_streams_have_topics_and_dead_letter_topics() -> None:
    """Each stream has a topic with a dead-letter topic beside it; the table has its changelog."""
    topics = Topics("fulcrum")
    assert topics.stream("payments") == "fulcrum.payments"
    assert topics.dlq(topics.stream("payments")) == "fulcrum.payments.dlq"
    assert topics.changelog == "fulcrum-orchestrator-workflow_runs-changelog"
    streams = [topics.stream(stream) for stream in (*EVENT_STREAMS, "decisions")]
    expected = {*streams, *(topics.dlq(stream) for stream in streams), topics.changelog}
    assert set(topics.configs()) == expected


def test_an_unknown_stream_is_an_error_that_names_the_known_ones() -> None:
    """A typing error in a stream's name never becomes a topic."""
    with pytest.raises(KeyError, match=r"'paymnets' is no stream; one of intents, payments"):
        Topics("fulcrum").stream("paymnets")


def test_events_are_kept_for_ever_and_only_the_changelog_is_compacted() -> None:
    """A rebuild reads every event from the first day; compaction would leave only the last of each run."""
    topics = Topics("fulcrum")
    configs = topics.configs()
    assert configs.pop(topics.changelog)["cleanup.policy"] == "compact"
    assert all(c == {"cleanup.policy": "delete", "retention.ms": "-1"} for c in configs.values())


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (PaymentAuthorized, "fulcrum.payments-fulcrum.events.PaymentAuthorized"),
        (DecisionMade, "fulcrum.decisions-fulcrum.events.DecisionMade"),
        (AuthorizePayment, "fulcrum.commands.payment-fulcrum.commands.AuthorizePayment"),
        (WorkflowRun, "fulcrum-orchestrator-workflow_runs-changelog-fulcrum.tables.WorkflowRun"),
    ],
)
def test_a_subject_is_the_place_and_the_record(message: type, expected: str) -> None:
    """Subjects follow TopicRecordNameStrategy, so one topic carries several types."""
    assert subject("fulcrum", message) == expected


def test_no_two_messages_share_a_subject() -> None:
    """Every message has a subject of its own, or one would have to be compatible with another."""
    assert len({subject("fulcrum", type_) for type_ in MESSAGE_TYPES}) == len(MESSAGE_TYPES)
