"""When does a rule match? Each one matches, does not before its threshold, and clears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from waits import COMMAND, NOON, WORKFLOW, attempt, parked, run, step

from fulcrum.attention.assembling import awaited_command, situation
from fulcrum.attention.reading import Details
from fulcrum.attention.rules import NAMES, RULES, matches
from fulcrum.attention.situation import Limits, Situation, Stall, Unsent
from fulcrum.attention.stalls import Stalls
from fulcrum.saga import identity
from fulcrum.saga.run import Status

LIMITS = Limits(*(timedelta(seconds=seconds) for seconds in (10, 10, 30, 30, 30)))
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def ago(seconds: float) -> datetime:
    """So many seconds before now, which is noon."""
    return NOON - timedelta(seconds=seconds)


def at_noon(shown: dict[str, Any], **given: Any) -> Situation:
    """The situation of a workflow: rows by relation, and what is not in Postgres."""
    row = {**shown, "updated_at": given.pop("updated_at", ago(3)), "started_at": ago(100)}
    row["finished_at"] = None
    tables = {
        name: {WORKFLOW: given.pop(name)} if name in given else {}
        for name in ("commands", "attempts", "parked")
    }
    return situation(row, NOON, Details(**tables, answered=given.pop("answered", {})), **given)


def rules_of(shown: dict[str, Any], **given: Any) -> list[str]:
    """The names of the rules that a workflow matches."""
    return [match.rule for match in matches(at_noon(shown, **given), LIMITS)]


def overdue(seconds: float) -> dict[str, Any]:
    """A workflow whose answer was due so many seconds ago."""
    return run("running", step(deadline_at=ago(seconds).isoformat()))


def published(seconds: float, **changes: Any) -> dict[str, Any]:
    """The payment's command, which left so many seconds ago."""
    return {
        "command_id": COMMAND,
        "service": "payment",
        "type": "AuthorizePayment",
        "workflow_id": WORKFLOW,
        "decided_at": ago(seconds + 1),
        "published_at": ago(seconds),
        **changes,
    }


def tried(seconds: float, due: float | None) -> dict[str, Any]:
    """An attempt that failed so many seconds ago; ``due`` seconds from now comes the next."""
    next_due = None if due is None else NOON + timedelta(seconds=due)
    return attempt(started_at=ago(seconds), next_due=next_due)


def waiting(seconds: float) -> dict[str, Any]:
    """A parked message."""
    return parked(parked_at=ago(seconds))


#: A case that matches, and the same case just before its threshold, by rule.
CASES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "past_deadline": ({"shown": overdue(11)}, {"shown": overdue(9)}),
    "unacknowledged": (
        {"commands": [published(11)], "consumers": {"payment": 0}},
        {"commands": [published(9)], "consumers": {"payment": 0}},
    ),
    "unanswered": ({"answered": {COMMAND: ago(31)}}, {"answered": {COMMAND: ago(29)}}),
    "outbox_unsent": (
        {"unsent": (Unsent("payments", ago(31)),)},
        {"unsent": (Unsent("payments", ago(29)),)},
    ),
    "parked_message": ({"parked": [waiting(1)]}, {"parked": []}),
    "partition_stalled": (
        {"stalls": (Stall("fulcrum-orchestrator", "fulcrum.payments", 3, 5, ago(31)),)},
        {"stalls": (Stall("fulcrum-orchestrator", "fulcrum.payments", 3, 5, ago(29)),)},
    ),
    "compensation_failed": (
        {"shown": run("needs_attention", step(status="undo_requested", late=10, deadline_at=None))},
        {"shown": run("compensating", step(status="undo_requested", late=9))},
    ),
    "paused": ({"shown": run("paused")}, {"shown": run("running")}),
}


@pytest.mark.parametrize("rule", NAMES)
def test_rule_matches_beyond_its_threshold_alone(rule: str) -> None:
    """One rule speaks up, not before its time, and not any more once the cause is gone."""
    beyond, before = CASES[rule]
    assert rules_of(**{"shown": run(), **beyond}) == [rule]
    assert rules_of(**{"shown": run(), **before}) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_finding_says_since_when_what_and_what_to_type(rule: Any) -> None:
    """The time is that of the cause, and the command is one of ours, about this workflow or its part."""
    beyond, _ = CASES[rule.name]
    found = next(matches(at_noon(**{"shown": run(), **beyond}), LIMITS)).finding
    assert found.since < NOON
    assert found.detail
    assert found.suggestion.startswith("fulcrum ")


