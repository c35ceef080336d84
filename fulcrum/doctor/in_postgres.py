"""Do the services' own tables agree with one another, and with what the read model says?

Each query answers with what is wrong: a subject, and what was seen.
"""

# ruff: noqa: S608 - every part of the statements is a constant of this module

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extras

from fulcrum.doctor.shipped import CAPTURED, CONSUMED, ships
from fulcrum.doctor.violation import Env, Violation
from fulcrum.store.relations import SCHEMA_OF, SERVICE_SCHEMAS

#: Runs whose effects an operator answers for: terminated, or with a step that somebody skipped.
BY_HAND = """(r.status = 'terminated' OR EXISTS (
            SELECT FROM json_array_elements(r.steps) s WHERE s->>'skipped_by' IS NOT NULL))"""
#: Runs that ended, and that no person answers for.
_ENDED = f"""runs AS (SELECT r.* FROM read_model.workflow_runs r
                   WHERE r.status IN ('completed', 'cancelled') AND NOT {BY_HAND})"""


def _each(schemas: Iterable[str], query: str) -> str:
    """``query`` of each schema, as one."""
    return " UNION ALL ".join(query.format(schema) for schema in schemas)


QUERIES: Mapping[str, str] = {
    "every intent has ended": """
        SELECT i.workflow_id, coalesce(r.status, 'not projected')
        FROM intake.intents i LEFT JOIN read_model.workflow_runs r USING (workflow_id)
        WHERE r.status IS NULL OR r.status NOT IN ('completed', 'cancelled', 'terminated')""",
    "every run has its intent": """
        SELECT r.workflow_id, format('%s %s %s', r.intent_id, r.amount_minor, r.currency)
        FROM read_model.workflow_runs r LEFT JOIN intake.intents i USING (workflow_id)
        WHERE (i.intent_id, i.amount_minor, i.currency) IS DISTINCT FROM
              (r.intent_id, r.amount_minor, r.currency)""",
    "versions are dense": """
        SELECT r.workflow_id, format('version %s, %s entries up to %s', r.version, count(t), max(t.version))
        FROM read_model.workflow_runs r LEFT JOIN read_model.timeline t USING (workflow_id)
        GROUP BY r.workflow_id, r.version
        HAVING count(t) <> r.version OR max(t.version) IS DISTINCT FROM r.version""",
    "a final status never changes": """
        SELECT workflow_id, format('version %s: %s to %s', version, status_before, status)
        FROM read_model.timeline
        WHERE status_before IN ('completed', 'cancelled', 'terminated') AND status <> status_before""",
    "a completed run holds its lines, no other run holds any": f"""
        WITH by_hand AS (SELECT workflow_id FROM read_model.workflow_runs r WHERE {BY_HAND}),
        wanted AS (
            SELECT r.workflow_id, l->>'sku' AS sku, sum((l->>'quantity')::bigint) AS quantity
            FROM read_model.workflow_runs r, json_array_elements(r.lines) l
            WHERE r.status = 'completed' AND NOT {ships("r")} AND NOT {BY_HAND} GROUP BY 1, 2),
        held AS (
            SELECT workflow_id, sku, quantity
            FROM inventory.reservation_lines JOIN inventory.reservations USING (workflow_id)
            WHERE state IN ('held', 'confirmed') AND workflow_id NOT IN (SELECT workflow_id FROM by_hand))
        SELECT workflow_id, format('%s: wants %s, holds %s', sku, w.quantity, h.quantity)
        FROM wanted w FULL JOIN held h USING (workflow_id, sku)
        WHERE w.quantity IS DISTINCT FROM h.quantity""",
    "what is reserved is what runs hold": """
        SELECT sku, format('reserved %s, held %s', s.reserved, h.quantity)
        FROM inventory.stock s FULL JOIN (
            SELECT sku, sum(quantity) AS quantity
            FROM inventory.reservation_lines JOIN inventory.reservations USING (workflow_id)
            WHERE state IN ('held', 'confirmed') GROUP BY sku) h USING (sku)
        WHERE coalesce(s.reserved, 0) <> coalesce(h.quantity, 0)""",
    "goods left for completed runs, and for no others": f"""
        WITH {_ENDED} SELECT workflow_id, concat(cause, ': ', detail)
        FROM ({CONSUMED}) found (workflow_id, cause, detail)""",
    "what is consumed is what left for runs": """
        SELECT sku, format('consumed %s, of runs %s', s.consumed, g.quantity)
        FROM inventory.stock s FULL JOIN (
            SELECT sku, sum(consumed) AS quantity
            FROM inventory.reservation_lines JOIN inventory.reservations USING (workflow_id)
            WHERE state IN ('consumed', 'written_off') GROUP BY sku) g USING (sku)
        WHERE coalesce(s.consumed, 0) <> coalesce(g.quantity, 0)""",
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
        FROM inventory.stock LEFT JOIN (
            SELECT sku, sum(available) received FROM inventory.ledger WHERE kind = 'receive' GROUP BY sku
        ) l USING (sku)
        WHERE coalesce(received, 0) <> available + reserved + consumed""",
    "every receipt is in the ledger": """
        SELECT r.command_id, format('%s %s, ledger %s', r.sku, r.quantity, l.available)
        FROM intake.receipts r LEFT JOIN inventory.ledger l
          ON l.command_id = r.command_id AND l.sku = r.sku AND l.kind = 'receive'
        WHERE l.available IS DISTINCT FROM r.quantity""",
    "payments ended as their runs did": f"""
        SELECT workflow_id, format('%s with a payment that is %s',
                                   coalesce(r.status, 'no run'), coalesce(p.state, 'missing'))
        FROM read_model.workflow_runs r FULL JOIN payments.payments p USING (workflow_id)
        WHERE r.status IS NULL
           OR (NOT {BY_HAND}
               AND (r.status = 'completed' AND (p.state IS NULL OR p.state NOT IN ('authorized', 'captured')
                                                OR p.state = 'authorized' AND {ships("r")}
                                                OR p.refunded_minor > 0)
                    OR r.status = 'cancelled' AND p.state NOT IN ('declined', 'voided', 'refunded')))""",
    "no payment command is left open": """
        SELECT command_id, format('%s since %s', type, begun_at) FROM payments.open_commands""",
    "pack jobs ended as their runs did": f"""
        SELECT workflow_id, format('%s with a pack job that is %s',
                                   coalesce(r.status, 'no run'), concat_ws(' to ', j.state, j.goal))
        FROM read_model.workflow_runs r RIGHT JOIN warehouse.pack_jobs j USING (workflow_id)
        WHERE r.status IS NULL
           OR (NOT {BY_HAND}
               AND (r.status IN ('completed', 'cancelled') AND j.goal IS NOT NULL
                    OR r.status = 'completed' AND j.state NOT IN ('packed', 'handed_over')
                    OR r.status = 'cancelled' AND j.state = 'packed'))""",
    "no parcel is on its way for a run that ended without it": f"""
        SELECT workflow_id, format('%s with a shipment that is %s', r.status, d.state)
        FROM read_model.workflow_runs r JOIN courier.deliveries d USING (workflow_id)
        WHERE NOT {BY_HAND}
          AND (r.status = 'completed' AND d.state <> 'delivered'
               OR r.status = 'cancelled' AND d.ended_at IS NULL AND NOT d.intercepted)""",
    "no warehouse command is left open": """
        SELECT command_id, format('%s since %s', type, begun_at) FROM warehouse.open_commands""",
    "no more is packed than was ordered": """
        SELECT workflow_id, format('%s: ordered %s, packed %s', sku, coalesce(wanted, 0), packed)
        FROM (SELECT workflow_id, sku, sum(picked) AS packed FROM warehouse.pack_lines GROUP BY 1, 2) p
        LEFT JOIN (
            SELECT workflow_id, l->>'sku' AS sku, sum((l->>'quantity')::bigint) AS wanted
            FROM read_model.workflow_runs, json_array_elements(lines) l GROUP BY 1, 2
        ) w USING (workflow_id, sku)
        WHERE packed > coalesce(wanted, 0)""",
    "payments are of the intent's amount": """
        SELECT p.workflow_id, format('asked for %s %s', p.amount_minor, p.currency)
        FROM payments.payments p JOIN intake.intents i USING (workflow_id)
        WHERE p.authorize_key IS NOT NULL
          AND (p.amount_minor, p.currency) IS DISTINCT FROM (i.amount_minor, i.currency)""",
    "what was captured is the price of what left": f"""
        WITH {_ENDED} SELECT workflow_id, concat(cause, ': ', detail)
        FROM ({CAPTURED}) found (workflow_id, cause, detail)""",
    "outboxes are empty": _each(
        SERVICE_SCHEMAS, "SELECT '{0}', count(*)::text FROM {0}.outbox HAVING count(*) > 0"
    ),
    "every command received was answered": _each(
        SCHEMA_OF.values(), "SELECT message_id, '{0}' FROM {0}.inbox WHERE outcome IS NULL"
    ),
    "nothing is parked": """
        SELECT id::text, format('%s of %s: %s', type, service, error)
        FROM ops.parked_messages WHERE status IN ('parked', 'replaying') UNION ALL """
    + _each(
        SERVICE_SCHEMAS,
        "SELECT event_id::text, format('outbox of {0}: %s', error) FROM {0}.outbox_parked",
    ),
}


@contextmanager
def connected(env: Env) -> Iterator[Any]:
    """A connection to the system's database, closed at the end."""
    connection = psycopg2.connect(env["FULCRUM_POSTGRES_DSN"])
    try:
        yield connection
    finally:
        connection.close()


def rows(env: Env, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
    """The rows of ``query``, by column."""
    factory = psycopg2.extras.RealDictCursor
    with connected(env) as connection, connection.cursor(cursor_factory=factory) as cursor:
        cursor.execute(query, parameters)
        return [dict(row) for row in cursor.fetchall()]


def violations(env: Env, checks: Sequence[str] = tuple(QUERIES)) -> list[Violation]:
    """What the queries called ``checks`` find wrong."""
    with connected(env) as connection, connection.cursor() as cursor:
        return found_by(cursor, checks)


def found_by(cursor: Any, checks: Sequence[str] = tuple(QUERIES)) -> list[Violation]:
    """The same, as the transaction of ``cursor`` sees it."""
    found = []
    for check in checks:
        cursor.execute(QUERIES[check])
        found += [Violation(check, str(subject), str(seen)) for subject, seen in cursor.fetchall()]
    return found
