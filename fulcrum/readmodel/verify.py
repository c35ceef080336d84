"""Does a new generation hold what the live one holds, and if not: which rows differ, in what?

Both are seen at the same offsets of the journal, in one snapshot, so that whatever differs is a difference
between two ways of folding and not one of time. The projector is held up only until the snapshot is taken.
"""

# ruff: noqa: S608 - every part of the statements is a constant or the number of a generation

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from fulcrum.errors import Conflict
from fulcrum.readmodel import generation_tables as tables
from fulcrum.readmodel import generations
from fulcrum.readmodel.control import working
from fulcrum.readmodel.generations import Generation
from fulcrum.readmodel.relations import LIVE_SCHEMA, run_keys, timeline, workflow_runs
from fulcrum.readmodel.swap import aligned
from fulcrum.settings import Settings
from fulcrum.store.plain import connected

_KEYS = {
    relation.name: tuple(column.name for column in relation.primary_key.columns)
    for relation in (workflow_runs, timeline, run_keys)
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same in both.

    ``what``: ``missing`` in the new generation, ``added`` there, or the columns that differ.
    """

    relation: str
    workflow_id: str
    version: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One relation: rows of the live and the new generation that were looked at, and buckets that differ."""

    relation: str
    live: int
    new: int
    buckets: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found; ``differences`` are at most as many as were asked for."""

    generation: int
    compared: tuple[Compared, ...]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def verify(settings: Settings, sample: int | None, most: int) -> Verified:
    """Compare the generation in work with the live one, whole or in ``sample`` workflows taken at random.

    Names at most ``most`` differing rows. Conflict when the generation is not ready.
    """
    with working(settings) as connection:
        with connection.begin():
            generation = generations.find(connection)
            if generation.status != "ready":
                raise Conflict(f"generation {generation.generation} is {generation.status}: not ready yet")
            tables.require_alike(connection, generation.schema)
        with connected(settings.postgres_dsn, "fulcrum-projection") as snapshot:
            snapshot.execution_options(isolation_level="REPEATABLE READ")
            with aligned(settings, connection, generation, exactly=True) as _:
                snapshot.execute(text("SELECT 1"))
            if sample is None:
                return _whole(snapshot, generation, most)
            return _sampled(snapshot, generation, sample, most)


def _whole(snapshot: Connection, generation: Generation, most: int) -> Verified:
    compared: list[Compared] = []
    differences: list[Difference] = []
    for relation in tables.RELATIONS:
        live, new = (_buckets(snapshot, schema, relation) for schema in (LIVE_SCHEMA, generation.schema))
        differing = sorted(b for b in live.keys() | new.keys() if live.get(b) != new.get(b))
        rows = [sum(count for count, _ in side.values()) for side in (live, new)]
        compared.append(Compared(relation, rows[0], rows[1], len(differing)))
        for bucket in differing:
            if len(differences) < most:
                differences += _differences(
                    snapshot, generation, relation, _IN_BUCKET, {"bucket": bucket}, most - len(differences)
                )
    return Verified(generation.generation, tuple(compared), tuple(differences))


def _sampled(snapshot: Connection, generation: Generation, sample: int, most: int) -> Verified:
    """Half of the workflows are taken from each side, so that what only one has can be found too."""
    compared: list[Compared] = []
    differences: list[Difference] = []
    ids: set[str] = set()
    for schema in (LIVE_SCHEMA, generation.schema):
        picked = snapshot.execute(
            text(
                f"SELECT workflow_id::text AS id FROM {schema}.{workflow_runs.name}"
                " ORDER BY random() LIMIT :sample"
            ),
            {"sample": (sample + 1) // 2},
        )
        ids |= {row.id for row in picked}
    given = {"ids": sorted(ids)}
    for relation in tables.RELATIONS:
        rows = [
            snapshot.execute(
                text(f"SELECT count(*) FROM {schema}.{relation} AS r WHERE {_AMONG}"),
                given,
            ).scalar_one()
            for schema in (LIVE_SCHEMA, generation.schema)
        ]
        found = list(_differences(snapshot, generation, relation, _AMONG, given, most - len(differences)))
        differences += found
        compared.append(Compared(relation, rows[0], rows[1], 0))
    return Verified(generation.generation, tuple(compared), tuple(differences))


_BUCKET = "get_byte(uuid_send(r.workflow_id), 0)"
_IN_BUCKET = f"{_BUCKET} = :bucket"
_AMONG = "r.workflow_id = ANY(CAST(:ids AS uuid[]))"


def _buckets(snapshot: Connection, schema: str, relation: str) -> dict[int, tuple[int, int]]:
    """Rows and the sum of their hashes, by the first byte of the workflow's id."""
    statement = f"""
        SELECT {_BUCKET} AS bucket, count(*) AS rows, bit_xor(hashtextextended(r::text, 0)) AS hash
        FROM {schema}.{relation} AS r GROUP BY 1
        """
    found = snapshot.execute(text(statement))
    return {row.bucket: (row.rows, row.hash) for row in found}


def _differences(
    snapshot: Connection,
    generation: Generation,
    relation: str,
    where: str,
    given: Mapping[str, Any],
    most: int,
) -> Iterator[Difference]:
    key = ", ".join(_KEYS[relation])
    version = "version" if "version" in _KEYS[relation] else "NULL::bigint"
    # The hashes of all rows would be a lot to sort; those of one bucket are few.
    statement = f"""
        SELECT workflow_id::text AS workflow_id, {version} AS version, l.row AS live, n.row AS new
        FROM (SELECT {key}, to_json(r) AS row FROM {LIVE_SCHEMA}.{relation} AS r WHERE {where}) AS l
        FULL JOIN
            (SELECT {key}, to_json(r) AS row FROM {generation.schema}.{relation} AS r WHERE {where}) AS n
            USING ({key})
        WHERE l.row::text IS DISTINCT FROM n.row::text
        ORDER BY 1, 2 LIMIT :most
        """
    for row in snapshot.execute(text(statement), {**given, "most": most}):
        yield Difference(relation, row.workflow_id, row.version, _what(row.live, row.new))


def _what(live: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    if live is None:
        return "added"
    if new is None:
        return "missing"
    return ", ".join(column for column in live if live[column] != new.get(column)) or "form only"
