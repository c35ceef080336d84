"""A workflow as the read model shows it: the run, its timeline, the attempts, and how fresh all that is.

The parts are JSON text from the moment they are projected, so an answer is put together of them; all that is
added is how long each transition took.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fulcrum.readmodel.latency import timed
from fulcrum.readmodel.milestones import late_by, milestones
from fulcrum.readmodel.projection import compact, timestamp

Source = Literal["cache", "database", "intake"]


@dataclass(frozen=True, slots=True)
class View:
    """A run at ``version``, and the entries of its timeline by version (both as JSON text).

    The entries may be a part of the timeline: those of one batch, or those that the cache still has.
    ``epoch`` says which swap of generations it was read or written after, so that the cache keeps none from
    before; it is no part of what is shown.
    """

    workflow_id: str
    version: int
    status: str
    run: str
    entries: Mapping[int, str] = field(default_factory=dict)
    epoch: int = field(default=0, compare=False)

    @property
    def complete(self) -> bool:
        """True when no entry is missing: versions are dense, so that can be seen."""
        return all(version in self.entries for version in range(1, self.version + 1))


@dataclass(frozen=True, slots=True)
class Freshness:
    """Where an answer comes from, and when it was the newest there."""

    source: Source
    as_of: datetime


def answer(
    view: View,
    freshness: Freshness,
    attempts: Sequence[Mapping[str, Any]] | None = (),
    waiting_on: str | None = None,
    now: datetime | None = None,
) -> str:
    """The whole answer about one workflow, as JSON text; ``attempts`` None: not known at present.

    ``waiting_on`` is JSON text too; None: the workflow is finished. How late it is is told as of ``now``, or
    of the view.
    """
    run = json.loads(view.run)
    reached = [{"name": name, "at": at} for name, at in milestones(run).items()]
    progress = compact({"milestones": reached, "late_by": late_by(run, now or freshness.as_of)})[1:-1]
    known = (view.entries[version] for version in sorted(view.entries) if version <= view.version)
    entries = ",".join(timed(known))
    stamp = (
        f'{{"source":"{freshness.source}","version":{view.version},"as_of":"{timestamp(freshness.as_of)}"}}'
    )
    tried = json.dumps(attempts, separators=(",", ":")) if attempts else "null" if attempts is None else "[]"
    waits = f'"waiting_on":{waiting_on or "null"}'
    return (
        f'{view.run[:-1]},{progress},"timeline":[{entries}],"attempts":{tried},{waits},"freshness":{stamp}}}'
    )
