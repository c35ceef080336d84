"""Is the reading order in the package's docstring still true?"""

from __future__ import annotations

import re
from pathlib import Path

import fulcrum

ROOT = Path(fulcrum.__file__).parent.parent


def test_every_file_of_the_journey_exists() -> None:
    """The list that a newcomer follows names files that are there."""
    named = re.findall(r"``(fulcrum/[\w/]+\.py)``", fulcrum.__doc__ or "")

    assert len(named) == 8
    assert [name for name in named if not (ROOT / name).is_file()] == []
