"""Which parked messages count as failed for one cause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulcrum.commands.fingerprint import fingerprint, normalised, own_frames

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/fulcrum/commands/consumer.py", line {line}, in _handle_all
    await self._handle(deliveries)
  File "/srv/app/fulcrum/workers/inventory.py", line {line}, in {function}
    row = stock[sku]
  File "/usr/lib/python3.11/json/decoder.py", line {line}, in decode
KeyError: 'tea'
"""


def test_fingerprint_ignores_ids_and_numbers() -> None:
    """The same fault of two messages is one cause."""
    one = "no row for '8fdcbaae-26af-4143-b523-76f6c84640f4' at 0x7f12, 3 tries"
    two = "no row for 'DDC54db6-5f87-4667-bbd5-411e72ce9c5e' at  0xABCD, 17 tries"
    assert fingerprint("ReserveStock", "KeyError", one) == fingerprint("ReserveStock", "KeyError", two)


def test_fingerprint_tells_causes_apart() -> None:
    """Another type, class or sentence is another cause."""
    prints = {
        fingerprint("ReserveStock", "KeyError", "no row"),
        fingerprint("ReleaseStock", "KeyError", "no row"),
        fingerprint("ReserveStock", "ValueError", "no row"),
        fingerprint("ReserveStock", "KeyError", "no column"),
        fingerprint("ReserveStock", "KeyError", "'sku'"),
        fingerprint("ReserveStock", "KeyError", "'quantity'"),
    }
    assert len(prints) == 6
    assert all(len(each) == 12 for each in prints)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("GET https://psp-1.example/v1/pay?id=7 failed", "GET https://psp-2.example/v2/pay?id=8 failed"),
        ("run 01ARZ3NDEKTSV4RRFFQ69G5FAV is gone", "run 01BX5ZZKBKACTAV9WEVGEMMVRZ is gone"),
        ("digest deadbeefdeadbeef", "digest 0123456789abcdef"),
        ("line\n  one", "line one"),
    ],
)
def test_addresses_and_ids_of_any_form_are_ignored(one: str, two: str) -> None:
    """URLs, ULIDs, digests and blanks differ between messages of one cause."""
    assert normalised(one) == normalised(two)


@given(st.text())
def test_normalising_twice_changes_nothing_of_what_counts(error: str) -> None:
    """Any text has a fingerprint, and it does not depend on blanks around it."""
    assert fingerprint("T", "E", f"  {error.strip()} ") == fingerprint("T", "E", error.strip())


def test_frames_tell_apart_what_reads_the_same() -> None:
    """One error raised in two functions is two causes; another line of one function is the same one."""
    prints = [
        fingerprint("ReserveStock", "KeyError", "'tea'", TRACEBACK.format(line=line, function=function))
        for line, function in ((10, "reserve"), (99, "reserve"), (10, "release"))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_only_own_frames_count_innermost_last() -> None:
    """Library frames move with their versions and are left out."""
    assert own_frames(TRACEBACK.format(line=3, function="reserve")) == [
        "fulcrum/commands/consumer.py:_handle_all",
        "fulcrum/workers/inventory.py:reserve",
    ]
