"""What is asked of Postgres while Fulcrum runs? Each question looks at a bounded set of rows.

A question answers with what is wrong: subject, cause, detail. It is one statement, and so sees one moment
of all tables. ``%(ids)s`` are the workflows that were picked; what changed within the last ``%(grace)s``
seconds is in flight and counts for nothing.
"""

# ruff: noqa: S608 - every part of the statements is a constant of this module

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fulcrum.doctor.findings import State
from fulcrum.doctor.shipped import CAPTURED, CONSUMED, ships
from fulcrum.saga.run import Status
from fulcrum.store.relations import SCHEMA_OF, SERVICE_SCHEMAS


class Over(StrEnum):
    """Which subjects a question is about."""

    INTENTS = "intents"  #: accepted intents, those not confirmed and some of any age
    RUNS = "runs"  #: runs, the latest and some of any age
    WAITING = "waiting"  #: the oldest runs that are not finished
    OUTBOXES = "outboxes"  #: the first rows of each
    STOCK = "stock"  #: every SKU, unless the tables to add up are too large
    PARKED = "parked"  #: messages that were put aside, the latest of each table


@dataclass(frozen=True, slots=True)
class Question:
    """One check in SQL, and the invariant (of the design) that it belongs to."""

    check: str
    invariant: int
    over: Over
    sql: str
    bad: State = State.BROKEN


_PAST = "now() - make_interval(secs => %(grace)s)"
_PICKED = "workflow_id = ANY(%(ids)s::uuid[])"

#: Runs that ended, with nothing awaited any more, long enough ago for everybody to know. Of those that
#: operators terminated or skipped a step of, a person knows what stands.
_SETTLED = f"""
    settled AS (
        SELECT r.* FROM read_model.workflow_runs r
        WHERE {_PICKED} AND r.status IN ('completed', 'cancelled') AND r.updated_at < {_PAST}
          AND NOT EXISTS (
            SELECT FROM json_array_elements(r.steps) s
            WHERE s->>'deadline_at' IS NOT NULL OR s->>'skipped_by' IS NOT NULL))"""

_NOT_STARTED = f"""
    SELECT workflow_id, 'no run', concat('accepted ', i.accepted_at)
    FROM intake.intents i LEFT JOIN read_model.workflow_runs r USING (workflow_id)
    WHERE i.{_PICKED} AND r.workflow_id IS NULL AND i.accepted_at < {_PAST}"""

_NOT_MOVED = f"""
    WITH waiting AS (
        SELECT r.*, (SELECT max((s->>'deadline_at')::timestamptz) FROM json_array_elements(r.steps) s) AS due
        FROM read_model.workflow_runs r WHERE {_PICKED})
    SELECT workflow_id, CASE WHEN due IS NULL THEN 'waits for nothing' ELSE 'overdue' END,
           concat(status, ' at version ', version, ' since ', updated_at, ', due ', due)
    FROM waiting
    WHERE status IN ('running', 'compensating') AND updated_at < {_PAST}
      AND (due IS NULL OR due < {_PAST})"""

_NEEDS_ATTENTION = f"""
    SELECT workflow_id, replace(status, '_', ' '), coalesce(reason, '')
    FROM read_model.workflow_runs WHERE {_PICKED} AND status IN ('needs_attention', 'paused')"""

_REOPENED = f"""
    SELECT workflow_id, concat(status_before, ' to ', status), concat('version ', version)
    FROM read_model.timeline
    WHERE {_PICKED} AND status_before IN ('completed', 'cancelled', 'terminated')
      AND status <> status_before"""

_SPARSE = f"""
    SELECT workflow_id, 'a version is missing',
           concat('version ', r.version, ', ', count(t), ' entries up to ', max(t.version))
    FROM read_model.workflow_runs r LEFT JOIN read_model.timeline t USING (workflow_id)
    WHERE r.{_PICKED} GROUP BY workflow_id, r.version
    HAVING count(t) <> r.version OR max(t.version) IS DISTINCT FROM r.version"""

