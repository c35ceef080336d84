"""What does a definition do? Its steps, its way through the states and every late event, as Markdown.

Nothing here is written by hand: what an event does is found by asking ``decide``.

Long, because what is found is also told here, table by table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from fulcrum.saga import identity
from fulcrum.saga.decide import Decision, Forget, decide
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import (
    Answer,
    CancelRequested,
    DeadlinePassed,
    Event,
    HoldExpired,
    IntentCreated,
    Line,
    OperatorRequested,
    RetentionPassed,
)
from fulcrum.saga.run import Intercept, Status, StepStatus, WorkflowRun
from fulcrum.saga.step import Definition, Step
from fulcrum.saga.verbs import Verb

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_LATER = _NOW + timedelta(minutes=15)
_INTENT = identity.intent_id("acme", "example")
_WORKFLOW = identity.workflow_id(_INTENT)

#: A type of event, or what an operator asks for with ``OperatorRequested``.
Happening = type[Event] | Verb
#: (run status, step status) -> event -> what it does
Matrix = Mapping[tuple[Status, StepStatus], Mapping[str, str]]


def events_of(step: Step) -> tuple[Happening, ...]:
    """Every event and request that can concern a run while it is at ``step``."""
    answers = (
        step.done,
        step.refused,
        step.progress,
        step.not_found,
        step.undone,
        step.undo_refused,
        step.lapsed,
    )
    return (
        *(answer for answer in answers if answer is not None),
        DeadlinePassed,
        HoldExpired,
        CancelRequested,
        RetentionPassed,
        IntentCreated,
        *Verb,
    )


def name_of(event: Happening) -> str:
    """What the table calls it."""
    return event.value if isinstance(event, Verb) else event.__name__


def matrix(definition: Definition, step: Step) -> Matrix:
    """What each event about ``step`` does, for every status of the run and of the step.

    The steps before it are done and those behind it are pending; every time in the state has come.
    """
    return {
        (status, at): {
            name_of(event): outcome(_run(definition, step, status, at), event, step)
            for event in events_of(step)
        }
        for status, at in product(Status, StepStatus)
    }


#: The step that was requested last -> event -> what it does
InterceptMatrix = Mapping[str, Mapping[str, str]]


def intercept_matrix(definition: Definition, step: Step, status: Status) -> InterceptMatrix:
    """What happens while ``step`` is asked to stop what it has under way, by how far the run has come.

    ``status`` is running or paused. The last columns are of the step that the run waits for.
    """
    assert step.undone is not None
    assert step.undo_refused is not None
    ours = (step.undone, step.undo_refused, DeadlinePassed, CancelRequested)
    found = {}
    for each in definition.steps[definition.steps.index(step) :]:
        run = _run(definition, each, status, StepStatus.REQUESTED)
        asked = Intercept(
            step=step.name,
            command_id=identity.intercept_id(_WORKFLOW, step.name, 1),
            reason="cancelled",
            requested_at=_NOW,
            deadline_at=None if status is Status.PAUSED else _NOW,
        )
        run = replace(run, intercept=asked)
        cells = {
            name_of(event): _done(run, _of_intercept(_event(run, event, step), asked), each) for event in ours
        }
        cells |= {"done": outcome(run, each.done, each), "refused": outcome(run, each.refused, each)}
        found[each.name] = cells
    return found


def _of_intercept(event: Event, asked: Intercept) -> Event:
    """The event, if it answers or times a command, as one about the intercept's."""
    if isinstance(event, Answer | DeadlinePassed):
        return replace(event, command_id=asked.command_id)
    return event


def outcome(run: WorkflowRun, event: Happening, step: Step) -> str:
    """What ``event`` about ``step`` does to ``run``, in a few words."""
    return _done(run, _event(run, event, step), step)


def _done(run: WorkflowRun, event: Event, step: Step) -> str:
    result = decide(run, event)
    if isinstance(result, Forget):
        return "forget the run"
    assert isinstance(result, Decision), result
    if result.ignored:
        return f"ignored: {result.ignored}"
    sent = [f"send {type(command).__name__}" for command in result.commands]
    held = [f"hold {state.name}" for state in result.run.steps if state.held]
    asked = result.run.intercept
    held += [f"hold {asked.step}"] if asked is not None and asked.held else []
    moved = [str(result.run.status)] if result.run.status != run.status else []
    stays = "goes on" if run.intercept and not asked else f"step {result.run.step(step.name).status}"
    stepped = [stays] if not (moved or sent or held) else []
    return ", ".join([*moved, *stepped, *sent, *held])


