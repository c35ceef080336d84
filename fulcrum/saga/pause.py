"""What becomes of a run that must wait? The rules decide as ever; what would leave is held back.

A run waits while there is any reason to: an address to check, a suspicion, an operator. What was held is not
stored: the step remembers that its command has not left, and the command is made again from the state, the
same to the last field.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from fulcrum.saga.decision import Decision
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.intercept import send_intercept
from fulcrum.saga.messages import StepCommand
from fulcrum.saga.moves import awaits_undo, due, send_again, send_undo_again
from fulcrum.saga.run import Intercept, Status, StepStatus, WorkflowRun


def unpaused(run: WorkflowRun) -> WorkflowRun:
    """The run as the rules see it."""
    assert run.paused_from is not None
    return replace(run, status=run.paused_from, paused_from=None, holds=())


def hold(run: WorkflowRun, reason: str) -> Decision | str:
    """Let the run wait because of ``reason``, too; a word why not if it cannot."""
    if Status(run.status).final:
        return "already_final"
    if reason in run.held_by:
        return "already_held"
    if run.status != Status.PAUSED:
        return hold_back(Decision(run, run.status), (reason,))
    return Decision(replace(run, holds=tuple(sorted({*run.held_by, reason}))), run.status)


def release(run: WorkflowRun, reason: str, now: datetime) -> Decision | str:
    """Let the run wait no more because of ``reason``: it goes on when that was the last one."""
    if Status(run.status).final:
        return "already_final"
    if reason not in run.held_by:
        return "not_held"
    others = tuple(each for each in run.held_by if each != reason)
    return Decision(replace(run, holds=others), run.status) if others else _go_on(run, now)


def hold_back(decision: Decision, holds: tuple[str, ...]) -> Decision:
    """The decision on a run that waits: nothing leaves, no deadline runs. A run that ends waits no more."""
    run = decision.run
    if Status(run.status).final:
        return replace(decision, commands=())
    ids = {command.command_id for command in decision.commands}
    asked = _still(run.intercept, ids)
    held = {
        command.step
        for command in decision.commands
        if asked is None or command.command_id != asked.command_id
    }
    steps = tuple(replace(step, deadline_at=None, held=step.held or step.name in held) for step in run.steps)
    paused = replace(
        run, status=Status.PAUSED, paused_from=run.status, steps=steps, holds=holds, intercept=asked
    )
    return replace(decision, run=paused, commands=())


def _still(asked: Intercept | None, held: set[str]) -> Intercept | None:
    if asked is None:
        return None
    return replace(asked, deadline_at=None, held=asked.held or asked.command_id in held)


def _go_on(run: WorkflowRun, now: datetime) -> Decision:
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
            until = due(state, step, now) if asking else now + step.wait(state.late)
            run = run.with_step(replace(state, deadline_at=until))
        asked = run.intercept
        if asked is not None and asked.step == step.name:
            sent = send_intercept(run, asked, step, now)
            run = sent.run
            commands += sent.commands if asked.held else ()
    return Decision(run, Status.PAUSED, commands=tuple(commands))