_INTENT = f"""
    SELECT workflow_id, CASE WHEN i.intent_id IS NULL THEN 'no intent' ELSE 'another intent' END,
           concat(r.intent_id, ' ', r.amount_minor, ' ', r.currency)
    FROM read_model.workflow_runs r LEFT JOIN intake.intents i USING (workflow_id)
    WHERE r.{_PICKED} AND (i.intent_id, i.amount_minor, i.currency) IS DISTINCT FROM
                          (r.intent_id, r.amount_minor, r.currency)"""

_RECEIVED = " UNION ALL ".join(
    f"""
        SELECT message_id, outcome FROM {schema}.inbox JOIN done USING (message_id)
        WHERE consumer = '{service}'"""
    for service, schema in SCHEMA_OF.items()
)
_NOT_CARRIED_OUT = f"""
    WITH {_SETTLED}, done AS (
        SELECT workflow_id, s->>'name' AS step, (s->>'command_id')::uuid AS message_id
        FROM settled, json_array_elements(steps) s WHERE s->>'status' = 'done'),
    received AS ({_RECEIVED})
    SELECT workflow_id, CASE WHEN i.message_id IS NULL THEN 'not received' ELSE 'not answered' END,
           concat(step, ' ', message_id)
    FROM done LEFT JOIN received i USING (message_id) WHERE i.message_id IS NULL OR i.outcome IS NULL"""

_HOLDS = f"""
    WITH {_SETTLED}, wanted AS (
        SELECT workflow_id, l->>'sku' AS sku, sum((l->>'quantity')::bigint) AS quantity
        FROM settled, json_array_elements(lines) l
        WHERE status = 'completed' AND NOT {ships("settled")} GROUP BY 1, 2),
    held AS (
        SELECT workflow_id, l.sku, l.quantity
        FROM settled JOIN inventory.reservations v USING (workflow_id)
        JOIN inventory.reservation_lines l USING (workflow_id) WHERE v.state IN ('held', 'confirmed'))
    SELECT workflow_id, CASE WHEN w.quantity IS NULL THEN 'holds what it should not'
                             WHEN h.quantity IS NULL THEN 'holds nothing' ELSE 'holds another quantity' END,
           concat(sku, ': wants ', w.quantity, ', holds ', h.quantity)
    FROM wanted w FULL JOIN held h USING (workflow_id, sku)
    LEFT JOIN inventory.reservations v USING (workflow_id)
    WHERE w.quantity IS DISTINCT FROM h.quantity AND (v.changed_at IS NULL OR v.changed_at < {_PAST})"""

_CONSUMED = f"""
    WITH {_SETTLED}, runs AS (SELECT * FROM settled) {CONSUMED}"""

_CAPTURED = f"""
    WITH {_SETTLED}, runs AS (SELECT * FROM settled) {CAPTURED}"""

_LEDGER = """
    SELECT sku, 'another sum', concat('stock ', s.available, '/', s.reserved, '/', s.consumed,
                                      ', ledger ', l.available, '/', l.reserved, '/', l.consumed)
    FROM inventory.stock s FULL JOIN (
        SELECT sku, sum(available) available, sum(reserved) reserved, sum(consumed) consumed
        FROM inventory.ledger GROUP BY sku) l USING (sku)
    WHERE (s.available, s.reserved, s.consumed) IS DISTINCT FROM
          (l.available::bigint, l.reserved::bigint, l.consumed::bigint)"""

_RESERVED = """
    SELECT sku, 'another sum', concat('reserved ', s.reserved, ', held ', h.quantity)
    FROM inventory.stock s FULL JOIN (
        SELECT sku, sum(quantity) AS quantity
        FROM inventory.reservation_lines JOIN inventory.reservations USING (workflow_id)
        WHERE state IN ('held', 'confirmed') GROUP BY sku) h USING (sku)
    WHERE coalesce(s.reserved, 0) <> coalesce(h.quantity, 0)"""

