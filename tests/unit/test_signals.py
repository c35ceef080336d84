"""Which signals are there, and what may come with them?"""

from __future__ import annotations

import pytest

from fulcrum.saga.signals import HOLDS, SIGNALS, check, payload_of


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("hold", HOLDS)
def test_every_signal_names_a_hold(name: str, hold: str) -> None:
    """What the API sends is what is taken."""
    assert check(name, payload_of(hold)) is None


@pytest.mark.parametrize(
    ("name", "payload", "told"),
    [
        ("ship", payload_of("fraud"), "there is no signal 'ship'; use one of hold, release"),
        ("hold", "{", "the payload is not JSON; give a JSON object"),
        ("hold", "[" * 100_000, "the payload is not JSON; give a JSON object"),
        ("hold", '"fraud"', "the payload is not a JSON object"),
        ("hold", "{}", "hold is null; use one of address, fraud, operator"),
        ("release", '{"hold": "mood"}', 'hold is "mood"; use one of address, fraud, operator'),
        ("release", '{"hold": ["fraud"]}', 'hold is ["fraud"]; use one of address, fraud, operator'),
        ("release", '{"hold": "fraud", "by": "x"}', "release has no field 'by'; use hold"),
    ],
)
def test_fault_of_a_signal_is_told_with_its_remedy(name: str, payload: str, told: str) -> None:
    """Field, value and what to do; nothing raises, for what lies in Kafka can be anything."""
    assert check(name, payload) == told
