"""What does an operator's request mean to a run? Every verb in every status: done, or ignored with a reason.

A request is an event on the run's own key like any other: it is in the journal, it replays, and it races with
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.decision import Decision
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import Answer, OperatorRequested
from fulcrum.saga.migrate import migrate
from fulcrum.saga.moves import (
    UNDOING,
    ask,
    await_no_more,
    awaits_undo,
    end_step,
    find_step,
    go_on,
    is_given_up,
    undo_anew,
    undo_next,
    undone,
)
from fulcrum.saga.pause import hold, release
from fulcrum.saga.results import unusable
from fulcrum.saga.run import MAY_STAND, OPERATOR, Status, StepStatus, WorkflowRun
from fulcrum.saga.step import Step

#: An extension beyond this would only hide that nobody answers.
LONGEST_EXTENSION = timedelta(days=30)


class Verb(StrEnum):
    """What an operator may ask for, beside a cancellation."""

    RETRY = "retry"  #: the step that is waited for, now: what became of it, or its undo once more
    SKIP = "skip"  #: go on as if the step had answered
    PAUSE = "pause"  #: let nothing leave, and no deadline pass
    RESUME = "resume"  #: send what was held back
    COMPENSATE = "compensate"  #: undo a step and those before it
    EXTEND = "extend"  #: give the step that is waited for more time
    TERMINATE = "terminate"  #: give up, and leave standing what was done


#: Go on under another definition. It is asked of many runs at once, and is no verb for one of them.
MIGRATE = "migrate"
#: What a paused run cannot do: reason by verb.
NOT_WHILE_PAUSED: Mapping[str, str] = {Verb.RETRY: "paused", Verb.EXTEND: "paused"}


def operator_requested(run: WorkflowRun, event: OperatorRequested) -> Decision:
    """What ``event`` means to ``run``, which is not paused, or is asked as if it were not."""
    act = _ACTS.get(event.verb)
    if act is None:
        return Decision(run, run.status, ignored="unknown_verb")
    if event.step is not None and find_step(run, event.step) is None:
        return Decision(run, run.status, ignored="not_in_definition")
    return _decision(run, event, act(run, event))


def requested_of_paused(run: WorkflowRun, event: OperatorRequested) -> Decision | None:
    """What ``event`` means to a paused ``run`` because it is paused; None: what it means to any other."""
    if event.verb in (Verb.PAUSE, Verb.RESUME):
        return _decision(run, event, _ACTS[event.verb](run, event))
    reason = NOT_WHILE_PAUSED.get(event.verb)
    return None if reason is None else _decision(run, event, reason)


def _decision(run: WorkflowRun, event: OperatorRequested, outcome: Decision | str) -> Decision:
    return outcome if isinstance(outcome, Decision) else Decision(run, run.status, event.step, (), outcome)


def unusable_result(answer: type[Answer], text: str | None) -> str | None:
    """Why ``text`` cannot stand for ``answer``; None when it can.

    It is a JSON object with some of the answer's own fields; ``expires_at`` is a time with its zone.
    """
    if text is None:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not JSON; give a JSON object"
    own = {field.name for field in fields(answer)} - {field.name for field in fields(Answer)}
    if not isinstance(given, dict):
        return "it is not a JSON object"
    if unknown := sorted(given.keys() - own):
        return f"{answer.__name__} has no field {unknown[0]!r}; use {', '.join(sorted(own)) or 'none'}"
    if given.get("expires_at") is not None and _moment(given["expires_at"]) is None:
        return "expires_at is no time with a zone; write it as 2026-03-01T12:00:00Z"
    return None


# --- verbs: a decision, or the reason why there is none ---------------------------------------------


def _retry(run: WorkflowRun, event: OperatorRequested) -> Decision | str:
    """An undo is sent under another id. A step that may have happened is asked about, never done twice."""
    step = _awaited(run, event.step)
    if step is None:
        return _nothing_awaited(run)
    state = run.step(step.name)
    if state.status == StepStatus.UNDO_REQUESTED:
        return undo_anew(run, step, event.occurred_at)
    assert state.command_id is not None
    return ask(run, step, event.occurred_at, identity.asked_query_id(state.command_id, run.version))


def _skip(run: WorkflowRun, event: OperatorRequested) -> Decision | str:
    step = _awaited(run, event.step)
    if step is None:
        return _nothing_awaited(run)
    now, by = event.occurred_at, {"skipped_by": event.actor}
    if run.step(step.name).status == StepStatus.UNDO_REQUESTED:
        return "undo_has_no_result" if event.result is not None else undone(run, step, now, **by)
    if unusable_result(step.done, event.result) is not None:
        return "unusable_result"
    given = json.loads(event.result) if event.result is not None else {}
    if DEFINITIONS[run.definition].needed_of(step) - given.keys():
        return "incomplete_result"
    if step.yields and unusable(given, run.lines) is not None:
        return "unusable_result"
    expires_at = None if step.renewed else _moment(given.get("expires_at"))
    own = {**by, "result": event.result, "expires_at": expires_at}
    return go_on(end_step(run, step, StepStatus.SKIPPED, now, **own), step, now)


def _pause(run: WorkflowRun, event: OperatorRequested) -> Decision | str:
    outcome = hold(run, OPERATOR)
    return "already_paused" if outcome == "already_held" else outcome


def _resume(run: WorkflowRun, event: OperatorRequested) -> Decision | str:
    """Only the operator's own hold goes; whoever holds the run for another reason releases it."""
    outcome = release(run, OPERATOR, event.occurred_at)
    if outcome == "not_held":
        return "held_by_others" if run.status == Status.PAUSED else "not_paused"
    return outcome


