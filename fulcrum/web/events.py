"""A workflow as it moves: its transitions as server-sent events, resumable by the version of the last one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fulcrum.readmodel import queries
from fulcrum.readmodel.latency import Timing
from fulcrum.readmodel.projection import FINAL
from fulcrum.web.bodies import EventsQuery, WorkflowPath
from fulcrum.web.operation import Answer, Call, Streamed
from fulcrum.web.services import Services
from fulcrum.web.workflows import find_view

#: Seconds of silence after which a comment is sent: proxies close what is silent, and only a write shows
#: that the client has gone.
HEARTBEAT = 15.0
_AT_ONCE = 100
#: How long a client waits before it comes again (milliseconds).
_RETRY = 1000


async def follow_workflow(
    services: Services, call: Call, *, path: WorkflowPath, query: EventsQuery, last: int | None
) -> Answer | Streamed:
    """Follow a workflow: each transition as a server-sent event, with its version as id.

    First comes what is there already behind `Last-Event-ID` (or `after`), then each transition as it is
    projected. When the workflow has ended, an event `finished` is the last; a client that comes again gets
    204, at which a browser stops to reconnect.
    """
    call.workflow_id = path.workflow_id
    after = query.after if last is None else last
    view, _ = await find_view(services, path.workflow_id, after)
    if view.status in FINAL and view.version <= after:
        return Answer("", status=204)
    services.watchers.require_room()
    return Streamed(_events(services, path.workflow_id, after))


async def _events(services: Services, workflow_id: str, after: int) -> AsyncGenerator[str]:
    yield f"retry: {_RETRY}\n\n"
    timing, read, status = Timing(), 0, ""
    with services.watchers.watching(workflow_id) as watcher:
        while not watcher.ended:
            # From the first, also for one that comes again: what a transition took is told by those before.
            told = await queries.find_entries(services.db, workflow_id, read, _AT_ONCE)
            for entry in told:
                text = timing.tell(entry.entry)
                read, status = entry.version, entry.status
                if read > after:
                    yield f"id: {read}\nevent: transition\ndata: {text}\n\n"
            if told:
                continue
            if status in FINAL:
                yield f'event: finished\ndata: {{"status":"{status}","version":{read}}}\n\n'
                return
            if not await watcher.newer_than(read, within=HEARTBEAT):
                yield ": nothing new\n\n"
