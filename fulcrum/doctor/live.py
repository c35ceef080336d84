"""Does everything hold that must hold, on a system that is at work? Asked without loading it.

It looks at the latest and at some of the rest, in short statements and small reads that can write nothing.
What is younger than the grace period is in flight and does not count. A check that cannot be carried out is
*unknown*, which is no success, and does not keep the others from being made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

from fulcrum.doctor import live_accounts, live_beside, live_kafka, live_postgres
from fulcrum.doctor.findings import Fault, Finding, found, unknown
from fulcrum.doctor.live_postgres import Scope
from fulcrum.doctor.questions import QUESTIONS, Over
from fulcrum.readmodel.projection import FINAL, project, timestamp
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.wire.codec import Codec, open_codec

_PROVIDER = ("the provider holds what the runs say", 4)
_UNREAD = ("every record is read in time", 5)
_LETTERS = ("no event is put aside", 5)
_QUEUES = ("somebody takes every command", 5)
_JOURNAL = ("the read model has the journal's end", 6)
_CACHE = ("the cache shows what is stored", 6)


async def examine(settings: Settings, scope: Scope) -> list[Finding]:
    """Every check, in the order of the invariants; none raises."""
    groups = await asyncio.gather(
        asyncio.to_thread(_tables, settings, scope),
        asyncio.to_thread(_beside, settings, scope),
        _kafka(settings, scope),
        _attempt([_QUEUES], live_beside.queues(settings)),
        _attempt([live_accounts.ACCOUNTS], live_accounts.accounts(settings, scope)),
    )
    return sorted((each for group in groups for each in group), key=lambda finding: finding.invariant)


async def _attempt(checks: Sequence[tuple[str, int]], work: Coroutine[Any, Any, Finding]) -> list[Finding]:
    try:
        return [await work]
    except Exception as error:
        return [unknown(*check, error) for check in checks]


def _try(check: tuple[str, int], work: Callable[[], Finding]) -> Finding:
    try:
        return work()
    except Exception as error:
        return unknown(*check, error)


def _tables(settings: Settings, scope: Scope) -> list[Finding]:
    try:
        connection = live_postgres.connect(settings.postgres_dsn)
    except Exception as error:
        return [unknown(question.check, question.invariant, error) for question in QUESTIONS]
    try:
        with connection.cursor() as cursor:
            return live_postgres.look(cursor, scope)
    finally:
        connection.close()


def _beside(settings: Settings, scope: Scope) -> list[Finding]:
    """The provider and the cache, compared with runs that are read after them."""
    try:
        connection = live_postgres.connect(settings.postgres_dsn)
    except Exception as error:
        return [unknown(*check, error) for check in (_PROVIDER, _CACHE)]
    try:
        with connection.cursor() as cursor:
            ids = live_postgres.pick(cursor, Over.RUNS, scope)

            def provider() -> Finding:
                before = live_postgres.runs_of(cursor, ids, scope.grace)
                settled = [id_ for id_, run in before.items() if run["status"] in FINAL and not run["fresh"]][
                    : live_beside.ASKED
                ]
                effects = live_beside.effects_of(settings, settled)
                after = live_postgres.runs_of(cursor, settled, scope.grace)
                # One that has changed meanwhile (a late answer is being undone) is in flight again.
                still = {id_: run for id_, run in after.items() if not run["fresh"]}
                return live_beside.provider([e for e in effects if e["reference"] in still], still)

            def cache() -> Finding:
                cached = live_beside.cached_versions(settings, ids)
                return live_beside.cache(cached, live_postgres.runs_of(cursor, ids, scope.grace))

            return [_try(_PROVIDER, provider), _try(_CACHE, cache)]
    except Exception as error:
        return [unknown(*check, error) for check in (_PROVIDER, _CACHE)]
    finally:
        connection.close()


async def _kafka(settings: Settings, scope: Scope) -> list[Finding]:
    codec: Codec | Exception
    try:
        codec = await open_codec(settings, (DecisionMade,))
    except Exception as error:
        codec = error
    return await asyncio.to_thread(_topics, settings, scope, codec)


def _topics(settings: Settings, scope: Scope, codec: Codec | Exception) -> list[Finding]:
    def journal() -> Finding:
        if isinstance(codec, Exception):
            raise codec
        with live_kafka.opened(settings) as kafka:
            tail = [codec.decode(value) for value in live_kafka.journal_tail(kafka, scope.grace)]
        return _shown(settings, [each for each in tail if isinstance(each, DecisionMade)])

    def unread() -> Finding:
        with live_kafka.opened(settings) as kafka:
            return live_kafka.unread(kafka, scope.grace)

    def letters() -> Finding:
        with live_kafka.opened(settings) as kafka:
            return live_kafka.dead_letters(kafka)

    return [_try(_UNREAD, unread), _try(_LETTERS, letters), _try(_JOURNAL, journal)]


def _shown(settings: Settings, decisions: Sequence[DecisionMade]) -> Finding:
    """Whether the read model has each of these decisions, as it is projected."""
    ids = sorted({decision.workflow_id for decision in decisions})
    connection = live_postgres.connect(settings.postgres_dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT *, workflow_id::text FROM read_model.timeline WHERE workflow_id = ANY(%s::uuid[])",
                (ids,),
            )
            names = [column.name for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            runs = live_postgres.runs_of(cursor, ids, 0)
    finally:
        connection.close()
    entries = {(row.pop("workflow_id"), row["version"]): _plain(row) for row in rows}
    faults = []
    for made in decisions:
        stored = entries.get((made.workflow_id, made.version))
        run = runs.get(made.workflow_id, {"version": 0})
        if stored is None:
            faults.append(Fault(made.workflow_id, "an entry is missing", f"version {made.version}"))
        elif stored != project(made).entry:
            faults.append(Fault(made.workflow_id, "an entry says something else", f"version {made.version}"))
        elif run["version"] < made.version:
            detail = f"journal {made.version}, run {run['version']}"
            faults.append(Fault(made.workflow_id, "the run is behind", detail))
    return found(*_JOURNAL, len(decisions), faults)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its times as the text that a projection writes."""
    return {name: timestamp(value) if isinstance(value, datetime) else value for name, value in row.items()}
