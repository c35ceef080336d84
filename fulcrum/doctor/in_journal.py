"""Is every event decided on, every decision what the rules say, and the read model what the journal tells?

The whole of Kafka is read, one partition at a time: the events and decisions of a workflow share theirs. Each
run is decided anew from its events by the pure core, so that whatever the orchestrator forgot, mixed up or
did twice shows as a difference.

Long, because all checks share one reading of Kafka.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from fulcrum.agents.journal import record
from fulcrum.doctor.in_postgres import rows
from fulcrum.doctor.violation import Env, Violation
from fulcrum.errors import FulcrumError
from fulcrum.readmodel.projection import FINAL, project, timestamp
from fulcrum.saga.decide import Decision, decide
from fulcrum.saga.messages import EVENT_STREAMS, DecisionMade, Event, TimerFired
from fulcrum.saga.run import WorkflowRun
from fulcrum.wire.codec import Codec
from fulcrum.wire.topics import Topics

_KAFKA_WITHIN = 30.0
_CHUNK = 2000

Place = tuple[str, int, int]
#: An event's id and sequence. A timer may fire again under the same id, but with a later number.
Told = tuple[str, int]
Read = Callable[[bytes], Any]


@dataclass
class Partition:
    """What one partition of all topics tells. ``decisions`` are by workflow, in order, repeats included."""

    events: dict[Told, tuple[Event, Place]] = field(default_factory=dict)
    decisions: dict[str, list[DecisionMade]] = field(default_factory=lambda: defaultdict(list))
    unreadable: list[Place] = field(default_factory=list)


def violations(env: Env, codec: Codec) -> list[Violation]:
    """Everything that is wrong in Kafka, and between Kafka and Postgres."""
    topics = Topics(env["FULCRUM_NAMESPACE"])
    streams = [topics.stream(stream) for stream in (*EVENT_STREAMS, "decisions")]
    consumer = Consumer(
        {
            "bootstrap.servers": env["FULCRUM_KAFKA_BOOTSTRAP"],
            "group.id": "invariants",
            "enable.auto.commit": False,
            # Each partition is assigned anew, and a fetch that waits for more would be waited for first.
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        count = len(consumer.list_topics(streams[0], timeout=_KAFKA_WITHIN).topics[streams[0]].partitions)
        letters = [
            message for n in range(count) for message in scan(consumer, [topics.dlq(s) for s in streams], n)
        ]
        dead = {_origin(letter) for letter in letters}
        found = [
            Violation(
                "nothing is dead-lettered", _shown(_place(letter)), _header(letter, "fulcrum-dlq-error")
            )
            for letter in letters
        ]
        issued: dict[str, str] = {}
        workflows: set[str] = set()
        for number in range(count):
            told = read(scan(consumer, streams, number), codec)
            found += unaccounted(told, dead)
            for decisions in told.decisions.values():
                wrong, first = fold(decisions, told.events, codec.decode)
                found += wrong
                issued.update((c.command_id, f"{d.workflow_id} {c.type}") for d in first for c in d.commands)
                told.decisions[first[0].workflow_id] = first
            found += _read_model(env, told.decisions)
            workflows |= told.decisions.keys()
    finally:
        consumer.close()
    return found + _commands(env, issued) + _unheard_of(env, workflows)


# --- Kafka --------------------------------------------------------------------------------------------


def scan(consumer: Consumer, topics: Iterable[str], number: int) -> Iterator[Message]:
    """Every record of partition ``number`` of ``topics`` up to now; in order within a topic."""
    left: dict[str, int] = {}
    for topic in topics:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), _KAFKA_WITHIN)
        if high > low:
            left[topic] = high
    consumer.assign([TopicPartition(topic, number, 0) for topic in left])
    while left:
        message = consumer.poll(_KAFKA_WITHIN)
        if message is None or message.error():
            raise TimeoutError(f"nothing more comes from {left}: {message and message.error()}")
        topic, _, offset = _place(message)
        yield message
        if offset + 1 >= left.get(topic, offset + 2):
            del left[topic]


def _place(message: Message) -> Place:
    return str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)


def _header(message: Message, name: str) -> str:
    value = dict(message.headers() or []).get(name) or b""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _origin(letter: Message) -> Place:
    """Where the record lay of which this is the copy in the dead-letter topic."""
    topic, partition, offset = (_header(letter, f"fulcrum-dlq-{n}") for n in ("topic", "partition", "offset"))
    return topic, int(partition or -1), int(offset or -1)


def _shown(place: Place) -> str:
    return "{}/{}@{}".format(*place)


def read(messages: Iterable[Message], codec: Codec) -> Partition:
    """The messages sorted; an event that was written twice counts where it lay first."""
    told = Partition()
    for message in messages:
        place = _place(message)
        try:
            content = codec.decode(message.value() or b"")
        except FulcrumError:
            told.unreadable.append(place)
            continue
        if isinstance(content, DecisionMade):
            told.decisions[content.workflow_id].append(content)
        elif isinstance(content, Event):
            told.events.setdefault((content.event_id, content.sequence), (content, place))
    return told


# --- pure ---------------------------------------------------------------------------------------------


def unaccounted(told: Partition, dead: set[Place]) -> list[Violation]:
    """What was neither decided on nor put aside."""
    decided = {decision.cause.event_id for each in told.decisions.values() for decision in each}
    left = [
        (event, at)
        for event, at in told.events.values()
        if event.event_id not in decided and at not in dead and not _needless(event, told.decisions)
    ]
    return [
        Violation(
            "every event is decided on or put aside", event.event_id, f"{type(event).__name__} {_shown(at)}"
        )
        for event, at in left
    ] + [
        Violation("every unreadable record is put aside", _shown(place), "it is not")
        for place in told.unreadable
        if place not in dead
    ]


def _needless(event: Event, decisions: Mapping[str, Sequence[DecisionMade]]) -> bool:
    """Whether ``event`` is a timer that nobody needed to decide on.

    It fired before the run had seen another one, whose number it shares: what was still due fired again. Or
    the run is finished, so that the timer ended or met its retention.
    """
    if not isinstance(event, TimerFired):
        return False
    made = decisions.get(event.workflow_id, ())
    taken = {each.cause.sequence for each in made if each.cause.stream == TimerFired.stream}
    return event.sequence in taken or bool(made and made[-1].status in FINAL)


def fold(
    decisions: Sequence[DecisionMade], events: Mapping[Told, tuple[Event, Place]], decode: Read
) -> tuple[list[Violation], list[DecisionMade]]:
    """What is wrong with one workflow's journal, and its decisions without the repeats.

    They are dense and in order, a repeat says the same again, a final status stays, and each decision is the
    one that the rules make of its event and of the state that the decisions before it led to.
    """
    found: list[Violation] = []
    first: list[DecisionMade] = []
    run: WorkflowRun | None = None

    def wrong(check: str, detail: str) -> None:
        found.append(Violation(check, decisions[0].workflow_id, detail))

    for made in decisions:
        if made.version <= len(first):
            if made != first[made.version - 1]:
                wrong("a repeated decision says the same", f"version {made.version} differs")
            continue
        if made.version != len(first) + 1:
            wrong("the journal is dense and in order", f"version {made.version} after {len(first)}")
            return found, first or [made]
        if first and first[-1].status in FINAL and made.status != first[-1].status:
            wrong("a final status never changes", f"{first[-1].status} to {made.status}")
        if not found:
            run, detail = _again(run, made, events, decode)
            if detail:
                wrong("every decision is what the rules say", f"version {made.version}: {detail}")
        first.append(made)
    return found, first


def _again(
    run: WorkflowRun | None, made: DecisionMade, events: Mapping[Told, tuple[Event, Place]], decode: Read
) -> tuple[WorkflowRun | None, str]:
    """Decide once more; the state after it, and how the result differs from ``made`` (nothing when it does
    not)."""
    event, _ = events.get((made.cause.event_id, made.cause.sequence), (None, None))
    if event is None:
        return run, f"its event {made.cause.event_id} is not in Kafka"
    outcome = decide(run, event)
    if not isinstance(outcome, Decision):
        return run, f"the rules say {type(outcome).__name__} to {type(event).__name__}"
    cause = made.cause
    came = {name: getattr(cause, name) for name in ("topic", "partition", "offset", "traceparent")}
    expected = record(outcome, event, lambda _: b"", **came)
    if cause.verb is None:  # a cancellation decided on before the journal said what was asked and why
        expected = replace(expected, cause=replace(expected.cause, verb=None, reason=None))
    if made.finished_at is None:  # the journal did not always say when a run ended
        expected = replace(expected, finished_at=None)
    # Bodies are compared decoded: an old decision was encoded under the schema of its time.
    bare = replace(made, commands=tuple(replace(command, body=b"") for command in made.commands))
    if bare != expected or tuple(decode(command.body) for command in made.commands) != outcome.commands:
        other = [f.name for f in fields(made) if getattr(bare, f.name) != getattr(expected, f.name)]
        return outcome.run, (
            f"{type(event).__name__} leads to {expected.status}, journal {made.status}; "
            f"different: {', '.join(other) or 'the bodies of commands'}"
        )
    return outcome.run, ""


# --- between Kafka and Postgres -----------------------------------------------------------------------


def _read_model(env: Env, decisions: Mapping[str, Sequence[DecisionMade]]) -> list[Violation]:
    """Runs and timelines in Postgres are, field by field, what the journal projects to."""
    found = []
    ids = sorted(decisions)
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        asked = "FROM read_model.{} WHERE workflow_id = ANY(%s::uuid[])"
        runs = {row["workflow_id"]: row for row in _plain(env, asked.format("workflow_runs"), chunk)}
        entries: dict[str, dict[int, Any]] = defaultdict(dict)
        for row in _plain(env, asked.format("timeline"), chunk):
            entries[row.pop("workflow_id")][row["version"]] = row
        for workflow in chunk:
            made = decisions[workflow]
            if runs.get(workflow) != project(made[-1]).run:
                seen = runs.get(workflow, {"version": 0, "status": "missing"})
                detail = "journal {} {}, read model {} {}".format(
                    made[-1].version, made[-1].status, seen["version"], seen["status"]
                )
                found.append(Violation("the read model is the journal's last", workflow, detail))
            if entries[workflow] != {d.version: project(d).entry for d in made}:
                detail = (
                    f"journal {len(made)} entries, read model {len(entries[workflow])}, or other contents"
                )
                found.append(Violation("the timeline is the journal", workflow, detail))
    return found


def _plain(env: Env, query: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Rows with ids and times as the text that a projection writes."""
    found = rows(env, f"SELECT *, workflow_id::text {query}", [list(ids)])
    return [
        {name: timestamp(value) if isinstance(value, datetime) else value for name, value in row.items()}
        for row in found
    ]


def _unheard_of(env: Env, workflows: set[str]) -> list[Violation]:
    shown = {
        row["workflow_id"] for row in rows(env, "SELECT workflow_id::text FROM read_model.workflow_runs")
    }
    return [
        Violation("every run shown is in the journal", workflow, "the journal does not know it")
        for workflow in sorted(shown - workflows)
    ]


def _commands(env: Env, issued: Mapping[str, str]) -> list[Violation]:
    """Every command that was decided took effect, and none that was not."""
    query = """
        SELECT message_id::text FROM payments.inbox UNION ALL
        SELECT message_id::text FROM inventory.inbox UNION ALL
        SELECT message_id::text FROM warehouse.inbox UNION ALL
        SELECT message_id::text FROM courier.inbox"""
    taken = {row["message_id"] for row in rows(env, query)}
    receipts = {row["id"] for row in rows(env, "SELECT command_id::text AS id FROM intake.receipts")}
    return [
        Violation("every command that was decided took effect", command, what)
        for command, what in issued.items()
        if command not in taken
    ] + [
        Violation("no command took effect that nobody gave", command, "neither decided nor a receipt")
        for command in sorted(taken - issued.keys() - receipts)
    ]
