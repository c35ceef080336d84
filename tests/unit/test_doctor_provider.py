"""What is wrong with what the provider did, given how the runs ended?"""

from __future__ import annotations

from typing import Any

import pytest

from fulcrum.doctor.in_between import effect_faults

FLOW = "6f0c1d9e-1111-5222-8333-444455556666"


def effects(*done: tuple[str, int]) -> list[dict[str, Any]]:
    """Effects of one workflow, each under a key of its own."""
    return [
        {"key": str(n), "reference": FLOW, "kind": kind, "amount_minor": amount, "currency": "EUR"}
        for n, (kind, amount) in enumerate(done)
    ]


def faults(status: str, *done: tuple[str, int], ships: bool = False) -> list[str]:
    """Which checks speak when the run ended so."""
    runs = {FLOW: {"status": status, "amount_minor": 4200, "currency": "EUR", "ships": ships}}
    return [violation.check for violation in effect_faults(effects(*done), runs)]


HOLD, VOID, TAKE = ("authorize", 4200), ("void", 4200), ("capture", 3000)
_NOT_SO = "the provider holds what the run says"
_TOO_MUCH = "the provider takes no more than it held"


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ("completed", [HOLD]),
        ("completed", [HOLD, TAKE]),
        ("completed", [HOLD, TAKE, ("refund", 1000)]),
        ("cancelled", []),
        ("cancelled", [HOLD, VOID]),
        ("cancelled", [HOLD, TAKE, ("refund", 1000), ("refund", 2000)]),
        ("cancelled", [HOLD, ("refuse_capture", 9999), VOID]),
    ],
)
def test_sound_payment_is_no_fault(status: str, done: list[tuple[str, int]]) -> None:
    """Held or taken for a completed run; voided, or taken and wholly given back, for a cancelled one."""
    assert faults(status, *done) == []


@pytest.mark.parametrize(
    ("status", "done", "found"),
    [
        ("completed", [HOLD, VOID], [_NOT_SO]),
        ("completed", [HOLD, TAKE, ("refund", 3000)], [_NOT_SO]),
        ("cancelled", [HOLD], [_NOT_SO]),
        ("cancelled", [HOLD, TAKE], [_NOT_SO]),
        ("cancelled", [HOLD, TAKE, ("refund", 2999)], [_NOT_SO]),
        ("completed", [HOLD, ("capture", 4201)], [_TOO_MUCH]),
        ("completed", [HOLD, TAKE, ("refund", 3001)], [_TOO_MUCH]),
    ],
)
def test_money_that_is_not_where_it_should_be_is_a_fault(
    status: str, done: list[tuple[str, int]], found: list[str]
) -> None:
    """Taken from a cancelled run, given back to a completed one, or more than there was."""
    assert faults(status, *done) == found


ANEW = [HOLD, ("refuse_capture", 3000), ("reauthorize", 4200)]


@pytest.mark.parametrize(
    ("status", "done", "found"),
    [
        ("completed", [HOLD, TAKE], []),
        ("completed", [*ANEW, TAKE], []),
        ("completed", [HOLD], [_NOT_SO]),
        ("completed", [*ANEW], [_NOT_SO]),
        ("cancelled", [*ANEW, VOID], []),
        ("cancelled", [*ANEW, TAKE, ("refund", 3000)], []),
        ("cancelled", [*ANEW, TAKE], [_NOT_SO]),
        ("cancelled", [*ANEW], [_NOT_SO]),
    ],
)
def test_run_that_ships_is_paid_when_it_completes(
    status: str, done: list[tuple[str, int]], found: list[str]
) -> None:
    """A hold alone is no payment, and one that took the place of a lapsed one counts once."""
    assert faults(status, *done, ships=True) == found
