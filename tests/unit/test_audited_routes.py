"""Every route that changes something says what the audit calls it."""

from __future__ import annotations

from fulcrum.web.routes import ROUTES

#: An intent is business: it has its own relation, with who sent it and when, and its journal.
BUSINESS = {"/v1/intents"}


def test_every_writing_route_is_audited() -> None:
    """All but business input, and none that only reads."""
    writing = {row.path for row in ROUTES if row.method != "GET" and row.path not in BUSINESS}
    assert writing == {row.path for row in ROUTES if row.audited is not None}


def test_names_of_actions_are_unique() -> None:
    """Each names the kind of its target and what is done."""
    names = [row.audited for row in ROUTES if row.audited is not None]
    assert len(set(names)) == len(names)
    assert all(name.count(".") == 1 for name in names)
