"""Which workflows does a list hold, and which index is it read from?

Lists run newest first by ``(started_at, workflow_id)``: neither ever changes, so a page boundary stays where
it is. Each filter that is allowed is answered from the end of one range of an index, or from the ends of one
range a status, so a page costs the same however many workflows there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Select, Text, bindparam, func, literal, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.elements import ColumnElement

from fulcrum.readmodel.queries import plain
from fulcrum.readmodel.relations import run_keys, workflow_runs
from fulcrum.saga.run import Status
from fulcrum.store.database import Database

SUMMARY = tuple(c for c in workflow_runs.columns if c.name not in ("lines", "steps"))
STATUSES = frozenset(str(status) for status in Status)

#: The index that answers each allowed set of filters; times may be added to any of them.
INDEXES: Mapping[frozenset[str], str] = {
    frozenset(): "workflow_runs_status_newest",
    frozenset({"status"}): "workflow_runs_status_newest",
    frozenset({"tenant"}): "workflow_runs_tenant",
    frozenset({"tenant", "status"}): "workflow_runs_tenant",
    frozenset({"definition"}): "workflow_runs_definition",
    frozenset({"definition", "status"}): "workflow_runs_definition",
    frozenset({"step"}): "workflow_runs_step",
    frozenset({"step", "status"}): "workflow_runs_step",
    frozenset({"step", "tenant"}): "workflow_runs_tenant_step",
    frozenset({"step", "tenant", "status"}): "workflow_runs_tenant_step",
    frozenset({"sku"}): "run_keys_pkey",
}


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list: the run that a page ended with."""

    started_at: datetime
    workflow_id: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which workflows; None leaves a thing open. ``step`` is the step whose answer a run waits for.

    ``after`` and ``before`` bound ``started_at``, the first inclusively.
    """

    statuses: frozenset[str] = STATUSES
    step: str | None = None
    tenant: str | None = None
    definition: str | None = None
    sku: str | None = None
    after: datetime | None = None
    before: datetime | None = None

    @property
    def names(self) -> frozenset[str]:
        """What is filtered by, beside times."""
        given = {name for name in ("step", "tenant", "definition", "sku") if getattr(self, name) is not None}
        return frozenset(given | ({"status"} if self.statuses != STATUSES else set()))

    @property
    def index(self) -> str | None:
        """The index that answers it; None when there is none."""
        return INDEXES.get(self.names)


def fingerprint(named: Iterable[tuple[str, object]]) -> str:
    """12 hex digits that tell one filter from another, made of its parameters as they were given."""
    told = "\n".join(f"{name}={value}" for name, value in sorted(named, key=lambda pair: pair[0]))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def remedy(chosen: Filter) -> str:
    """What to change about a filter that no index answers: the nearest ones that are answered."""
    names = chosen.names
    nearest = max(len(names & known) for known in INDEXES)
    allowed = sorted(
        " and ".join(sorted(known)) for known in INDEXES if known < names and len(known) == nearest
    )
    return f"give only {', or only '.join(allowed)}; started_before and started_after go with each"


async def page_of_runs(
    db: Database, chosen: Filter, *, after: Position | None, limit: int, within: float
) -> list[dict[str, Any]]:
    """At most ``limit`` runs, newest first, without lines, steps and timeline.

    StatementTimeout when Postgres takes longer than ``within`` seconds.
    """
    async with db.transaction() as tx:
        tx.within(within)
        return [plain(row) for row in await tx.all(statement(chosen, after, limit))]


def statement(chosen: Filter, after: Position | None, limit: int) -> Select[Any]:
    """The runs of ``chosen`` behind ``after``, newest first; ``chosen`` has an index."""
    if chosen.sku is not None:
        return _of_sku(chosen, after, limit)
    if len(chosen.statuses) == 1:
        return _range(chosen, literal(next(iter(chosen.statuses))), after, limit)
    # Every index has the status before the time: of each range its end, and of these the newest.
    statuses = bindparam("statuses", sorted(chosen.statuses), type_=ARRAY(Text))
    each = func.unnest(statuses).table_valued("status", name="each").render_derived()
    ends = _range(chosen, each.c.status, after, limit).lateral("ends")
    newest = (ends.c.started_at.desc(), ends.c.workflow_id.desc())
    return select(ends).select_from(each.join(ends, true())).order_by(*newest).limit(limit)


def _range(chosen: Filter, status: ColumnElement[Any], after: Position | None, limit: int) -> Select[Any]:
    run = workflow_runs.c
    equal = {"tenant": chosen.tenant, "definition": chosen.definition, "step": chosen.step}
    wanted = (run[name] == value for name, value in equal.items() if value is not None)
    bounds = _bounds(chosen, after, run.started_at, run.workflow_id)
    found = select(*SUMMARY).where(run.status == status, *wanted, *bounds)
    return found.order_by(run.started_at.desc(), run.workflow_id.desc()).limit(limit)


def _of_sku(chosen: Filter, after: Position | None, limit: int) -> Select[Any]:
    key = run_keys.c
    return (
        select(*SUMMARY)
        .join(run_keys, key.workflow_id == workflow_runs.c.workflow_id)
        .where(key.key == chosen.sku, key.kind == "sku")
        .where(*_bounds(chosen, after, key.started_at, key.workflow_id))
        .order_by(key.started_at.desc(), key.workflow_id.desc())
        .limit(limit)
    )


def _bounds(
    chosen: Filter, after: Position | None, started_at: Column[Any], workflow_id: Column[Any]
) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if chosen.after is not None:
        bounds.append(started_at >= chosen.after)
    if chosen.before is not None:
        bounds.append(started_at < chosen.before)
    if after is not None:
        bounds.append(tuple_(started_at, workflow_id) < (after.started_at, after.workflow_id))
    return bounds
