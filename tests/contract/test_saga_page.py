"""Does the reference page show the saga as it is?"""

from __future__ import annotations

from pathlib import Path

from fulcrum.saga.describe import page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "saga.md"


def test_the_saga_page_is_fresh() -> None:
    """States, transitions and compensations in the docs are those of the code."""
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "stale: run `fulcrum definition docs > docs/reference/saga.md`"
    )
