"""What does the producer make of an error in the middle of librdkafka's reports?"""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from fulcrum.settings import Settings
from fulcrum.wire.producer import KafkaProducer

_FATAL = KafkaException(KafkaError(KafkaError._GAPLESS_GUARANTEE))


def failing(error: Exception, cause: Exception | None = None) -> int:
    """Stands for a poll or flush of the client."""
    raise error from cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [(_FATAL, None), (SystemError("returned a result with an exception set"), _FATAL)],
    ids=["as itself", "behind a SystemError"],
)
def test_a_fatal_error_is_kept_and_the_reports_go_on(error: Exception, cause: Exception | None) -> None:
    """It says why the records behind it have no report of their own."""
    producer = KafkaProducer(Settings())
    assert producer._serve(lambda: failing(error, cause)) == 1
    assert producer._last_error == _FATAL.args[0]


def test_an_error_that_the_client_has_lost_does_not_end_the_reports() -> None:
    """confluent-kafka can return nothing and set no exception when a fatal error meets a callback."""
    producer = KafkaProducer(Settings())
    lost = SystemError("flush returned NULL without setting an exception")
    assert producer._serve(lambda: failing(lost)) == 1


def test_a_fault_of_our_own_is_not_hidden() -> None:
    """Only the client's errors are taken for interruptions."""
    producer = KafkaProducer(Settings())
    with pytest.raises(SystemError):
        producer._serve(lambda: failing(SystemError("callback failed"), ValueError("ours")))
