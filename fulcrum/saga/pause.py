"""What becomes of a decision on a paused run? The rules decide as ever; what would leave is held back.

What was held is not stored: the step remembers that its command has not left, and the command is made again
from the state, the same to the last field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from fulcrum.saga.decision import Decision
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import StepCommand
from fulcrum.saga.moves import awaits_undo, send_again, send_undo_again
from fulcrum.saga.run import Status, StepStatus, WorkflowRun
from fulcrum.saga.verbs import Verb

#: What a paused run cannot do: reason by verb.
NOT_WHILE_PAUSED: Mapping[str, str] = {
    Verb.PAUSE: "already_paused",
    Verb.RETRY: "paused",
    Verb.EXTEND: "paused",
}


def unpaused(run: WorkflowRun) -> WorkflowRun:
    """The run as the rules see it."""
    assert run.paused_from is not None
    return replace(run, status=run.paused_from, paused_from=None)


def hold_back(decision: Decision) -> Decision:
    """The decision of a paused run: nothing leaves, no deadline runs. A run that ends is paused no more."""
    run = decision.run
    if Status(run.status).final:
        return replace(decision, status_before=Status.PAUSED, commands=())
    held = {command.step for command in decision.commands}
    steps = tuple(replace(step, deadline_at=None, held=step.held or step.name in held) for step in run.steps)
    paused = replace(run, status=Status.PAUSED, paused_from=run.status, steps=steps)
    return replace(decision, run=paused, status_before=Status.PAUSED, commands=())


def resume(run: WorkflowRun, now: datetime) -> Decision:
    """Send what was held, and give every command that is out its time anew."""
    run = unpaused(run)
    commands: list[StepCommand] = []
    for step in DEFINITIONS[run.definition].steps:
        state = run.step(step.name)
        asking = (run.status, state.status) == (Status.RUNNING, StepStatus.REQUESTED)
        undoing = awaits_undo(state, step) and (state.held or state.late < step.patience)
        if state.held and (asking or undoing):
            sent = send_again(run, step, now) if asking else send_undo_again(run, step, now)
            run = sent.run
            commands += sent.commands
        elif asking or undoing:
            run = run.with_step(replace(state, deadline_at=now + step.wait(state.late)))
    return Decision(run, Status.PAUSED, commands=tuple(commands))
