"""Does everything hold that must hold? Checked from the outside, on a system that has come to rest.

The places looked at are the ones that users trust: SQL, the provider's own log of effects, a scan of the
Kafka topics, and Redis. Nothing is asked of the roles themselves. Each check answers with what is wrong.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extras
import redis
from confluent_kafka import Consumer, TopicPartition

from fulcrum.saga.messages import EVENT_STREAMS, DecisionMade
from fulcrum.settings import Settings
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.topics import Topics

Env = Mapping[str, str]

_KAFKA_WITHIN = 30.0
_FINAL = ("completed", "cancelled")


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be: which check, about what, and what was seen."""

    check: str
    subject: str
    detail: str


# --- SQL: each query returns what is wrong as (subject, detail) ---------------------------------------

_QUERIES: Mapping[str, str] = {
    "every intent has ended": """
        SELECT i.workflow_id, coalesce(r.status, 'not projected')
        FROM intake.intents i LEFT JOIN read_model.workflow_runs r USING (workflow_id)
        WHERE r.status IS NULL OR r.status NOT IN ('completed', 'cancelled')""",
    "versions are dense": """
        SELECT r.workflow_id, format('version %s, %s entries up to %s', r.version, count(t), max(t.version))
        FROM read_model.workflow_runs r LEFT JOIN read_model.timeline t USING (workflow_id)
        GROUP BY r.workflow_id, r.version
        HAVING count(t) <> r.version OR max(t.version) IS DISTINCT FROM r.version""",
    "a final status never changes": """
        SELECT workflow_id, format('version %s: %s to %s', version, status_before, status)
        FROM read_model.timeline
        WHERE status_before IN ('completed', 'cancelled') AND status <> status_before""",
    "a completed run holds its lines": """
        WITH wanted AS (
            SELECT r.workflow_id, l->>'sku' AS sku, sum((l->>'quantity')::bigint) AS quantity
            FROM read_model.workflow_runs r, json_array_elements(r.lines) l
            WHERE r.status = 'completed' GROUP BY 1, 2),
        held AS (
            SELECT workflow_id, sku, quantity
            FROM inventory.reservation_lines JOIN inventory.reservations USING (workflow_id)
            WHERE state = 'held')
        SELECT workflow_id, format('%s: wants %s, holds %s', sku, w.quantity, h.quantity)
        FROM wanted w FULL JOIN held h USING (workflow_id, sku)
        WHERE w.quantity IS DISTINCT FROM h.quantity""",
    "stock equals its ledger": """
        SELECT sku, format('stock %s/%s/%s, ledger %s/%s/%s',
                           s.available, s.reserved, s.consumed, l.available, l.reserved, l.consumed)
        FROM inventory.stock s FULL JOIN (
            SELECT sku, sum(available) available, sum(reserved) reserved, sum(consumed) consumed
            FROM inventory.ledger GROUP BY sku) l USING (sku)
        WHERE (s.available, s.reserved, s.consumed) IS DISTINCT FROM
              (l.available::bigint, l.reserved::bigint, l.consumed::bigint)
           OR s.available < 0 OR s.reserved < 0 OR s.consumed < 0""",
    "received equals available, reserved and consumed": """
        SELECT sku, format('received %s, there are %s', received, available + reserved + consumed)
        FROM inventory.stock JOIN (
            SELECT sku, sum(available) received FROM inventory.ledger WHERE kind = 'receive' GROUP BY sku
        ) l USING (sku)
        WHERE received <> available + reserved + consumed""",
    "payments ended as their runs did": """
        SELECT r.workflow_id, format('%s with a payment that is %s', r.status, coalesce(p.state, 'missing'))
        FROM read_model.workflow_runs r LEFT JOIN payments.payments p USING (workflow_id)
        WHERE (r.status = 'completed' AND p.state IS DISTINCT FROM 'authorized')
           OR (r.status = 'cancelled' AND p.state NOT IN ('declined', 'voided'))""",
    "outboxes are empty": """
        SELECT 'intake', count(*)::text FROM intake.outbox HAVING count(*) > 0 UNION ALL
        SELECT 'payments', count(*)::text FROM payments.outbox HAVING count(*) > 0 UNION ALL
        SELECT 'inventory', count(*)::text FROM inventory.outbox HAVING count(*) > 0""",
    "every command received was answered": """
        SELECT message_id, 'payments' FROM payments.inbox WHERE outcome IS NULL UNION ALL
        SELECT message_id, 'inventory' FROM inventory.inbox WHERE outcome IS NULL""",
    "nothing is parked": """
        SELECT id, format('%s of %s: %s', type, service, error)
        FROM ops.parked_messages WHERE status = 'parked'""",
}


