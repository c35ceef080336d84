"""What RabbitMQ says is read alike, whichever version says it.

The refusals are in the words of 3.10, of 3.13 and of 4.x.
"""

from __future__ import annotations

from typing import Any

import pytest
from aio_pika import ExchangeType
from aiormq.exceptions import ChannelPreconditionFailed

from fulcrum.commands.dialect import Difference, difference_in, redeliveries
from fulcrum.commands.mismatch import _as_it_is, told
from fulcrum.commands.topology import Exchange, Queue

SAME_TYPE = (
    "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'f.retry.1s' in vhost '/': "
    "received '2000' but current is '500'"
)
TYPED = (
    "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'f.retry.1s' in vhost '/': "
    "received the value '2000' of type 'signedint' but current is the value '500' of type 'long'"
)
NOT_THERE = (
    "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'f.commands.x' in vhost 'a b': "
    "received the value '20' of type 'signedint' but current is none"
)
NOT_WANTED = (
    "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'f.commands.payment' in vhost '/': "
    "received none but current is the value '5' of type 'signedint'"
)
QUEUE_TYPE_3 = (
    "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': "
    "received the value 'quorum' of type 'longstr' but current is none"
)
QUEUE_TYPE_4 = (
    "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': "
    "received 'quorum' but current is 'classic'"
)
EXCHANGE = (
    "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'f.commands' in vhost '/': "
    "received 'direct' but current is 'fanout'"
)


@pytest.mark.parametrize(
    ("text", "argument", "has", "wants"),
    [
        (SAME_TYPE, "x-message-ttl", "500", "2000"),
        (TYPED, "x-message-ttl", "500", "2000"),
        (NOT_THERE, "x-delivery-limit", "none", "20"),
        (NOT_WANTED, "x-max-priority", "5", "none"),
        (QUEUE_TYPE_3, "x-queue-type", "none", "quorum"),
        (QUEUE_TYPE_4, "x-queue-type", "classic", "quorum"),
        (EXCHANGE, "type", "fanout", "direct"),
    ],
)
def test_refusal_is_read_in_any_words(text: str, argument: str, has: str, wants: str) -> None:
    """The argument, what it has and what was wanted are found, also as the client library quotes it."""
    for quoted in (text, str(ChannelPreconditionFailed(text))):
        found = difference_in(quoted)
        assert found is not None
        assert (found.argument, found.has, found.wants) == (argument, has, wants)


def test_refusal_of_another_kind_is_no_difference() -> None:
    """A refusal that compares nothing is left as it is."""
    assert difference_in("PRECONDITION_FAILED - invalid arg 'x-foo' for queue 'q' in vhost '/'") is None


@pytest.mark.parametrize(
    ("has", "ours", "value"),
    [
        ("500", 2000, 500),
        ("none", 20, None),
        ("5", None, 5),
        ("classic", "quorum", "classic"),
        ("7", "x", "7"),
    ],
)
def test_value_can_be_declared_again(has: str, ours: Any, value: Any) -> None:
    """What a refusal quotes as text has the type of what it is to replace."""
    assert Difference("queue", "q", "a", has, str(ours)).value(ours) == value


def test_queue_is_declared_as_it_is_step_by_step() -> None:
    """Each refusal changes one argument; an older type of queue has none of what only quorum queues have."""
    wanted = Queue("q", "e", "k", {"x-queue-type": "quorum", "x-delivery-limit": 20, "x-max-length": 9})
    found = difference_in(QUEUE_TYPE_4)
    assert found is not None
    assert _as_it_is(wanted, found).arguments == {"x-queue-type": "classic", "x-max-length": 9}
    assert _as_it_is(wanted, Difference("queue", "q", "x-max-length", "none", "9")).arguments == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
    }


def test_what_no_declaration_can_follow_ends_the_search() -> None:
    """A difference that is no argument, or that changes nothing, does not go round in circles."""
    wanted = Queue("q", "e", "k", {"x-max-length": 9})
    assert _as_it_is(wanted, Difference("queue", "q", "durable", "false", "true")) is None
    assert _as_it_is(wanted, Difference("queue", "q", "x-max-length", "9", "9")) is None


def test_exchange_is_declared_as_it_is() -> None:
    """An exchange of another type can be declared with that type."""
    found = difference_in(EXCHANGE)
    assert found is not None
    assert _as_it_is(Exchange("e", ExchangeType.DIRECT), found) == Exchange("e", ExchangeType.FANOUT)


def test_whole_difference_is_told_with_the_remedy() -> None:
    """Every argument has its line, every queue is named once in the remedy, a delay with its setting."""
    text = told(
        [
            Difference("queue", "f.retry.1s", "x-message-ttl", "500", "2000"),
            Difference("queue", "f.retry.1s", "x-delivery-limit", "none", "1000000"),
            Difference("exchange", "f.commands", "type", "fanout", "direct"),
        ]
    )
    assert "queue f.retry.1s: x-message-ttl has 500, wants 2000" in text
    assert "queue f.retry.1s: x-delivery-limit has none, wants 1000000" in text
    assert "exchange f.commands: type has fanout, wants direct" in text
    assert "delete queue f.retry.1s, exchange f.commands once empty" in text
    assert "FULCRUM_RETRY_UNIT" in text


@pytest.mark.parametrize(
    ("headers", "flag", "count"),
    [
        ({}, False, 0),
        (None, None, 0),
        ({}, True, 1),
        ({"x-delivery-count": 4}, True, 4),
        ({"x-delivery-count": 0, "x-acquired-count": 3}, True, 3),
        ({"x-delivery-count": "4"}, True, 1),
    ],
    ids=["first", "no headers", "flag alone", "3.10", "4.3 after returns", "forged"],
)
def test_redeliveries_are_counted_by_the_broker(
    headers: dict[str, Any] | None, flag: bool | None, count: int
) -> None:
    """The broker's counts tell how often a message was handed out; without any the flag says once."""
    assert redeliveries(headers, flag) == count
