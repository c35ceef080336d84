"""Bring the read model in Postgres up to a batch of decisions.

Decisions may come twice, in any order of workflows, and from a replay of the whole journal: a version
never gives way to an older one, and what is there already stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnClause, Table, Text, bindparam, cast, column, func, select
from sqlalchemy.dialects.postgresql import JSON, Insert, insert
from sqlalchemy.sql.dml import ReturningInsert

from fulcrum.readmodel.projection import project, to_json
from fulcrum.readmodel.relations import timeline, workflow_runs
from fulcrum.readmodel.view import View
from fulcrum.saga.messages import DecisionMade
from fulcrum.store.database import Transaction


async def apply(tx: Transaction, decisions: Sequence[DecisionMade]) -> list[View]:
    """Write ``decisions`` by one statement a relation.

    Returns, for the cache, each workflow of the batch whose stored version is now the batch's newest;
    one that Postgres already holds in a newer version is left out.
    """
    views = _newest(decisions)
    if not views:
        return []
    written = await tx.all(_UPSERT_RUNS, _rows(view.run for view in views.values()))
    await tx.execute(_INSERT_ENTRIES, _rows(_entries(views)))
    return [views[str(row["workflow_id"])] for row in written]


def _newest(decisions: Sequence[DecisionMade]) -> dict[str, View]:
    """One view a workflow: its newest run and all its entries of the batch.

    In the order of workflow ids, so that two writers lock rows in the same order.
    """
    views: dict[str, View] = {}
    for decision in sorted(decisions, key=lambda d: (d.workflow_id, d.version)):
        rows = project(decision)
        known = views.get(decision.workflow_id)
        views[decision.workflow_id] = View(
            workflow_id=decision.workflow_id,
            version=decision.version,
            status=decision.status,
            run=to_json(rows.run),
            entries={**(known.entries if known else {}), decision.version: to_json(rows.entry)},
        )
    return views


def _entries(views: dict[str, View]) -> Iterator[str]:
    """Every entry with the id of its workflow put in front."""
    for view in views.values():
        for entry in view.entries.values():
            yield f'{{"workflow_id":"{view.workflow_id}",{entry[1:]}'


def _rows(objects: Iterable[str]) -> dict[str, str]:
    """JSON objects as the one parameter of a statement, whatever the size of the batch."""
    return {"rows": f"[{','.join(objects)}]"}


def _insert(relation: Table) -> Insert:
    """Insert the JSON objects of the parameter ``rows``: their fields are the columns."""
    columns: list[ColumnClause[Any]] = [column(c.name, c.type) for c in relation.columns]
    records = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(*columns)
    rows = select(records.render_derived("new_row", with_types=True))
    return insert(relation).from_select(list(relation.columns), rows)


def _upsert_runs() -> ReturningInsert[Any]:
    statement = _insert(workflow_runs)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[workflow_runs.c.workflow_id],
        set_={c.name: new[c.name] for c in workflow_runs.columns if not c.primary_key},
        # An equal version is written again, so that a repeat reports it and the cache gets it too.
        where=workflow_runs.c.version <= new.version,
    ).returning(workflow_runs.c.workflow_id)


_UPSERT_RUNS = _upsert_runs()
_INSERT_ENTRIES = _insert(timeline).on_conflict_do_nothing()
