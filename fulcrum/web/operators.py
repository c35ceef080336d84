"""What operators may ask of a workflow, or tell it, beside a cancellation: each verb with its own body."""

from __future__ import annotations

import json
from dataclasses import replace

from fulcrum.saga.verbs import Verb
from fulcrum.web.asking import ask
from fulcrum.web.bodies import (
    ExtendBody,
    RequestBody,
    SignalBody,
    SignalPath,
    SkipBody,
    StepBody,
    WorkflowPath,
)
from fulcrum.web.operation import Answer, Call
from fulcrum.web.requests import Wish
from fulcrum.web.services import Services
from fulcrum.web.stream import SIGNAL


async def retry_step(
    services: Services, call: Call, *, path: WorkflowPath, body: StepBody, key: str, actor: str | None
) -> Answer:
    """Retry the step that a workflow waits for, now.

    What became of a step is asked, or its command sent again under its id, so that nothing happens twice. An
    undo is sent under a new id, also one that was given up.
    """
    wish = Wish(verb=Verb.RETRY, reason=body.reason, step=body.step)
    return await ask(services, call, path.workflow_id, wish, key, actor, dry=body.dry_run)


async def skip_step(
    services: Services, call: Call, *, path: WorkflowPath, body: SkipBody, key: str, actor: str | None
) -> Answer:
    """Go on as if a step had answered.

    Its effect may stand nevertheless, so it is undone with the others when the workflow is. An undo that is
    skipped counts as done.
    """
    result = None if body.result is None else json.dumps(body.result, sort_keys=True, separators=(",", ":"))
    wish = Wish(verb=Verb.SKIP, reason=body.reason, step=body.step, result=result)
    return await ask(services, call, path.workflow_id, wish, key, actor, dry=body.dry_run)


async def pause_workflow(
    services: Services, call: Call, *, path: WorkflowPath, body: RequestBody, key: str, actor: str | None
) -> Answer:
    """Let nothing leave a workflow until it is resumed.

    Answers are taken meanwhile, what they lead to is held back, and no deadline passes.
    """
    wish = Wish(verb=Verb.PAUSE, reason=body.reason)
    return await ask(services, call, path.workflow_id, wish, key, actor, dry=body.dry_run)


async def resume_workflow(
    services: Services, call: Call, *, path: WorkflowPath, body: RequestBody, key: str, actor: str | None
) -> Answer:
    """Send what a paused workflow has held back, and give every open command its time anew."""
    wish = Wish(verb=Verb.RESUME, reason=body.reason)
    return await ask(services, call, path.workflow_id, wish, key, actor, dry=body.dry_run)


async def compensate_workflow(
    services: Services, call: Call, *, path: WorkflowPath, body: StepBody, key: str, actor: str | None
) -> Answer:
    """Undo a step and those before it, last first.

    What stands behind the step is left, and the workflow needs attention until it is settled. Without a step
    everything is undone. An undo that was given up is sent anew.
    """
    wish = Wish(verb=Verb.COMPENSATE, reason=body.reason, step=body.step)
    return await ask(services, call, path.workflow_id, wish, key, actor, dry=body.dry_run)


async def extend_deadline(
    services: Services, call: Call, *, path: WorkflowPath, body: ExtendBody, key: str, actor: str | None
) -> Answer:
    """Give the step that a workflow waits for more time."""
    wish = Wish(verb=Verb.EXTEND, reason=body.reason, step=body.step, seconds=body.seconds)
    return await ask(services, call, path.workflow_id, wish, key, actor, dry=body.dry_run)


async def terminate_workflow(
    services: Services, call: Call, *, path: WorkflowPath, body: RequestBody, key: str, actor: str | None
) -> Answer:
    """Give a workflow up: nothing leaves any more, and what was done stays as it is.

    ``standing`` names what is left for a person to settle.
    """
    wish = Wish(verb=Verb.TERMINATE, reason=body.reason)
    return await ask(services, call, path.workflow_id, wish, key, actor, dry=body.dry_run)


async def signal_workflow(
    services: Services, call: Call, *, path: SignalPath, body: SignalBody, key: str, actor: str | None
) -> Answer:
    """Hold a workflow for a reason, or release it.

    While it is held for any reason nothing leaves it; answers are taken, and what they lead to is held back.
    """
    if call.act is not None:
        call.act = replace(call.act, target=path.workflow_id)
    payload = json.dumps({"hold": body.hold}, separators=(",", ":"))
    wish = Wish(verb=SIGNAL, reason=body.reason, signal=path.name, payload=payload)
    return await ask(services, call, path.workflow_id, wish, key, actor, dry=body.dry_run)
