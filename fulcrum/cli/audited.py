"""What is kept of a change that this program makes by itself: that it began, and how it ended."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fulcrum.errors import FulcrumError, Unavailable
from fulcrum.settings import Settings
from fulcrum.store.audit import Act, Outcome
from fulcrum.store.plain import connected


@dataclass(slots=True)
class Seen:
    """What the change was seen to make of its target; filled while it is made."""

    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def audited(
    settings: Settings, action: str, target: str, actor: str | None, reason: str | None
) -> Iterator[Seen]:
    """Enter that ``action`` on ``target`` begins, and its end. Nothing is done that cannot be entered."""
    kind = action.partition(".")[0]
    act = Act(actor or getpass.getuser(), "cli", action, kind, target, reason, str(uuid4()))
    seen = Seen()
    _enter(settings, act, "began", Seen(), None)
    try:
        yield seen
    except Unavailable:
        # Nobody knows how it ended, and there may be nowhere to say so.
        raise
    except Exception as error:
        outcome: Outcome = "refused" if isinstance(error, FulcrumError) else "failed"
        with suppress(Unavailable):
            _enter(settings, act, outcome, seen, str(error)[:500])
        raise
    _enter(settings, act, "done", seen, None)


def _enter(settings: Settings, act: Act, outcome: Outcome, seen: Seen, detail: str | None) -> None:
    row = act.row(outcome, before=seen.before, after=seen.after or None, detail=detail)
    with connected(settings.postgres_dsn, "fulcrum-audit") as connection, connection.begin():
        connection.execute(row)
