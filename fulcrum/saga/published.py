"""Which definitions did a release publish, and what did each row of them say? Only ever added to.

A release adds the lines that ``fulcrum definition check`` prints for a definition that is not here. The
fingerprints are those of ``saga.fingerprint``.
"""

from __future__ import annotations

from collections.abc import Mapping

from fulcrum.errors import Misconfigured
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.fingerprint import Fingerprints, changed

PUBLISHED: Mapping[str, Fingerprints] = {}


def require_published() -> None:
    """Misconfigured when a published definition is not what it was: live runs would change their rules."""
    if faults := changed(DEFINITIONS, PUBLISHED):
        raise Misconfigured("; ".join(faults))
