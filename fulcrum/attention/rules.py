"""When does a workflow not move by itself? Each rule is a row: what it asks, and what to type. Pure.

A paused workflow is where a person wants it: it matches ``paused`` and nothing else, which raises no alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from fulcrum.attention.situation import Limits, Open, Situation
from fulcrum.readmodel.awaited import Awaited
from fulcrum.readmodel.why import moment
from fulcrum.saga.run import Status
from fulcrum.store.relations import SCHEMA_OF

#: Which process empties an outbox.
_RELAYS = {"intake": "intake", **{schema: service for service, schema in SCHEMA_OF.items()}}


@dataclass(frozen=True, slots=True)
class Finding:
    """That a rule matches: since when, what was seen, and the command to type."""

    since: datetime
    detail: str
    suggestion: str


Look = Callable[[Situation, Limits], Finding | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. ``about`` says when it matches; its page is ``docs/runbooks/<name>.md``."""

    name: str
    about: str
    look: Look
    alarms: bool = True


@dataclass(frozen=True, slots=True)
class Match:
    """A workflow that matches a rule."""

    rule: str
    finding: Finding


def matches(situation: Situation, limits: Limits) -> Iterator[Match]:
    """Every rule that ``situation`` matches, in the order of the rules."""
    for rule in RULES:
        if (situation.status == Status.PAUSED) == rule.alarms:
            continue
        if (finding := rule.look(situation, limits)) is not None:
            yield Match(rule.name, finding)


# --- rules --------------------------------------------------------------------------------------------


def _past_deadline(it: Situation, limits: Limits) -> Finding | None:
    """Its timer should have fired, or none runs although something is awaited."""
    if it.status not in (Status.RUNNING, Status.COMPENSATING) or _scheduled(it):
        return None
    due = moment(it.awaited.state["deadline_at"]) if it.awaited is not None else None
    since = due or it.updated_at
    if it.now - since <= limits.deadline:
        return None
    what = f"the answer was due {_seconds(it, since)} ago" if due else "no deadline runs"
    return Finding(since, f"{what}; {it.why.sentence}", _retry(it, it.awaited))


def _unacknowledged(it: Situation, limits: Limits) -> Finding | None:
    """It lies on a queue that nobody reads, or for longer than its step may take."""
    for command in sorted(it.open, key=lambda each: each.since):
        waited = it.now - command.since
        if command.consumers == 0 and waited > limits.queue:
            what = f"nobody takes commands of {command.service}"
            return Finding(command.since, _lying(it, command, what), f"fulcrum run {command.service}")
        if command.deadline is not None and waited > command.deadline:
            what = f"its step may take {command.deadline.total_seconds():g} s"
            return Finding(command.since, _lying(it, command, what), "fulcrum queue list")
    return None


def _unanswered(it: Situation, limits: Limits) -> Finding | None:
    """The service has done it, and its event has not come."""
    if it.answered_at is None or it.awaited is None or it.unsent or it.now - it.answered_at <= limits.answer:
        return None
    what = f"the service finished it {_seconds(it, it.answered_at)} ago and its event did not arrive"
    return Finding(it.answered_at, f"{what}; {it.why.sentence}", _retry(it, it.awaited))


def _outbox_unsent(it: Situation, limits: Limits) -> Finding | None:
    """An event of it does not leave its service."""
    for unsent in sorted(it.unsent, key=lambda each: (each.error is None, each.since)):
        if unsent.error is not None:
            detail = f"Kafka refused an event of {unsent.outbox}: {unsent.error}"
            return Finding(unsent.since, detail, "fulcrum parked keys")
        if it.now - unsent.since > limits.outbox:
            detail = f"an event waits in the outbox of {unsent.outbox} for {_seconds(it, unsent.since)}"
            return Finding(unsent.since, detail, f"fulcrum run {_RELAYS.get(unsent.outbox, unsent.outbox)}")
    return None


def _parked_message(it: Situation, limits: Limits) -> Finding | None:
    """A message of it waits for a person."""
    if not it.parked:
        return None
    first = min(it.parked, key=lambda each: each.since)
    more = f" and {len(it.parked) - 1} more" if len(it.parked) > 1 else ""
    detail = f"{first.type} of {first.service} is parked{more}: {first.error}"
    return Finding(first.since, detail, f'fulcrum parked replay {first.id} --reason "..."')


def _partition_stalled(it: Situation, limits: Limits) -> Finding | None:
    """Nobody reads on where its records are."""
    for stall in sorted(it.stalls, key=lambda each: each.since):
        if it.now - stall.since > limits.lag:
            still = f"{stall.group} has not moved for {_seconds(it, stall.since)}"
            detail = f"{still}: {stall.lag} records wait in {stall.topic}/{stall.partition}"
            return Finding(stall.since, detail, "fulcrum lag --partitions")
    return None


def _compensation_failed(it: Situation, limits: Limits) -> Finding | None:
    """What it did still stands, and nobody undoes it any more."""
    if it.status != Status.NEEDS_ATTENTION:
        return None
    return Finding(it.why.since or it.updated_at, it.why.sentence, _retry(it, it.awaited))


def _paused(it: Situation, limits: Limits) -> Finding | None:
    if it.status != Status.PAUSED:
        return None
    since = it.why.since or it.updated_at
    return Finding(since, it.why.sentence, f'fulcrum wf resume {it.workflow_id} --reason "..."')


# --- what rules say -----------------------------------------------------------------------------------


def _scheduled(it: Situation) -> bool:
    """Whether something comes by itself: another attempt, or a person's hand on a parked message."""
    return bool(it.parked) or (it.retry_due is not None and it.retry_due > it.now)


def _lying(it: Situation, command: Open, what: str) -> str:
    lies = f"{command.type} was published {_seconds(it, command.since)} ago and is not acknowledged"
    return f"{lies}: {what}; {it.why.sentence}"


def _seconds(it: Situation, since: datetime) -> str:
    return f"{(it.now - since).total_seconds():.0f} s"


def _retry(it: Situation, awaited: Awaited | None) -> str:
    if awaited is None:
        return f"fulcrum wf why {it.workflow_id}"
    return f'fulcrum wf retry {it.workflow_id} --step {awaited.row.name} --reason "..."'


RULES: tuple[Rule, ...] = (
    Rule("past_deadline", "The awaited answer is overdue, and nothing is scheduled.", _past_deadline),
    Rule("unacknowledged", "A command was published, and no worker has answered it.", _unacknowledged),
    Rule("unanswered", "A service has carried a command out, and its event has not come.", _unanswered),
    Rule("outbox_unsent", "An event does not leave the outbox of its service.", _outbox_unsent),
    Rule("parked_message", "A parked message holds the workflow up.", _parked_message),
    Rule("partition_stalled", "Nobody reads on in the workflow's partition.", _partition_stalled),
    Rule("compensation_failed", "An undo was given up; its effect stands.", _compensation_failed),
    Rule("paused", "An operator has paused the workflow.", _paused, alarms=False),
)
NAMES: tuple[str, ...] = tuple(rule.name for rule in RULES)
