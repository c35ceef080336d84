"""Where does a shipment stand after updates that come in any order and any number?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipments import NOON, update

from fulcrum.errors import Corrupt
from fulcrum.workers.tracking import ENDS, Progress, Status, Update, follow, follow_all, parse_update

_START = Progress(Status.BOOKED)
_ON_THE_WAY = sorted(set(Status) - ENDS)


@st.composite
def histories(draw: st.DrawFn) -> list[Update]:
    """What can happen to one shipment: any statuses, and one end at most, wherever the courier puts it."""
    statuses = draw(st.lists(st.sampled_from(_ON_THE_WAY), max_size=6))
    end = draw(st.one_of(st.none(), st.sampled_from(sorted(ENDS))))
    if end is not None:
        statuses.insert(draw(st.integers(0, len(statuses))), end)
    return [update(number, status) for number, status in enumerate(statuses, start=1)]


@given(histories(), st.data())
def test_any_order_and_any_duplicates_lead_to_the_same_end(
    history: list[Update], data: st.DataObject
) -> None:
    """Each update at least once, in whatever order: the shipment stands where it would have in order."""
    mixed = history + data.draw(st.lists(st.sampled_from(history), max_size=8)) if history else []
    shuffled = data.draw(st.permutations(mixed))
    assert follow_all(_START, shuffled) == follow_all(_START, history)


@given(histories(), st.data())
def test_a_state_never_goes_back(history: list[Update], data: st.DataObject) -> None:
    """Each step has a higher number than the one before, or is the end, which nothing follows."""
    progress = _START
    for each in data.draw(st.permutations(history)):
        before, progress = progress, follow(progress, each)
        if before.status in ENDS:
            assert progress == before
        elif progress != before and progress.status not in ENDS:
            assert progress.sequence > before.sequence


def test_the_end_brings_its_time_and_the_state_of_the_goods() -> None:
    """They are those of the update that says so."""
    progress = follow(_START, update(4, Status.RETURNED, undamaged=True))
    assert progress == Progress(Status.RETURNED, 4, NOON, True)


def test_an_exception_may_go_on() -> None:
    """It is no end."""
    told = [update(2, Status.EXCEPTION), update(3, Status.DELIVERED)]
    assert follow_all(_START, told).status == Status.DELIVERED


# --- reading --------------------------------------------------------------------------------------

_GOOD: dict[str, Any] = {
    "update_id": "upd_1",
    "shipment_id": "shp_1",
    "sequence": 2,
    "status": "returned",
    "at": "2026-03-01T13:00:00+01:00",
    "reason": "nobody at home",
    "undamaged": False,
}


def test_update_is_read() -> None:
    """Times are in UTC; what may be missing is None."""
    assert parse_update(json.dumps(_GOOD).encode()) == Update(
        "upd_1", "shp_1", 2, Status.RETURNED, NOON, "nobody at home", False
    )
    least = {name: value for name, value in _GOOD.items() if name not in ("reason", "undamaged")}
    read = parse_update(json.dumps(least).encode())
    assert (read.reason, read.undamaged, read.at) == (None, None, datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("update_id", None),
        ("update_id", ""),
        ("update_id", "x" * 201),
        ("update_id", "a\0b"),
        ("update_id", "a\ud800"),
        ("shipment_id", 7),
        ("sequence", 0),
        ("sequence", True),
        ("sequence", "2"),
        ("sequence", 2**31),
        ("status", "teleported"),
        ("status", None),
        ("status", ["lost"]),
        ("at", "yesterday"),
        ("at", "2026-03-01T13:00:00"),
        ("at", 1),
        ("at", "0001-01-01T00:00:00+14:00"),
        ("reason", 5),
        ("undamaged", "yes"),
    ],
)
def test_bad_field_is_named(name: str, value: Any) -> None:
    """The error says which field it is and what stands in it."""
    with pytest.raises(Corrupt, match=f"^{name}: "):
        parse_update(json.dumps({**_GOOD, name: value}).encode())


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"{", b"null", b'"text"', b"[" * 100_000])
def test_what_is_no_object_is_corrupt(body: bytes) -> None:
    """Bytes of any kind are refused and break nothing."""
    with pytest.raises(Corrupt, match="body"):
        parse_update(body)
