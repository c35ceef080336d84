"""How a decision becomes the record that people, the bridge and the projector read. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable

from fulcrum.saga import identity
from fulcrum.saga.decide import Decision
from fulcrum.saga.messages import (
    CancelRequested,
    Cause,
    Command,
    DecisionMade,
    Event,
    IssuedCommand,
    OperatorRequested,
    SignalReceived,
    StepCommand,
    StepView,
)
from fulcrum.saga.run import Status, StepState
from fulcrum.saga.signals import unusable_payload
from fulcrum.saga.verbs import standing


def record(
    decision: Decision,
    event: Event,
    encode: Callable[[Command], bytes],
    *,
    topic: str,
    partition: int,
    offset: int,
    traceparent: str | None = None,
) -> DecisionMade:
    """The journal's entry for ``decision``, taken because of ``event`` at the given place in Kafka.

    ``traceparent`` is the trace that the event came in.
    """
    run = decision.run
    passed_over = run.passed_over
    return DecisionMade(
        decision_id=identity.decision_id(run.workflow_id, run.version),
        workflow_id=run.workflow_id,
        version=run.version,
        decided_at=event.occurred_at,
        cause=Cause(
            event_id=event.event_id,
            type=type(event).__name__,
            stream=event.stream,
            sequence=event.sequence,
            occurred_at=event.occurred_at,
            topic=topic,
            partition=partition,
            offset=offset,
            actor=getattr(event, "actor", None),
            traceparent=traceparent,
            **_asked(event),
        ),
        step=decision.step,
        status_before=decision.status_before,
        status=run.status,
        reason=run.reason,
        ignored=decision.ignored,
        commands=tuple(_issued(command, decision, encode) for command in decision.commands),
        intent_id=run.intent.intent_id,
        tenant=run.intent.tenant,
        customer_ref=run.intent.customer_ref,
        correlation_id=run.intent.correlation_id,
        definition=run.definition,
        lines=run.lines,
        amount_minor=run.intent.amount_minor,
        currency=run.intent.currency,
        started_at=run.started_at,
        steps=tuple(_view(step, step.name in passed_over) for step in run.steps),
        standing=standing(run) if run.status == Status.TERMINATED else (),
        finished_at=run.finished_at,
        holds=run.held_by,
        promised_at=run.intent.promised_at,
        intercept=run.intercept.reason if run.intercept is not None else None,
    )


def _asked(event: Event) -> dict[str, str]:
    """What a person asked for and why. An answer's own reason is no person's."""
    if isinstance(event, OperatorRequested):
        return {"reason": event.reason, "verb": event.verb}
    if isinstance(event, SignalReceived):
        return {"reason": event.reason, "verb": _signal(event)}
    return {"reason": event.reason, "verb": "cancel"} if isinstance(event, CancelRequested) else {}


def _signal(event: SignalReceived) -> str:
    """The signal and the hold that it names, such as ``release fraud``."""
    if unusable_payload(event.name, event.payload) is not None:
        return event.name
    return f"{event.name} {json.loads(event.payload)['hold']}"


def _issued(command: StepCommand, decision: Decision, encode: Callable[[Command], bytes]) -> IssuedCommand:
    return IssuedCommand(
        command_id=command.command_id,
        type=type(command).__name__,
        service=command.service,
        step=command.step,
        attempt=command.attempt,
        deadline_at=decision.run.step(command.step).deadline_at,
        body=encode(command),
    )


def _view(step: StepState, passed_over: bool) -> StepView:
    return StepView(
        name=step.name,
        status=step.status,
        attempt=step.attempt,
        command_id=step.command_id,
        deadline_at=step.deadline_at,
        finished_at=step.finished_at,
        reason=step.reason,
        late=step.late,
        expires_at=step.expires_at,
        held=step.held,
        skipped_by=step.skipped_by,
        result=step.result,
        passed_over=passed_over,
    )
