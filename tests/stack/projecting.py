"""A journal that a test writes itself, a projector that follows it, and commands about its generations."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg2
import psycopg2.extras
from confluent_kafka import Producer
from decisions import history
from eventually import eventually
from intake import free_port

from fulcrum.readmodel.folding import Reader
from fulcrum.readmodel.projection import project, to_json
from fulcrum.readmodel.view import View
from fulcrum.saga.messages import DecisionMade
from fulcrum.settings import Settings
from fulcrum.wire.registry import Registry
from fulcrum.wire.schemas import MESSAGE_TYPES, schema_text, subject
from fulcrum.wire.topic_admin import ensure_topics
from fulcrum.wire.topics import Topics

WITHIN = 30.0


def environment(settings: Settings, **changes: Any) -> dict[str, str]:
    """What a process needs to work with ``settings``."""
    given = settings.model_copy(update=changes).model_dump(mode="json", exclude_none=True)
    return {**os.environ, **{f"FULCRUM_{name.upper()}": str(value) for name, value in given.items()}}


def another_namespace(settings: Settings) -> Settings:
    """A namespace with topics and schemas of its own, on the same database."""
    named = settings.model_copy(update={"namespace": f"n{uuid4().hex[:8]}"})
    ensure_topics(named)
    asyncio.run(_register(named))
    return named


async def _register(settings: Settings) -> None:
    registry = Registry(settings.registry_url)
    for type_ in MESSAGE_TYPES:
        await registry.register(subject(settings.namespace, type_), schema_text(type_))
    await registry.close()


class Journal:
    """The decisions topic of one namespace; every record gets in by the key of its workflow."""

    def __init__(self, settings: Settings) -> None:
        self.topic = Topics(settings.namespace).stream("decisions")
        self._reader = Reader(settings)
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_bootstrap,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 1_000_000,
                "linger.ms": 5,
            }
        )

    def record(self, decisions: Sequence[DecisionMade]) -> None:
        """Append ``decisions``; on return they are there."""
        for decision in decisions:
            self.append(decision.workflow_id.encode(), self.encoded(decision))
        self.flush()

    def encoded(self, decision: DecisionMade) -> bytes:
        """The bytes of a decision."""
        return self._reader.encoded(decision)

    def append(self, key: bytes, value: bytes, **place: int) -> None:
        """Append whatever bytes."""
        self._producer.produce(self.topic, value, key, **place)

    def flush(self) -> None:
        """Wait for the broker."""
        assert self._producer.flush(WITHIN) == 0

    def close(self) -> None:
        """Leave."""
        self._reader.close()


@contextmanager
def journal_of(settings: Settings) -> Iterator[Journal]:
    """The journal of a namespace."""
    journal = Journal(settings)
    try:
        yield journal
    finally:
        journal.close()


def stories(number: int, seed: int = 0) -> list[DecisionMade]:
    """The decisions of ``number`` workflows, some of them recorded twice, as far as possible out of order."""
    chance = random.Random(seed)
    told = [made for _ in range(number) for made in history()]
    told += chance.sample(told, len(told) // 10)
    chance.shuffle(told)
    return told


def growing(workflow_ids: Sequence[str], version: int) -> list[DecisionMade]:
    """Version ``version`` of each workflow."""
    base = history()[0]
    return [replace(base, workflow_id=workflow_id, version=version) for workflow_id in workflow_ids]


def folded(decisions: Sequence[DecisionMade]) -> dict[str, View]:
    """What the read model must hold after ``decisions``, whatever way they came."""
    views: dict[str, View] = {}
    for made in decisions:
        known = views.get(made.workflow_id)
        newest = made if known is None or made.version >= known.version else None
        entries = {**(known.entries if known else {}), made.version: to_json(project(made).entry)}
        if newest is None:
            assert known is not None
            views[made.workflow_id] = replace(known, entries=entries)
        else:
            run = to_json(project(newest).run)
            views[made.workflow_id] = View(made.workflow_id, made.version, made.status, run, entries)
    return views


@contextmanager
def projector(settings: Settings) -> Iterator[None]:
    """A projector in a process of its own."""
    command = [sys.executable, "-m", "fulcrum", "run", "projector"]
    env = environment(settings, http_port=free_port(), log_level="warning")
    with tempfile.TemporaryFile("a+") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(WITHIN)


def started(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    """``fulcrum projection ...`` in a process of its own."""
    command = [sys.executable, "-m", "fulcrum", "projection", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(settings), stdout=pipe, stderr=pipe, text=True)


def rows(settings: Settings, statement: str, parameters: Any = None) -> list[dict[str, Any]]:
    """The rows of one statement."""
    connection = psycopg2.connect(settings.postgres_dsn)
    try:
        with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(statement, parameters)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []
    finally:
        connection.close()


def held(settings: Settings, schema: str = "read_model") -> dict[str, tuple[int, str, int]]:
    """Version, status and number of timeline entries of every workflow in a generation."""
    found = rows(
        settings,
        f"SELECT workflow_id::text, r.version, r.status, (SELECT count(*) FROM {schema}.timeline t"
        f" WHERE t.workflow_id = r.workflow_id) AS entries FROM {schema}.workflow_runs r",
    )
    return {row["workflow_id"]: (row["version"], row["status"], row["entries"]) for row in found}


def expected(decisions: Sequence[DecisionMade]) -> dict[str, tuple[int, str, int]]:
    """What ``held`` must be after ``decisions``."""
    return {
        workflow_id: (view.version, view.status, len(view.entries))
        for workflow_id, view in folded(decisions).items()
    }


def until_projected(settings: Settings, decisions: Sequence[DecisionMade]) -> None:
    """Wait until the live generation holds ``decisions``."""
    wanted = expected(decisions)
    eventually(
        lambda: wanted.items() <= held(settings).items(), within=WITHIN, state=lambda: len(held(settings))
    )


def last_generation(settings: Settings) -> dict[str, Any]:
    """The newest row of ``read_model.generations``."""
    return rows(settings, "SELECT * FROM read_model.generations ORDER BY generation DESC LIMIT 1")[0]


def lines(text: str) -> list[dict[str, Any]]:
    """The JSON lines of an output."""
    return [json.loads(line) for line in text.splitlines()]
