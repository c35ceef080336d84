"""What does the orchestrator itself believe? Its table as web pages, from the worker that owns the key."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, cast

import faust
from faust.web import Request, Response, View

from fulcrum.saga.run import Status, WorkflowRun
from fulcrum.tables.runs import RunsTable
from fulcrum.wire.codec import Codec
from fulcrum.wire.partitioning import partition_of

_LIST_MOST = 500


class RunViews:
    """Reads the runs that this worker owns."""

    def __init__(self, app: faust.App, runs: RunsTable, codec: Codec, partitions: int) -> None:
        self._app = app
        self._runs = runs
        self._codec = codec
        self._partitions = partitions

    def _owned(self) -> dict[int, list[WorkflowRun]]:
        """Runs by partition. A memory table keeps rows of partitions that have left; leave them out."""
        topic = self._runs.changelog_topic.get_topic_name()
        mine = {tp.partition for tp in self._app.assignor.assigned_actives() if tp.topic == topic}
        owned: dict[int, list[WorkflowRun]] = {partition: [] for partition in sorted(mine)}
        for key, value in self._runs.items():
            partition = partition_of(key, self._partitions)
            if partition in owned:
                owned[partition].append(cast(WorkflowRun, self._codec.decode(value)))
        return owned

    def one(self, workflow_id: str) -> dict[str, Any] | None:
        """The run as JSON-ready data; None when this worker has no such run."""
        stored = self._runs.get(workflow_id.encode())
        if stored is None:
            return None
        run = cast(WorkflowRun, self._codec.decode(stored))
        return {**asdict(run), "unsent": [unsent.version for unsent in run.unsent]}

    def many(self, status: str | None) -> list[dict[str, Any]]:
        """The runs of this worker, newest change first, at most 500."""
        runs = [
            run for owned in self._owned().values() for run in owned if status is None or run.status == status
        ]
        runs.sort(key=lambda run: run.updated_at, reverse=True)
        return [
            {
                "workflow_id": run.workflow_id,
                "status": run.status,
                "version": run.version,
                "definition": run.definition,
                "reason": run.reason,
                "updated_at": run.updated_at,
            }
            for run in runs[:_LIST_MOST]
        ]

    def overview(self) -> dict[str, Any]:
        """How many runs of which status lie in which partition."""
        owned = self._owned()
        return {
            "table": self._runs.name,
            "changelog": self._runs.changelog_topic.get_topic_name(),
            "partitions": [
                {"partition": partition, "runs": len(runs), "statuses": Counter(r.status for r in runs)}
                for partition, runs in owned.items()
            ],
            "runs": sum(len(runs) for runs in owned.values()),
        }


def add_views(app: faust.App, runs: RunsTable, codec: Codec, partitions: int) -> None:
    """Serve ``/runs/``, ``/runs/{id}`` and ``/runs/overview`` on Faust's web server."""
    views = RunViews(app, runs, codec, partitions)

    @app.page("/runs", name="runs")
    async def list_runs(web: View, request: Request) -> Response:
        status = request.query.get("status")
        if status is not None and status not in set(Status):
            known = ", ".join(Status)
            return web.json({"error": f"status {status!r} is unknown; one of {known}"}, status=400)
        return web.json({"runs": views.many(status), "worker": str(app.conf.canonical_url)})

    @app.page("/runs/overview", name="runs-overview")
    async def overview(web: View, request: Request) -> Response:
        return web.json(views.overview())

    @app.page("/runs/{id}", name="run")
    @app.table_route(table=runs, match_info="id")
    async def show_run(web: View, request: Request, id: str) -> Response:  # noqa: A002
        run = views.one(id)
        if run is None:
            return web.json({"error": f"no run {id!r} in the orchestrator's table"}, status=404)
        return web.json(run)