def _compensate(run: WorkflowRun, event: OperatorRequested) -> Decision | str:
    """Steps behind the named one are left as they are; the run needs attention until they are settled."""
    if Status(run.status).final:
        return "already_final"
    steps, now = DEFINITIONS[run.definition].steps, event.occurred_at
    step = find_step(run, event.step) if event.step is not None else None
    begin = step or steps[-1]
    reached, behind = steps[: steps.index(begin) + 1], steps[steps.index(begin) + 1 :]
    leaves = any(each.undo is not None and run.step(each.name).status in MAY_STAND for each in behind)
    rolling = replace(run, undo_from=begin.name if leaves else None)
    if run.status not in UNDOING:
        rolling = replace(rolling, reason=f"compensation forced: {event.reason}")
    rolling = await_no_more(rolling, behind)
    stuck = next((each for each in reversed(reached) if is_given_up(run.step(each.name), each)), None)
    if stuck is not None:
        return undo_anew(rolling, stuck, now)
    decision = undo_next(rolling, step or _last_begun(run), now, run.status)
    if decision.run != run:
        return decision
    return "already_compensating" if run.status == Status.COMPENSATING else "nothing_to_undo"


def _extend(run: WorkflowRun, event: OperatorRequested) -> Decision | str:
    if event.seconds is None or not 0 < event.seconds <= LONGEST_EXTENSION.total_seconds():
        return "unusable_seconds"
    step = _awaited(run, event.step)
    if step is None:
        return _nothing_awaited(run)
    state, until = run.step(step.name), event.occurred_at + timedelta(seconds=event.seconds)
    if state.deadline_at is None:
        return "no_deadline"
    if until <= state.deadline_at:
        return "deadline_not_later"
    return Decision(run.with_step(replace(state, deadline_at=until)), run.status, step.name)


def _terminate(run: WorkflowRun, event: OperatorRequested) -> Decision | str:
    """Nothing leaves and nothing is waited for: what stands is a person's to settle."""
    if Status(run.status).final:
        return "already_final"
    ended = replace(
        run,
        status=Status.TERMINATED,
        reason=f"terminated: {event.reason}",
        finished_at=event.occurred_at,
        steps=tuple(replace(step, deadline_at=None, held=False) for step in run.steps),
    )
    return Decision(ended, run.status)


def _migrate(run: WorkflowRun, event: OperatorRequested) -> Decision | str:
    """``result`` names the definition: ``{"definition": "fulfillment.v3"}``."""
    try:
        given = json.loads(event.result or "")
    except (ValueError, RecursionError):
        return "unusable_result"
    if not isinstance(given, dict) or not isinstance(given.get("definition"), str):
        return "unusable_result"
    return migrate(run, given["definition"])


_ACTS: dict[str, Callable[[WorkflowRun, OperatorRequested], Decision | str]] = {
    Verb.RETRY: _retry,
    Verb.SKIP: _skip,
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.COMPENSATE: _compensate,
    Verb.EXTEND: _extend,
    Verb.TERMINATE: _terminate,
    MIGRATE: _migrate,
}


# --- where the run stands ---------------------------------------------------------------------------


def standing(run: WorkflowRun) -> tuple[str, ...]:
    """The steps whose effect stands or may stand, in the definition's order."""
    return tuple(step.name for step in run.steps if step.status in MAY_STAND)


def _awaited(run: WorkflowRun, name: str | None) -> Step | None:
    """The step that the run waits for: the one called ``name``, else one that waited in vain, else any."""
    waiting = [
        step
        for step in DEFINITIONS[run.definition].steps
        if _is_awaited(run, step) and name in (None, step.name)
    ]
    given_up = [step for step in waiting if is_given_up(run.step(step.name), step)]
    return next(reversed(given_up or waiting), None)


def _is_awaited(run: WorkflowRun, step: Step) -> bool:
    state = run.step(step.name)
    if awaits_undo(state, step):
        return run.status != Status.TERMINATED
    return (run.status, state.status) == (Status.RUNNING, StepStatus.REQUESTED)


def _last_begun(run: WorkflowRun) -> Step:
    begun = [n for n, step in enumerate(run.steps) if step.status != StepStatus.PENDING]
    return DEFINITIONS[run.definition].steps[max(begun, default=0)]


def _nothing_awaited(run: WorkflowRun) -> str:
    return "already_final" if Status(run.status).final else "step_not_awaited"


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