def _run(definition: Definition, step: Step, status: Status, at: StepStatus) -> WorkflowRun:
    """A run in ``status`` whose ``step`` is ``at``."""
    started = decide(None, _intent(definition))
    assert isinstance(started, Decision)
    run = started.run
    states = []
    passed = True
    for each in definition.steps:
        state = replace(
            run.step(each.name),
            attempt=1,
            command_id=identity.command_id(_WORKFLOW, each.name, "do", 1),
            undo_command_id=identity.command_id(_WORKFLOW, each.name, "undo", 1),
            query_command_id=identity.command_id(_WORKFLOW, each.name, "query", 1),
            deadline_at=None,
            result=_result(each),
        )
        if each is step:
            passed = False
            waits = at in (StepStatus.REQUESTED, StepStatus.UNDO_REQUESTED) and status is not Status.PAUSED
            state = replace(state, status=at, deadline_at=_NOW if waits else None, expires_at=_LATER)
        else:
            state = replace(state, status=StepStatus.DONE if passed else StepStatus.PENDING)
        states.append(state)
    undoing = at in (StepStatus.UNDO_REQUESTED, StepStatus.UNDONE, StepStatus.REFUSED)
    return replace(
        run,
        status=status,
        steps=tuple(states),
        finished_at=_NOW if status.final else None,
        paused_from=(Status.COMPENSATING if undoing else Status.RUNNING) if status is Status.PAUSED else None,
    )


def _result(step: Step) -> str | None:
    """What the step's answer would have yielded."""
    told = {
        "lines": [{"sku": "sku-1", "quantity": 1}],
        "parcels": 1,
        "pack_job_id": "job",
        "delivery_id": "delivery",
        "tracking_number": "T1",
    }
    known = {name: told[name] for name in step.yields if name in told}
    return json.dumps(known) if known else None


def _intent(definition: Definition) -> IntentCreated:
    return IntentCreated(
        event_id=identity.event_id(_INTENT, "IntentCreated"),
        workflow_id=_WORKFLOW,
        sequence=1,
        occurred_at=_NOW,
        intent_id=_INTENT,
        tenant="acme",
        customer_ref="c-1",
        lines=(Line("sku-1", 1),),
        amount_minor=1,
        currency="EUR",
        payment_method="pay_ok",
        ship_to="address-1",
        definition=definition.name,
        correlation_id="c",
    )


def _event(run: WorkflowRun, happening: Happening, step: Step) -> Event:
    """The event that fits what ``run`` knows of ``step``."""
    kind = OperatorRequested if isinstance(happening, Verb) else happening
    if kind is IntentCreated:
        return replace(_intent(DEFINITIONS[run.definition]), sequence=run.seen["intents"] + 1)
    state = run.step(step.name)
    asked: dict[Any, str | None] = {
        step.undone: state.undo_command_id,
        step.undo_refused: state.undo_command_id,
        step.not_found: state.query_command_id,
    }
    values: dict[str, Any] = {
        "event_id": identity.event_id(_WORKFLOW, name_of(happening)),
        "verb": name_of(happening),
        "result": None,
        "seconds": 3600,
        "workflow_id": _WORKFLOW,
        "sequence": run.seen.get(kind.stream, 0) + 1,
        "occurred_at": _NOW,
        "command_id": asked.get(kind, state.command_id),
        "asked_command_id": state.command_id,
        "step": step.name,
        "deadline_at": _NOW,
        "expires_at": _LATER,
        "finished_at": _NOW,
        "reason": "example",
        "actor": "someone",
        "authorization_id": "a",
        "amount_minor": 1,
        "refunded_minor": 1,
        "currency": "EUR",
        "reauthorized": False,
        "lines": (),
        "released": (),
        "short": (),
        "waits_until": _LATER,
        "pack_job_id": "job",
        "parcels": 1,
        "handed_over": False,
        "delivery_id": "delivery",
        "tracking_number": "T1",
        "label_url": "label",
        "state": "cancelled",
        "delivered_at": _NOW,
        "undamaged": True,
    }
    return kind(**{f.name: values[f.name] for f in fields(kind)})


# --- Markdown -------------------------------------------------------------------------------------