@pytest.mark.parametrize("rule", NAMES)
def test_rule_has_a_runbook(rule: str) -> None:
    """The page of a rule says what it means, how to see it, what to do, and when to call others."""
    text = (RUNBOOKS / f"{rule}.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## What it means", "## How to see it", "## What to do", "## When to escalate"]
    assert "fulcrum " in text


def test_every_runbook_belongs_to_a_rule() -> None:
    """No page outlives its rule."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == set(NAMES)


def test_a_workflow_can_match_several() -> None:
    """A dead worker behind a deadline that has passed: both are said, in the order of the rules."""
    given = {"commands": [published(90)], "consumers": {"payment": 0}}
    assert rules_of(overdue(30), **given) == ["past_deadline", "unacknowledged"]


@pytest.mark.parametrize("status", [status for status in Status if status.final])
def test_what_is_finished_is_never_past_its_deadline(status: Status) -> None:
    """Nobody waits for an answer any more."""
    assert rules_of(run(status, step(deadline_at=ago(99).isoformat()))) == []


def test_a_pause_silences_every_other_rule() -> None:
    """The workflow is where a person wants it."""
    given = {"commands": [published(90)], "consumers": {"payment": 0}, "parked": [waiting(9)]}
    assert rules_of(run("paused"), **given) == ["paused"]
    assert [rule.name for rule in RULES if not rule.alarms] == ["paused"]


# --- what makes a difference --------------------------------------------------------------------------


def test_a_scheduled_attempt_keeps_a_deadline_quiet() -> None:
    """Something comes by itself; once it is over, nothing does."""
    assert rules_of(overdue(11), attempts=[tried(12, due=5)]) == []
    assert rules_of(overdue(11), attempts=[tried(12, due=-5)]) == ["past_deadline"]


def test_an_answer_without_a_deadline_is_scheduled_by_nobody() -> None:
    """So the workflow cannot move by itself, however it came to that."""
    still = run("running", step(deadline_at=None))
    assert rules_of(still, updated_at=ago(11)) == ["past_deadline"]
    assert rules_of(still, updated_at=ago(9)) == []
    assert rules_of(run("running", step(status="done")), updated_at=ago(11)) == ["past_deadline"]


def test_a_command_may_lie_on_a_queue_for_as_long_as_its_step_may_take() -> None:
    """With consumers, or when RabbitMQ does not tell, the deadline of the step counts: a minute."""
    for consumers in ({"payment": 2}, None):
        assert rules_of(run(), commands=[published(59)], consumers=consumers) == []
        assert rules_of(run(), commands=[published(61)], consumers=consumers) == ["unacknowledged"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"answered": {COMMAND: ago(1)}},
        {"attempts": [tried(20, due=5)]},
        {"commands": [published(11, service="inventory")], "consumers": {"payment": 0, "inventory": 1}},
    ],
    ids=["answered", "in a retry queue", "of another service"],
)
def test_a_command_that_is_elsewhere_does_not_lie_on_the_queue(elsewhere: dict[str, Any]) -> None:
    """It was answered, it waits for its next attempt, or its own queue is read."""
    given = {"commands": [published(11)], "consumers": {"payment": 0}, **elsewhere}
    assert [each for each in at_noon(run(), **given).open if each.consumers == 0] == []
    assert rules_of(run(), **given) == []


def test_a_parked_command_does_not_lie_on_the_queue() -> None:
    """One cause, one rule."""
    given = {"commands": [published(90)], "consumers": {"payment": 0}, "parked": [waiting(1)]}
    assert rules_of(run(), **given) == ["parked_message"]


def test_a_retry_that_nobody_takes_counts_from_when_it_was_due() -> None:
    """It lies on the queue since then, not since it was published first."""
    given = {"commands": [published(90)], "consumers": {"payment": 0}}
    found = next(matches(at_noon(run(), **given, attempts=[tried(60, due=-11)]), LIMITS))
    assert (found.rule, found.finding.since) == ("unacknowledged", ago(11))
    assert rules_of(run(), **given, attempts=[tried(60, due=-9)]) == []


def test_an_event_in_the_outbox_is_not_missing() -> None:
    """It was not sent, which is another rule's matter."""
    given = {"answered": {COMMAND: ago(40)}, "unsent": (Unsent("payments", ago(31)),)}
    assert rules_of(run(), **given) == ["outbox_unsent"]