_GONE = """
    SELECT sku, 'another sum', concat('consumed ', s.consumed, ', of runs ', g.quantity)
    FROM inventory.stock s FULL JOIN (
        SELECT sku, sum(consumed) AS quantity
        FROM inventory.reservation_lines JOIN inventory.reservations USING (workflow_id)
        WHERE state IN ('consumed', 'written_off') GROUP BY sku) g USING (sku)
    WHERE coalesce(s.consumed, 0) <> coalesce(g.quantity, 0)"""

_PAID = f"""
    WITH {_SETTLED}
    SELECT workflow_id, concat(status, ', payment ', coalesce(p.state, 'missing')),
           concat('asked ', p.requested_at, ', settled ', p.settled_at)
    FROM settled LEFT JOIN payments.payments p USING (workflow_id)
    WHERE (status = 'completed' AND (p.state IS NULL OR p.state NOT IN ('authorized', 'captured')
                                     OR p.state = 'authorized' AND {ships("settled")}
                                     OR p.refunded_minor > 0)
           OR status = 'cancelled' AND p.state NOT IN ('declined', 'voided', 'refunded'))
      AND coalesce(greatest(p.requested_at, p.settled_at), updated_at) < {_PAST}"""

_AMOUNT = f"""
    SELECT workflow_id, 'another amount', concat('asked for ', p.amount_minor, ' ', p.currency)
    FROM payments.payments p JOIN intake.intents i USING (workflow_id)
    WHERE p.{_PICKED} AND p.authorize_key IS NOT NULL
      AND (p.amount_minor, p.currency) IS DISTINCT FROM (i.amount_minor, i.currency)"""

_PACKING = f"""
    WITH {_SETTLED}
    SELECT workflow_id, concat(status, ', pack job ', concat_ws(' to ', j.state, j.goal)),
           concat('changed ', j.changed_at)
    FROM settled JOIN warehouse.pack_jobs j USING (workflow_id)
    WHERE (j.goal IS NOT NULL
           OR status = 'completed' AND j.state NOT IN ('packed', 'handed_over')
           OR status = 'cancelled' AND j.state = 'packed')
      AND j.changed_at < {_PAST}"""

_PACKED = f"""
    WITH ordered AS (
        SELECT workflow_id, l->>'sku' AS sku, sum((l->>'quantity')::bigint) AS quantity
        FROM read_model.workflow_runs, json_array_elements(lines) l WHERE {_PICKED} GROUP BY 1, 2),
    packed AS (
        SELECT workflow_id, sku, sum(picked) AS quantity FROM warehouse.pack_lines
        WHERE {_PICKED} GROUP BY 1, 2)
    SELECT workflow_id, 'more than was ordered',
           concat(sku, ': ordered ', o.quantity, ', packed ', p.quantity)
    FROM packed p LEFT JOIN ordered o USING (workflow_id, sku)
    WHERE p.quantity > coalesce(o.quantity, 0)"""

_NOT_RELAYED = " UNION ALL ".join(
    f"""
    SELECT '{schema}', 'not relayed', concat('row ', id, ' for ', topic, ' since ', created_at)
    FROM (SELECT * FROM {schema}.outbox WHERE shard = 0 ORDER BY id LIMIT %(limit)s) first_rows
    WHERE created_at < {_PAST}"""
    for schema in SERVICE_SCHEMAS
)

_PARKED = """
    SELECT id::text, concat(service, ': ', type, ', ', error_class), error
    FROM (SELECT * FROM ops.parked_messages WHERE status IN ('parked', 'replaying')
          ORDER BY parked_at DESC LIMIT %(limit)s) parked UNION ALL """ + " UNION ALL ".join(
    f"""
    SELECT event_id::text, 'outbox of {schema}', error
    FROM (SELECT * FROM {schema}.outbox_parked ORDER BY shard, id LIMIT %(limit)s) parked_rows"""
    for schema in SERVICE_SCHEMAS
)

