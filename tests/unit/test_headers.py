"""The envelope: what travels beside a message survives the way, and its absence fails nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from fulcrum.wire.headers import Envelope

ENVELOPE = Envelope(
    message_id="e1",
    type="PaymentAuthorized",
    source="payment",
    workflow_id="w1",
    time=datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC),
    correlation_id="c1",
    causation_id="m0",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
EMPTY = Envelope("", "", "", None, None, "", None, None)


def test_kafka_headers_are_cloudevents_in_binary_mode() -> None:
    """The names and values on Kafka are those that other CloudEvents readers expect."""
    assert ENVELOPE.to_kafka() == [
        ("ce_id", b"e1"),
        ("ce_type", b"PaymentAuthorized"),
        ("ce_source", b"payment"),
        ("ce_subject", b"w1"),
        ("ce_time", b"2026-03-01T12:00:00.000250+00:00"),
        ("ce_specversion", b"1.0"),
        ("fulcrum-correlation-id", b"c1"),
        ("fulcrum-causation-id", b"m0"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]


def test_an_envelope_comes_back_from_kafka() -> None:
    """What went out as Kafka headers is read back the same, from pairs and from a mapping."""
    assert Envelope.from_kafka(ENVELOPE.to_kafka()) == ENVELOPE
    assert Envelope.from_kafka(dict(ENVELOPE.to_kafka())) == ENVELOPE


def test_an_envelope_comes_back_from_rabbitmq() -> None:
    """What went out as RabbitMQ headers is read back the same."""
    assert Envelope.from_amqp(ENVELOPE.to_amqp()) == ENVELOPE


def test_what_is_not_known_is_left_out_and_comes_back_as_none() -> None:
    """A message without workflow, cause or trace sends no such header."""
    bare = replace(ENVELOPE, workflow_id=None, causation_id=None, traceparent=None)
    assert set(bare.to_amqp()) == {
        "ce_id",
        "ce_type",
        "ce_source",
        "ce_time",
        "ce_specversion",
        "fulcrum-correlation-id",
    }
    assert Envelope.from_amqp(bare.to_amqp()) == bare
    assert Envelope.from_kafka(bare.to_kafka()) == bare


def test_times_are_sent_in_utc() -> None:
    """A time of another zone is the same moment after the way."""
    local = replace(ENVELOPE, time=datetime(2026, 3, 1, 14, 0, 0, 250, tzinfo=timezone(timedelta(hours=2))))
    assert local.to_amqp()["ce_time"] == "2026-03-01T12:00:00.000250+00:00"


@pytest.mark.parametrize("headers", [None, [], {}, [("x-foreign", b"1")]])
def test_no_headers_at_all_fail_no_reader(headers: object) -> None:
    """A message of somebody else, or by hand, has an empty envelope."""
    assert Envelope.from_kafka(headers) == EMPTY  # type: ignore[arg-type]


@pytest.mark.parametrize("time", [b"yesterday", b"", b"\xff\xfe"])
def test_a_broken_time_is_none(time: bytes) -> None:
    """A header that holds no time costs the time and nothing else."""
    read = Envelope.from_kafka([("ce_id", b"e1"), ("ce_time", time)])
    assert read == replace(EMPTY, message_id="e1")


def test_a_time_without_zone_counts_as_utc() -> None:
    """The reader never hands out a naive time."""
    read = Envelope.from_kafka([("ce_time", b"2026-03-01T12:00:00")])
    assert read.time == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_rabbitmq_values_of_any_type_are_read_as_text() -> None:
    """Brokers and tools put numbers and bytes into headers; the reader takes them."""
    read = Envelope.from_amqp({"ce_id": b"e1", "ce_type": 7, "ce_source": None, "x-death": [{"count": 1}]})
    assert read == replace(EMPTY, message_id="e1", type="7")


def test_of_a_repeated_kafka_header_the_last_counts() -> None:
    """A relay that adds a header again overrides the first one."""
    assert Envelope.from_kafka([("ce_id", b"old"), ("ce_id", b"new")]).message_id == "new"