def _sql(env: Env) -> list[Violation]:
    found = []
    with psycopg2.connect(env["FULCRUM_POSTGRES_DSN"]) as connection, connection.cursor() as cursor:
        for check, query in _QUERIES.items():
            cursor.execute(query)
            found += [Violation(check, str(subject), str(detail)) for subject, detail in cursor.fetchall()]
    connection.close()
    return found


def _rows(env: Env, query: str) -> list[dict[str, Any]]:
    with (
        psycopg2.connect(env["FULCRUM_POSTGRES_DSN"]) as connection,
        connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor,
    ):
        cursor.execute(query)
        rows = [dict(row) for row in cursor.fetchall()]
    connection.close()
    return rows


# --- the provider -------------------------------------------------------------------------------------


def _provider(env: Env) -> list[Violation]:
    """One effect per key, one authorisation per workflow at most, voided exactly when it was cancelled."""
    with urllib.request.urlopen(f"{env['FULCRUM_PSP_URL']}/v1/effects", timeout=30) as answer:
        effects = json.load(answer)["effects"]
    keys = Counter(effect["key"] for effect in effects)
    found = [Violation("one effect per key", key, f"{n} effects") for key, n in keys.items() if n > 1]
    done: dict[str, Counter[str]] = defaultdict(Counter)
    amounts: dict[str, tuple[int, str]] = {}
    for effect in effects:
        done[effect["reference"]][effect["kind"]] += 1
        if effect["kind"] == "authorize":
            amounts[effect["reference"]] = (effect["amount_minor"], effect["currency"])
    runs = _rows(
        env, "SELECT workflow_id::text, status, amount_minor, currency FROM read_model.workflow_runs"
    )
    for run in runs:
        workflow, kinds = run["workflow_id"], done[run["workflow_id"]]
        held = kinds["authorize"] - kinds["void"]
        if kinds["authorize"] > 1 or held != (1 if run["status"] == "completed" else 0):
            found.append(
                Violation("the provider holds what the run says", workflow, f"{run['status']}: {kinds}")
            )
        if workflow in amounts and amounts[workflow] != (run["amount_minor"], run["currency"]):
            found.append(Violation("the amount is the intent's", workflow, str(amounts[workflow])))
    return found


# --- Kafka --------------------------------------------------------------------------------------------


def _scan(env: Env, topics: Iterable[str]) -> Iterable[Any]:
    """Every record of ``topics`` up to now, in order within a partition."""
    consumer = Consumer({"bootstrap.servers": env["FULCRUM_KAFKA_BOOTSTRAP"], "group.id": "invariants"})
    try:
        known = consumer.list_topics(timeout=_KAFKA_WITHIN).topics
        left: dict[tuple[str, int], int] = {}
        for topic in topics:
            for number in known[topic].partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), _KAFKA_WITHIN)
                if high > low:
                    left[topic, number] = high
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in left])
        while left:
            message = consumer.poll(_KAFKA_WITHIN)
            if message is None or message.error():
                raise TimeoutError(f"nothing more comes from {left}: {message and message.error()}")
            yield message
            offset = message.offset() or 0
            place = (str(message.topic()), message.partition() or 0)
            if offset + 1 >= left.get(place, offset + 2):
                del left[place]
    finally:
        consumer.close()