def test_an_answer_counts_from_the_attempt_that_made_it() -> None:
    """The inbox tells when the command was claimed; it may have been finished much later."""
    given = {"answered": {COMMAND: ago(300)}}
    done = attempt(outcome="succeeded", started_at=ago(5), next_due=None)
    assert rules_of(run(), **given, attempts=[done]) == []
    assert rules_of(run(), **given) == ["unanswered"]


def test_a_refused_event_counts_at_once() -> None:
    """Kafka will not take it later either."""
    refused = Unsent("payments", ago(1), "MESSAGE_TOO_LARGE")
    found = next(matches(at_noon(run(), unsent=(Unsent("intake", ago(1)), refused)), LIMITS))
    assert found.finding.detail == "Kafka refused an event of payments: MESSAGE_TOO_LARGE"
    assert found.finding.suggestion == "fulcrum parked keys"


def test_an_accepted_intent_can_be_stuck_too() -> None:
    """Its event does not leave, or nobody reads it; no deadline runs."""
    accepted = run("accepted", step(status="pending"))
    assert rules_of(accepted, updated_at=ago(300)) == []
    assert rules_of(accepted, unsent=(Unsent("intake", ago(31)),)) == ["outbox_unsent"]
    stall = Stall("fulcrum-orchestrator", "fulcrum.intents", 3, 5, ago(31))
    assert rules_of(accepted, stalls=(stall,)) == ["partition_stalled"]


def test_the_awaited_command_is_that_of_the_undo_while_undoing() -> None:
    """Its id is computed, for the read model shows that of the step's own command."""
    undoing = run("compensating", step(status="undo_requested"))
    expected = identity.command_id(WORKFLOW, "authorize_payment", "VoidPayment", 1)
    assert awaited_command(undoing) == expected != COMMAND
    assert awaited_command(run()) == COMMAND
    assert awaited_command(run("completed", step(status="done"))) is None


# --- partitions ---------------------------------------------------------------------------------------

GROUP, TOPIC = "fulcrum-orchestrator", "fulcrum.payments"


def stalled(*looks: tuple[float, int, int]) -> tuple[Stall, ...]:
    """What is stalled after looks: seconds, offset and end of the one partition each."""
    stalls = Stalls()
    for seconds, offset, end in looks:
        stalls.note(NOON + timedelta(seconds=seconds), {GROUP: {(TOPIC, 0): (offset, end)}})
    return stalls.of(WORKFLOW)


def test_a_partition_stalls_while_its_offset_stays_and_records_wait() -> None:
    """Since it was first seen there, whatever is appended meanwhile."""
    assert stalled((0, 5, 9), (15, 5, 12)) == (Stall(GROUP, TOPIC, 0, 7, NOON),)


@pytest.mark.parametrize(
    "looks",
    [((0, 9, 9), (15, 9, 9)), ((0, 5, 9), (15, 9, 9))],
    ids=["nothing to read", "read to the end"],
)
def test_a_partition_without_waiting_records_is_not_stalled(looks: Any) -> None:
    """An idle partition is healthy."""
    assert stalled(*looks) == ()


def test_a_partition_that_moves_begins_anew() -> None:
    """However slow it is, it advances."""
    (stall,) = stalled((0, 5, 9), (15, 6, 20))
    assert stall.since == NOON + timedelta(seconds=15)
    (again,) = stalled((0, 5, 9), (15, 9, 9), (30, 9, 10))
    assert again.since == NOON + timedelta(seconds=30)


def test_only_workflows_of_the_partition_are_held_up() -> None:
    """The key says where its records are."""
    stalls = Stalls()
    stalls.note(NOON, {GROUP: {(TOPIC, n): (0, 1 if n == 3 else 0) for n in range(8)}})
    ids = [str(identity.workflow_id(identity.intent_id("acme", str(n)))) for n in range(64)]
    held = [workflow_id for workflow_id in ids if stalls.of(workflow_id)]
    assert 0 < len(held) < len(ids) / 2
    assert replace(stalls.of(held[0])[0], since=NOON).partition == 3
