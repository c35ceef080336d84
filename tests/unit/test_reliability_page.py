"""Does the page on reliability name the points that there are?"""

from __future__ import annotations

import re
from pathlib import Path

from fulcrum.crashpoint import POINTS

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def test_every_point_is_on_the_page() -> None:
    """With what has just happened there."""
    rows = dict(re.findall(r"^\| `([\w.]+)` \| [\w, ]+ \| (.+) \|$", _PAGE.read_text(), re.MULTILINE))

    assert rows == {point: happened for point, (_, happened) in POINTS.items()}
