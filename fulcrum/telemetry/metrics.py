"""What is counted? Every metric of every role, declared here and nowhere else.

Labels hold only closed sets (services, message types, topics, routes, statuses): never an id.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

#: Seconds; from a cached read to a command that waited for the payment provider.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# --- HTTP -----------------------------------------------------------------------------------------

http_requests = Counter(
    "fulcrum_http_requests",
    "HTTP requests answered; route is the pattern, not the path.",
    ("method", "route", "status"),
)
http_seconds = Histogram(
    "fulcrum_http_seconds", "Seconds from a request to its answer.", ("method", "route"), buckets=_SECONDS
)
intents_accepted = Counter(
    "fulcrum_intents_accepted", "Intents stored, repeats not counted.", ("definition",)
)

intents_reconciled = Counter(
    "fulcrum_intents_reconciled", "Intents whose events were sent again because no workflow had started."
)

# --- commands -------------------------------------------------------------------------------------

commands_published = Counter(
    "fulcrum_commands_published", "Commands that RabbitMQ confirmed.", ("service", "type")
)
commands_handled = Counter(
    "fulcrum_commands_handled", "Commands that took effect, duplicates included.", ("service", "type")
)
commands_duplicate = Counter(
    "fulcrum_commands_duplicate", "Commands answered from their stored outcome.", ("service", "type")
)
commands_retried = Counter("fulcrum_commands_retried", "Commands sent to a retry queue.", ("service", "type"))
commands_parked = Counter("fulcrum_commands_parked", "Commands given up and parked.", ("service", "type"))
command_seconds = Histogram(
    "fulcrum_command_seconds",
    "Seconds from taking a command to its commit.",
    ("service", "type"),
    buckets=_SECONDS,
)
consumer_errors = Counter(
    "fulcrum_consumer_errors", "Errors of a command consumer, by class.", ("service", "error")
)
attempts_failed = Counter(
    "fulcrum_attempts_failed",
    "Attempts of commands that failed, by kind: transient, permanent, poison, bug.",
    ("service", "type", "kind"),
)
attempts_waiting = Gauge(
    "fulcrum_attempts_waiting", "Attempts that are not in Postgres yet, while it is away.", ("service",)
)
attempts_dropped = Counter(
    "fulcrum_attempts_dropped", "Attempts that are not in ops.attempts and never will be.", ("service",)
)
broker_blocked = Gauge(
    "fulcrum_broker_blocked",
    "1 while RabbitMQ takes no messages from this process (memory or disk alarm).",
    ("purpose",),
)
consumer_resets = Counter(
    "fulcrum_consumer_resets", "Times a consumer was opened anew, by cause.", ("queue", "cause")
)
reservations_expired = Counter(
    "fulcrum_reservations_expired", "Reservations that lapsed, and whose stock was given back."
)
operation_items = Counter(
    "fulcrum_operations_items",
    "Messages and workflows of operations by what became of them: succeeded, failed or skipped.",
    ("kind", "outcome"),
)
messages_parked = Gauge("fulcrum_messages_parked", "Messages that wait for an operator.", ("service",))
commands_open = Gauge(
    "fulcrum_commands_open",
    "Commands that were decided and are neither handled nor parked; every projector says the same.",
    ("service",),
)
commands_unaccounted = Gauge(
    "fulcrum_commands_unaccounted",
    "Commands that were published and are neither handled nor parked nor queued. Must be 0.",
    ("service",),
)
commands_settled = Counter(
    "fulcrum_commands_settled",
    "Commands taken out of the accounts, because their service answered or a person gave them up.",
)
accounts_seen = Gauge(
    "fulcrum_accounts_seen_timestamp_seconds", "When the accounts of commands were last looked at in whole."
)

workflows_stuck = Gauge(
    "fulcrum_workflows_stuck",
    "Workflows that do not move by themselves, by rule; paused ones not counted. Every intake says the same.",
    ("rule",),
)
workflows_stuck_seen = Gauge(
    "fulcrum_workflows_stuck_seen_timestamp_seconds", "When this process last looked for stuck workflows."
)

# --- the payment provider -------------------------------------------------------------------------

psp_calls = Counter(
    "fulcrum_psp_calls",
    "Calls of the payment provider, by outcome: done, refused, unknown, unavailable, rejected, left_alone.",
    ("call", "outcome"),
)
psp_seconds = Histogram(
    "fulcrum_psp_seconds",
    "Seconds from a call of the payment provider to its answer or its timeout.",
    ("call",),
    buckets=_SECONDS,
)
psp_calls_in_progress = Gauge("fulcrum_psp_calls_in_progress", "Calls of the payment provider under way.")
psp_breaker_open = Gauge(
    "fulcrum_psp_breaker_open", "1 while the payment provider is left alone, 0.5 while one call tries it."
)
payments_swept = Counter(
    "fulcrum_payments_swept",
    "Payment commands without a recorded outcome that the sweeper took up: finished, put_off, given_up.",
    ("type", "outcome"),
)

# --- the warehouse floor --------------------------------------------------------------------------

warehouse_calls = Counter(
    "fulcrum_warehouse_calls",
    "Calls of the warehouse floor, by outcome: done, unknown, unavailable, rejected, left_alone.",
    ("call", "outcome"),
)
warehouse_seconds = Histogram(
    "fulcrum_warehouse_seconds",
    "Seconds from a call of the warehouse floor to its answer or its timeout.",
    ("call",),
    buckets=_SECONDS,
)
warehouse_calls_in_progress = Gauge(
    "fulcrum_warehouse_calls_in_progress", "Calls of the warehouse floor under way."
)
warehouse_breaker_open = Gauge(
    "fulcrum_warehouse_breaker_open",
    "1 while the warehouse floor is left alone, 0.5 while one call tries it.",
)
pack_jobs_put_off = Counter(
    "fulcrum_pack_jobs_put_off", "Pack jobs that are taken up again later, because a step failed.", ("ask",)
)

# --- the courier ----------------------------------------------------------------------------------

courier_calls = Counter(
    "fulcrum_courier_calls",
    "Calls of the courier, by outcome: done, refused, unknown, unavailable, rejected, left_alone.",
    ("call", "outcome"),
)
courier_seconds = Histogram(
    "fulcrum_courier_seconds",
    "Seconds from a call of the courier to its answer or its timeout.",
    ("call",),
    buckets=_SECONDS,
)
courier_calls_in_progress = Gauge("fulcrum_courier_calls_in_progress", "Calls of the courier under way.")
courier_breaker_open = Gauge(
    "fulcrum_courier_breaker_open", "1 while the courier is left alone, 0.5 while one call tries it."
)
courier_swept = Counter(
    "fulcrum_courier_swept",
    "Courier commands without a recorded outcome that the sweeper took up: finished, put_off, given_up.",
    ("type", "outcome"),
)
courier_polls = Counter(
    "fulcrum_courier_polls",
    "Shipments that the courier was asked about because nothing was heard: news, nothing_new, failed.",
    ("outcome",),
)
courier_updates = Counter(
    "fulcrum_courier_updates",
    "Updates of the courier by how they came (webhook, poll) and whether they were new or seen_before.",
    ("came_by", "outcome"),
)
courier_webhooks = Counter(
    "fulcrum_courier_webhooks",
    "Requests to the courier's webhook, by outcome: kept, seen_before, or the code of the refusal.",
    ("outcome",),
)

# --- outbox ---------------------------------------------------------------------------------------

outbox_sent = Counter("fulcrum_outbox_sent", "Outbox rows that Kafka acknowledged.", ("service",))
outbox_lag_seconds = Gauge(
    "fulcrum_outbox_lag_seconds", "Age of the oldest outbox row at the last read, 0 when empty.", ("service",)
)
outbox_leader = Gauge("fulcrum_outbox_leader", "1 while this process holds the relay's lease.", ("service",))
relay_errors = Counter("fulcrum_relay_errors", "Errors of an outbox relay, by class.", ("service", "error"))
kafka_producer_rebuilds = Counter(
    "fulcrum_kafka_producer_rebuilds", "Producers given up after a deadline or a fatal error."
)

# --- agents ---------------------------------------------------------------------------------------

decisions = Counter(
    "fulcrum_decisions", "Events decided upon, by kind: made, ignored, duplicate.", ("status", "kind")
)
events_dead_lettered = Counter(
    "fulcrum_events_dead_lettered", "Events copied to a dead-letter topic.", ("topic", "consumer")
)
stream_gaps = Counter(
    "fulcrum_stream_gaps", "Times a partition was sought back because events were dropped.", ("topic",)
)
timer_lateness = Histogram(
    "fulcrum_timer_lateness_seconds",
    "From the time that stands in a run's state to the event that says it has come.",
    ("timer",),
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)

# --- read model -----------------------------------------------------------------------------------

decisions_projected = Counter("fulcrum_decisions_projected", "Decisions written to the read model.")
projection_lag_seconds = Gauge(
    "fulcrum_projection_lag_seconds", "Age of the newest decision when the read model had it."
)
cache_errors = Counter("fulcrum_cache_errors", "Redis calls that failed; the database answered instead.")