QUESTIONS: tuple[Question, ...] = (
    Question("every accepted intent is started", 1, Over.INTENTS, _NOT_STARTED),
    Question("every unfinished run is moved on", 1, Over.WAITING, _NOT_MOVED),
    Question("no run needs attention", 1, Over.WAITING, _NEEDS_ATTENTION, State.ATTENTION),
    Question("a final status never changes", 1, Over.RUNS, _REOPENED),
    Question("every run has its intent", 2, Over.RUNS, _INTENT),
    Question("what is done was received and answered", 2, Over.RUNS, _NOT_CARRIED_OUT),
    Question("a completed run holds its lines, a cancelled one none", 3, Over.RUNS, _HOLDS),
    Question("goods left for completed runs, and for no others", 3, Over.RUNS, _CONSUMED),
    Question("stock equals its ledger", 3, Over.STOCK, _LEDGER),
    Question("what is reserved is what runs hold", 3, Over.STOCK, _RESERVED),
    Question("what is consumed is what left for runs", 3, Over.STOCK, _GONE),
    Question("payments ended as their runs did", 4, Over.RUNS, _PAID),
    Question("payments are of the intent's amount", 4, Over.RUNS, _AMOUNT),
    Question("what was captured is the price of what left", 4, Over.RUNS, _CAPTURED),
    Question("no finished run has a pack job under way", 3, Over.RUNS, _PACKING),
    Question("no more is packed than was ordered", 3, Over.RUNS, _PACKED),
    Question("outboxes are relayed", 5, Over.OUTBOXES, _NOT_RELAYED),
    Question("no message is parked", 5, Over.PARKED, _PARKED, State.ATTENTION),
    Question("versions are dense", 6, Over.RUNS, _SPARSE),
)

# --- which subjects are looked at -----------------------------------------------------------------

#: Each index on the time of a run has its status in front.
_STATUSES = ", ".join(f"'{status}'" for status in Status)
#: Intents that the reconciler has not confirmed, the latest runs that are no longer in flight, and some of
#: both of any age: those behind a point drawn anew each time.
PICKS: dict[Over, str] = {
    Over.INTENTS: f"""
        (SELECT workflow_id::text FROM intake.intents WHERE check_at IS NOT NULL AND accepted_at < {_PAST}
         ORDER BY check_at LIMIT %(half)s) UNION
        (SELECT workflow_id::text FROM intake.intents WHERE workflow_id >= %(point)s::uuid
         ORDER BY workflow_id LIMIT %(half)s)""",
    Over.RUNS: f"""
        (SELECT workflow_id::text FROM unnest(ARRAY[{_STATUSES}]) AS each (name), LATERAL (
            SELECT workflow_id, started_at FROM read_model.workflow_runs
            WHERE status = each.name AND started_at < {_PAST}
            ORDER BY started_at DESC, workflow_id DESC LIMIT %(half)s) AS latest
         ORDER BY started_at DESC, workflow_id DESC LIMIT %(half)s) UNION
        (SELECT workflow_id::text FROM read_model.workflow_runs WHERE workflow_id >= %(point)s::uuid
         ORDER BY workflow_id LIMIT %(half)s)""",
    Over.WAITING: " UNION ALL ".join(
        f"""(SELECT workflow_id::text FROM read_model.workflow_runs WHERE status = '{status}'
         ORDER BY started_at, workflow_id LIMIT %(half)s)"""
        for status in ("running", "compensating", "needs_attention", "paused")
    ),
}

#: Tables that are looked into, where no subjects are picked.
LOOKED_AT: dict[Over, int] = {Over.OUTBOXES: len(SERVICE_SCHEMAS), Over.PARKED: len(SERVICE_SCHEMAS) + 1}

#: How many rows would have to be added up, as the planner estimates.
TO_ADD_UP = """
    SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class
    WHERE oid IN ('inventory.ledger'::regclass, 'inventory.reservation_lines'::regclass)"""
SKUS = "SELECT count(*) FROM inventory.stock"
