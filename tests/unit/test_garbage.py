"""What does a role's garbage collector pass over?"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fulcrum.garbage import spare_imports


@pytest.fixture(autouse=True)
def _seen_again() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_was_there_is_passed_over_and_what_comes_is_not() -> None:
    """The count of what a collection looks at begins anew."""
    before = gc.get_freeze_count()
    seen = len(gc.get_objects())

    spare_imports()

    assert gc.get_freeze_count() - before > seen / 2
    assert len(gc.get_objects()) < seen / 2
