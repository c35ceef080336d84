"""What need the garbage collector not look at?"""

from __future__ import annotations

import gc


def spare_imports() -> None:
    """Take what exists now out of the collector's sight: modules, schemas, compiled statements.

    They are there for as long as the process lives. A full collection would go over all 150,000 of these
    objects and find nothing, and hold up every request for 0.1 s meanwhile. Call it once, when all is
    imported.
    """
    gc.freeze()
