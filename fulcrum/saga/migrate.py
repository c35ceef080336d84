"""May a run go on under another definition? Only if all that it has begun is the same in both."""

from __future__ import annotations

from dataclasses import replace

from fulcrum.saga.decision import Decision
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.run import Status, StepState, StepStatus, WorkflowRun
from fulcrum.saga.step import Definition


def migrate(run: WorkflowRun, name: str) -> Decision | str:
    """The run under the definition ``name``, its pending steps replaced by those; a word why not."""
    if Status(run.status).final:
        return "already_final"
    if run.status != Status.RUNNING:
        return "already_compensating"
    target = DEFINITIONS.get(name)
    if target is None:
        return "unknown_definition"
    if name == run.definition:
        return "same_definition"
    begun = {step.name: step for step in run.steps if step.status != StepStatus.PENDING}
    if not begun.keys() <= set(common(DEFINITIONS[run.definition], target)):
        return "past_the_difference"
    steps = tuple(begun.get(row.name, StepState(name=row.name)) for row in target.steps)
    return Decision(replace(run, definition=name, steps=steps), run.status)


def common(one: Definition, other: Definition) -> tuple[str, ...]:
    """The steps before the first difference between two definitions."""
    names = []
    for row, same in zip(one.steps, other.steps, strict=False):
        if row != same:
            break
        names.append(row.name)
    return tuple(names)
