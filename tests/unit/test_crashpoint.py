"""Does a process die exactly where it is told to, and every point lie where the code really comes by?"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fulcrum.crashpoint import POINTS, VARIABLE, armed
from fulcrum.errors import Misconfigured

_PACKAGE = Path(__file__).resolve().parents[2] / "fulcrum"
_COMES_BY = """
from fulcrum.crashpoint import reached
for number in range(3):
    reached("command.received")
    print(number, flush=True)
    reached("outbox.sent")
"""


def _run(value: str) -> tuple[int, list[str]]:
    env = {**os.environ, VARIABLE: value}
    done = subprocess.run(
        [sys.executable, "-c", _COMES_BY], env=env, capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize(
    ("value", "died", "printed"),
    [
        ("", 0, ["0", "1", "2"]),
        ("command.committed", 0, ["0", "1", "2"]),
        ("command.received", -signal.SIGKILL, []),
        ("command.received:2", -signal.SIGKILL, ["0"]),
        ("outbox.sent:3", -signal.SIGKILL, ["0", "1", "2"]),
    ],
)
def test_it_dies_the_nth_time_and_nowhere_else(value: str, died: int, printed: list[str]) -> None:
    """SIGKILL at the named point when it is reached for the nth time; without a value, never."""
    assert _run(value) == (died, printed)


@pytest.mark.parametrize("value", ["nowhere", "outbox.sent:0", "outbox.sent:x", "outbox.sent:-1"])
def test_a_value_that_names_no_point_is_refused(value: str) -> None:
    """The error shows the value and the points there are."""
    with pytest.raises(Misconfigured, match=rf"{re.escape(repr(value))}.*outbox\.sent"):
        armed(value)


def test_every_point_is_in_the_code_once() -> None:
    """A point that nothing comes by would never kill, and a second place would make it another point."""
    calls = [
        name
        for file in _PACKAGE.rglob("*.py")
        for name in re.findall(r'crashpoint\.reached\("([^"]+)"\)', file.read_text())
    ]

    assert sorted(calls) == sorted(POINTS)
