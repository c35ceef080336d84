"""What a message says about itself besides its body."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from aio_pika.abc import AbstractIncomingMessage

from fulcrum.commands.delivery import (
    ALONE,
    GIVEN_UP,
    OWN_HEADERS,
    attempt_of,
    headers_after,
    headers_parked,
    plain_headers,
    round_of,
)
from fulcrum.commands.parker import jsonable, parked_row, storable
from fulcrum.errors import Rejected, Unavailable
from fulcrum.saga.messages import Line

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ID = "8fdcbaae-26af-4143-b523-76f6c84640f4"


class Message:
    """As much of an incoming message as is read."""

    def __init__(self, headers: Mapping[str, Any], body: bytes = b"body", redelivered: bool = False) -> None:
        self.headers = headers
        self.body = body
        self.redelivered = redelivered
        self.message_id = None
        self.type = None


def message(headers: Mapping[str, Any], **rest: Any) -> AbstractIncomingMessage:
    return cast(AbstractIncomingMessage, Message(headers, **rest))


def test_headers_of_brokers_are_dropped() -> None:
    """What begins with x- is left behind, in any case, and bytes become text."""
    headers = {"x-death": [{}], "X-Delivery-Count": 3, "ce_id": b"a", "fulcrum-attempt": 2}
    assert plain_headers(headers) == {"ce_id": "a", "fulcrum-attempt": "2"}
    assert plain_headers(None) == {}


@pytest.mark.parametrize(
    ("text", "attempt"), [("", 1), ("3", 3), ("0", 1), ("-2", 1), ("9" * 30, 1), ("²", 1)]
)
def test_attempt_is_at_least_one(text: str, attempt: int) -> None:
    """A missing or senseless count of attempts reads as the first."""
    assert attempt_of({"fulcrum-attempt": text}) == attempt


def test_next_attempt_remembers_the_first() -> None:
    """Each retry counts on, keeps the time of the first failure and tells the last error."""
    once = headers_after({"ce_id": ID}, Unavailable("gone"))
    twice = headers_after(once, Unavailable("still gone"))
    assert (once["fulcrum-attempt"], twice["fulcrum-attempt"]) == ("2", "3")
    assert twice["fulcrum-first-at"] == once["fulcrum-first-at"]
    assert (twice["fulcrum-error-class"], twice["fulcrum-error"]) == ("Unavailable", "still gone")
    assert twice["ce_id"] == ID


def test_parked_headers_keep_the_traceback_of_a_bug_only() -> None:
    """A bug is parked with its traceback, bounded; a refusal needs none; the count is of attempts made."""
    try:
        raise KeyError("sku")
    except KeyError as error:
        bug = headers_parked({"fulcrum-attempt": "3"}, error, "exhausted")
    refusal = headers_parked({}, Rejected("no"), "rejected")
    assert "test_delivery.py" in bug["fulcrum-traceback"]
    assert "KeyError: 'sku'" in bug["fulcrum-traceback"]
    assert bug["fulcrum-attempt"] == "3"
    assert "fulcrum-traceback" not in refusal
    assert (refusal["fulcrum-reason"], refusal["fulcrum-attempt"]) == ("rejected", "1")
    assert set(bug) <= {*OWN_HEADERS, GIVEN_UP}


@pytest.mark.parametrize(
    ("error", "spoiled", "alone"),
    [
        (Unavailable("x"), False, False),
        (Unavailable("x"), True, True),
        (KeyError("x"), False, True),
        (KeyError("x"), True, True),
    ],
)
def test_what_spoils_batches_is_marked(error: Exception, spoiled: bool, alone: bool) -> None:
    """A command that spoiled a batch, or met a bug, is to be handled alone, also after further failures."""
    once = headers_after({}, error, spoiled)
    assert (ALONE in once) is alone
    assert (ALONE in headers_after(once, Unavailable("y"))) is alone


def test_replay_begins_another_round() -> None:
    """Parking counts a round, and that count is all that a replay leaves of our headers."""
    first = headers_after({"ce_id": ID}, Unavailable("x"))
    assert round_of(first) == 1
    parked = headers_parked(first, Unavailable("x"), "exhausted")
    replayed = {name: value for name, value in parked.items() if name not in OWN_HEADERS}
    assert (round_of(replayed), attempt_of(replayed)) == (2, 1)
    assert round_of(headers_parked(replayed, Unavailable("x"), "exhausted")) == 3


def test_headers_fit_into_a_frame() -> None:
    """However long an error is, its headers stay far below the broker's limit."""
    headers = headers_parked({}, KeyError("x" * 100_000), "exhausted")
    assert sum(len(value) for value in headers.values()) < 10_000


def test_parked_twice_is_one_row() -> None:
    """The same parked delivery gets the same id; parked another time, or with another body, another one."""
    headers = headers_parked({"ce_id": ID, "ce_type": "ReserveStock"}, Rejected("no"), "rejected")

    def row_id(headers: Mapping[str, Any], body: bytes = b"body") -> str:
        return str(parked_row("inventory", "q", message(headers, body=body), None, NOW)["id"])

    later = {**headers, "fulcrum-parked-at": "2026-03-02T00:00:00+00:00"}
    assert row_id(headers) == row_id({**headers, "x-delivery-count": 2})
    assert len({row_id(headers), row_id(later), row_id(headers, b"other")}) == 3


def test_row_of_what_the_broker_gave_up() -> None:
    """A message that the broker parked by itself tells the broker's reason."""
    death = [{"reason": "delivery_limit", "time": NOW, "queue": "q"}]
    row = parked_row("payment", "q", message({"ce_id": ID, "x-death": death}), None, NOW)
    assert (row["reason"], row["error_class"], row["attempts"]) == ("delivery_limit", "BrokerDeadLetter", 1)
    assert row["parked_at"] == NOW


def test_row_of_a_foreign_message() -> None:
    """A message with no header that we know, and ids that are none, still makes a row."""
    row = parked_row("payment", "q", message({"ce_subject": "no uuid", "weird": "a\x00b"}), None, NOW)
    assert (row["message_id"], row["type"], row["workflow_id"]) == ("unknown", "unknown", None)
    assert row["headers"]["weird"] == "a\ufffdb"


def test_storable_text() -> None:
    """NUL and lone surrogates, which Postgres refuses, are replaced."""
    assert storable("a\x00\ud800ü") == "a\ufffd?ü"


def test_jsonable_message() -> None:
    """A decoded message becomes plain JSON values."""
    assert jsonable((Line("a\x00", 2), NOW, b"abc", None, 1)) == [
        {"sku": "a\ufffd", "quantity": 2},
        "2026-03-01T00:00:00+00:00",
        "<3 bytes>",
        None,
        1,
    ]