def _journal(env: Env, codec: Codec) -> list[Violation]:
    """First occurrences are dense and in order, a final status stays, and the read model is the last one."""
    found: list[Violation] = []
    last: dict[str, DecisionMade] = {}
    for message in _scan(env, [Topics(env["FULCRUM_NAMESPACE"]).stream("decisions")]):
        decision = codec.decode(message.value())
        assert isinstance(decision, DecisionMade)
        before = last.get(decision.workflow_id)
        version = before.version if before else 0
        if decision.version <= version:
            continue
        if decision.version != version + 1:
            detail = f"version {decision.version} after {version}"
            found.append(Violation("the journal is dense and in order", decision.workflow_id, detail))
        if before and before.status in _FINAL and decision.status != before.status:
            detail = f"{before.status} to {decision.status}"
            found.append(Violation("a final status never changes", decision.workflow_id, detail))
        last[decision.workflow_id] = decision
    rows = _rows(env, "SELECT workflow_id::text, version, status FROM read_model.workflow_runs")
    shown = {row["workflow_id"]: (row["version"], row["status"]) for row in rows}
    for workflow in last.keys() | shown.keys():
        told = (last[workflow].version, last[workflow].status) if workflow in last else None
        if told != shown.get(workflow):
            detail = f"journal {told}, read model {shown.get(workflow)}"
            found.append(Violation("the read model is the journal's last", workflow, detail))
    return found


def _dead_letters(env: Env, codec: Codec) -> list[Violation]:
    topics = Topics(env["FULCRUM_NAMESPACE"])
    names = [topics.dlq(topics.stream(stream)) for stream in (*EVENT_STREAMS, "decisions")]
    return [
        Violation(
            "nothing is dead-lettered",
            f"{message.topic()}/{message.partition()}@{message.offset()}",
            dict(message.headers() or []).get("fulcrum-dlq-error", b"").decode(),
        )
        for message in _scan(env, names)
    ]


# --- Redis --------------------------------------------------------------------------------------------


def _cache(env: Env) -> list[Violation]:
    """The cache may lack a run, but never show a version that the database does not have."""
    rows = _rows(env, "SELECT workflow_id::text, version FROM read_model.workflow_runs")
    versions = {row["workflow_id"]: row["version"] for row in rows}
    prefix = f"{env['FULCRUM_NAMESPACE']}:run:"
    found = []
    with redis.Redis.from_url(env["FULCRUM_REDIS_URL"]) as cache:
        for key in cache.scan_iter(f"{prefix}*", count=1000):
            workflow = key.decode().removeprefix(prefix)
            cached = int(cache.hget(key, "version") or 0)
            if cached > versions.get(workflow, 0):
                detail = f"cached {cached}, stored {versions.get(workflow)}"
                found.append(Violation("the cache is never ahead", workflow, detail))
    return found


# --- all ----------------------------------------------------------------------------------------------

_PLAIN: tuple[Callable[[Env], list[Violation]], ...] = (_sql, _provider, _cache)
_DECODING: tuple[Callable[[Env, Codec], list[Violation]], ...] = (_journal, _dead_letters)


async def check_all(env: Env) -> list[Violation]:
    """Everything that is wrong; an empty list when all holds.

    ``env`` holds the FULCRUM_* addresses and FULCRUM_NAMESPACE of the system. Checks that cannot be carried
    out raise: what was not looked at does not hold.
    """
    env = {"FULCRUM_NAMESPACE": "fulcrum", **env}
    given = {name.removeprefix("FULCRUM_").lower(): value for name, value in env.items()}
    settings = Settings(**{k: v for k, v in given.items() if k in Settings.model_fields})  # type: ignore[arg-type]
    codec = await open_codec(settings)
    found: list[Violation] = []
    for plain in _PLAIN:
        found += await asyncio.to_thread(plain, env)
    for decoding in _DECODING:
        found += await asyncio.to_thread(decoding, env, codec)
    return found
