"""Bring a generation of the read model in Postgres up to a batch of decisions.

Decisions may come twice, in any order of workflows, and from a replay of the whole journal: a version
never gives way to an older one, and what is there already stays as it is. How far the journal has been read
is stored in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnClause,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    column,
    exists,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSON, Insert, insert

from fulcrum.readmodel.projection import compact, project_entry, project_run, to_json
from fulcrum.readmodel.relations import (
    LIVE_SCHEMA,
    WORKFLOWS,
    generation_offsets,
    in_schema,
    projections,
    run_keys,
    timeline,
    workflow_runs,
)
from fulcrum.readmodel.view import View
from fulcrum.saga.messages import DecisionMade
from fulcrum.store.database import Transaction
from fulcrum.store.statements import lasting

#: Columns of a run that hold what it is looked up by.
_KEYED_BY = ("correlation_id", "customer_ref", "lines")
#: The first offset not yet read, by topic and partition.
Offsets = Mapping[tuple[str, int], int]

#: How often the live generation has changed, to be selected together with what is read from it.
EPOCH = select(projections.c.epoch).where(projections.c.name == WORKFLOWS).scalar_subquery().label("epoch")


@dataclass(frozen=True, slots=True)
class Statements:
    """How one generation is written; the parameter of each is ``rows``, JSON objects."""

    upsert_runs: Select[Any]
    insert_entries: Insert


async def apply(
    tx: Transaction, decisions: Sequence[DecisionMade], offsets: Offsets | None = None
) -> list[View]:
    """Write ``decisions`` to the live generation by one statement a relation, and ``offsets`` beside them.

    Returns, for the cache, each workflow of the batch whose stored version is now the batch's newest;
    one that Postgres already holds in a newer version is left out.
    """
    views = newest(decisions)
    if not views:
        return []
    live = statements(LIVE_SCHEMA)
    written = await tx.all(live.upsert_runs, run_rows(views))
    await tx.execute(live.insert_entries, entry_rows(views))
    if offsets:
        # After the rows: what they have locked keeps the live generation the same until the end.
        await tx.execute(_STORE_OFFSETS, offset_rows(offsets))
    return [replace(views[str(row["workflow_id"])], epoch=row["epoch"] or 0) for row in written]


def newest(decisions: Sequence[DecisionMade]) -> dict[str, View]:
    """One view a workflow: its newest run and all its entries of the batch; of a repeated entry the first,
    as the database keeps it.

    In the order of workflow ids, so that two writers lock rows in the same order.
    """
    last: dict[str, DecisionMade] = {}
    entries: dict[str, dict[int, str]] = {}
    for decision in sorted(decisions, key=lambda d: (d.workflow_id, d.version)):
        last[decision.workflow_id] = decision
        known = entries.setdefault(decision.workflow_id, {})
        if decision.version not in known:
            known[decision.version] = to_json(project_entry(decision))
    return {
        workflow_id: View(
            workflow_id, made.version, made.status, to_json(project_run(made)), entries[workflow_id]
        )
        for workflow_id, made in last.items()
    }


def run_rows(views: Mapping[str, View]) -> dict[str, str]:
    """The parameter of ``upsert_runs``."""
    return _rows(view.run for view in views.values())


def entry_rows(views: Mapping[str, View]) -> dict[str, str]:
    """The parameter of ``insert_entries``."""
    return _rows(_entries(views))


def offset_rows(offsets: Offsets) -> dict[str, str]:
    """The parameter ``rows`` of a statement that stores offsets."""
    return _rows(
        compact({"topic": topic, "partition": partition, "next_offset": offset})
        for (topic, partition), offset in sorted(offsets.items())
    )


@cache
def statements(schema: str) -> Statements:
    """The statements for the generation in ``schema``."""
    return Statements(
        upsert_runs=lasting(_upsert_runs(in_schema(workflow_runs, schema), in_schema(run_keys, schema))),
        insert_entries=lasting(_insert(in_schema(timeline, schema)).on_conflict_do_nothing()),
    )


def store_offsets(generation: Any) -> Insert:
    """Keep offsets for ``generation`` (an SQL expression); one never goes back: what is read again after a
    restart has been written before."""
    names = ("topic", "partition", "next_offset")
    given = _recordset([generation_offsets.c[name] for name in names])
    chosen = select(literal(WORKFLOWS), generation, *(given.c[name] for name in names))
    statement = insert(generation_offsets).from_select(["projection", "generation", *names], chosen)
    kept = func.greatest(generation_offsets.c.next_offset, statement.excluded.next_offset)
    return statement.on_conflict_do_update(
        index_elements=list(generation_offsets.primary_key.columns), set_={"next_offset": kept}
    )


def _entries(views: Mapping[str, View]) -> Iterator[str]:
    """Every entry with the id of its workflow put in front."""
    for view in views.values():
        for entry in view.entries.values():
            yield f'{{"workflow_id":"{view.workflow_id}",{entry[1:]}'


def _rows(objects: Iterable[str]) -> dict[str, str]:
    """JSON objects as the one parameter of a statement, whatever the size of the batch."""
    return {"rows": f"[{','.join(objects)}]"}


def _recordset(columns: Iterable[Any]) -> Any:
    """The JSON objects of the parameter ``rows`` as a relation: their fields are the columns."""
    typed: list[ColumnClause[Any]] = [column(c.name, c.type) for c in columns]
    records = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(*typed)
    return records.render_derived("new_row", with_types=True)


def _insert(relation: Table) -> Insert:
    """Insert the JSON objects of the parameter ``rows``."""
    return insert(relation).from_select(list(relation.columns), select(_recordset(relation.columns)))


def _upsert_runs(relation: Table, keys: Table) -> Select[Any]:
    """Write the runs, and the keys of those that were not there before."""
    statement = _insert(relation)
    new = statement.excluded
    written = statement.on_conflict_do_update(
        index_elements=[relation.c.workflow_id],
        set_={c.name: new[c.name] for c in relation.columns if not c.primary_key},
        # An equal version is written again, so that a repeat reports it and the cache gets it too.
        where=relation.c.version <= new.version,
    ).returning(*(relation.c[name] for name in ("workflow_id", "started_at", *_KEYED_BY)))
    runs = written.cte("written")
    # All parts of a statement see what was there before it, so this sees no run that it writes itself.
    there = exists(select(relation.c.workflow_id).where(relation.c.workflow_id == runs.c.workflow_id))
    fresh = select(runs).where(~there).cte("fresh")
    keyed = insert(keys).from_select(["key", "kind", "started_at", "workflow_id"], _keys(fresh))
    return select(runs.c.workflow_id, EPOCH).add_cte(keyed.on_conflict_do_nothing().cte("keyed"))


def _keys(runs: CTE) -> Any:
    """What each of ``runs`` can be looked up by."""
    line = func.json_array_elements(runs.c.lines).table_valued("value", name="line").render_derived()
    owner = (runs.c.started_at, runs.c.workflow_id)
    return union_all(
        select(runs.c.correlation_id, literal("correlation_id"), *owner),
        select(runs.c.customer_ref, literal("customer_ref"), *owner),
        select(cast(line.c.value, JSON)["sku"].astext, literal("sku"), *owner).join_from(
            runs, line, literal(True)
        ),
    )


_STORE_OFFSETS = lasting(
    store_offsets(select(projections.c.live).where(projections.c.name == WORKFLOWS).scalar_subquery())
)
