"""Can the tests be collected together?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Two modules of one name cannot be imported in one session."""
    names = Counter(path.name for path in Path(__file__).parents[1].rglob("*.py"))

    assert [name for name, count in names.items() if count > 1 and name != "conftest.py"] == []