def page() -> str:
    """The reference page of every definition."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# The saga: states, transitions, compensations"
    yield ""
    yield "Written by `fulcrum definition docs` from the code; a test fails when it is stale."
    yield ""
    yield from _statuses()
    for definition in DEFINITIONS.values():
        yield f"## {definition.name}"
        yield ""
        yield from _steps(definition)
        yield from _diagram(definition)
        for step in definition.steps:
            yield from _late_events(definition, step)
            if step.intercepts:
                yield from _intercepts(definition, step)


def _statuses() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> running: IntentCreated"
    yield "    running --> completed: the last step is done"
    yield "    running --> compensating: a step is refused, late for good, lapsed, or a person cancels"
    yield "    running --> running: a person cancels what may be on its way, and it cannot be stopped"
    yield "    running --> cancelled: the same, and nothing is to undo"
    yield "    compensating --> needs_attention: an operator had less undone than may stand"
    yield "    compensating --> cancelled: everything is undone"
    yield "    compensating --> needs_attention: an undo is refused, or not answered"
    yield "    needs_attention --> compensating: the late answer, or an operator retries or undoes more"
    yield "    [*] --> paused: IntentCreated with holds"
    yield "    running --> paused: a signal or an operator holds it, also while it undoes or needs attention"
    yield "    paused --> running: its last hold is released, to what it would be by then"
    yield "    running --> terminated: an operator gives it up, also from any other status that is not final"
    yield "    completed --> [*]: retention passed"
    yield "    cancelled --> [*]: retention passed"
    yield "    terminated --> [*]: retention passed"
    yield "```"
    yield ""


def _steps(definition: Definition) -> Iterator[str]:
    names = ("command", "done", "refused", "progress", "undo", "undone", "undo refused", "query")
    yield "| step | kind | " + " | ".join(names) + " | deadline | patience |"
    yield "|---|---|" + "---|" * len(names) + "---|---|"
    for step in definition.steps:
        named = [
            step.do,
            step.done,
            step.refused,
            step.progress,
            step.undo,
            step.undone,
            step.undo_refused,
            step.query,
        ]
        cells = [name.__name__ if name is not None else "" for name in named]
        patience = f"{step.patience} deadlines" if step.gives_up(step.patience) else "for ever"
        yield "| " + " | ".join([step.name, step.kind, *cells, _seconds(step.deadline), patience]) + " |"
    yield ""
    remarks = [remark for step in definition.steps for remark in _remarks(step)]
    yield from remarks
    yield from [""] * bool(remarks)


def _remarks(step: Step) -> Iterator[str]:
    """What the table does not say of a step."""
    if step.intercepts and step.undo and step.undone and step.undo_refused:
        yield (
            f"* From `{step.name}` on a cancellation is a request: `{step.undo.__name__}` leaves while the "
            f"run goes on. `{step.undone.__name__}` turns it round, `{step.undo_refused.__name__}` does not; "
            "what is answered first counts."
        )
    if step.yields:
        yield f"* `{step.name}` keeps for later steps: {', '.join(f'`{name}`' for name in step.yields)}."
    for field, fill in step.fills.items():
        yield f"* `{field}` of `{step.name}` is made of `{fill.field}` of `{fill.step}`."


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():g} s"


def _diagram(definition: Definition) -> Iterator[str]:
    yield "```mermaid"
    yield "flowchart LR"
    steps = definition.steps
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        target = following.name if following else "completed([completed])"
        yield f"    {step.name}[{step.do.__name__}] -->|{step.done.__name__}| {target}"
    for number, step in enumerate(steps):
        undone = [each for each in steps[:number] if each.undo is not None]
        target = f"undo_{undone[-1].name}" if undone else "cancelled([cancelled])"
        yield f"    {step.name} -->|{step.refused.__name__}| {target}"
    for number, step in enumerate(steps):
        if step.undo is None or step.undone is None:
            continue
        before = [each for each in steps[:number] if each.undo is not None]
        target = f"undo_{before[-1].name}" if before else "cancelled"
        yield f"    undo_{step.name}[{step.undo.__name__}] -->|{step.undone.__name__}| {target}"
    yield "```"
    yield ""


def _late_events(definition: Definition, step: Step) -> Iterator[str]:
    names = [name_of(event) for event in events_of(step)]
    yield f"### {definition.name}: what each event does at {step.name}"
    yield ""
    yield "An empty cell: ignored, and the timeline says why. States that ignore everything are left out."
    yield "Names in lower case are what operators ask for; *hold* means that the command waits for a resume."
    yield ""
    yield f"| run | {step.name} | " + " | ".join(names) + " |"
    yield "|---|---|" + "---|" * len(names)
    for (status, at), cells in matrix(definition, step).items():
        shown = ["" if cells[name].startswith("ignored") else cells[name] for name in names]
        if any(shown):
            yield f"| {status} | {at} | " + " | ".join(shown) + " |"
    yield ""


def _intercepts(definition: Definition, step: Step) -> Iterator[str]:
    going = (Status.RUNNING, Status.PAUSED)
    tables = {status: intercept_matrix(definition, step, status) for status in going}
    names = list(tables[Status.RUNNING][step.name])
    yield f"### {definition.name}: what each event does while {step.name} is asked to stop"
    yield ""
    yield "A cancellation came when the goods may have been under way. *done* and *refused* are the answers"
    yield "of the step that the run waits for; the others are those of the request to stop, its deadline, and"
    yield "another cancellation. What is answered first counts."
    yield ""
    yield "| run | waits for | " + " | ".join(names) + " |"
    yield "|---|---|" + "---|" * len(names)
    for status, rows in tables.items():
        for at, cells in rows.items():
            shown = ["" if cells[name].startswith("ignored") else cells[name] for name in names]
            yield f"| {status} | {at} | " + " | ".join(shown) + " |"
    yield ""
