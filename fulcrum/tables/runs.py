"""The Faust table of workflow runs: workflow id to the encoded state, behind a changelog.

Keys and values are bytes under our own codec; Faust's default would quote a text key in the changelog
and so route look-ups to the wrong worker.
"""

from __future__ import annotations

from typing import Any, cast

import faust
from faust.types import FutureMessage

TABLE_NAME = "workflow_runs"


class RunsTable(faust.Table[bytes, bytes]):
    """A table that hands out the acknowledgement of the last write."""

    last_write: FutureMessage | None = None

    def send_changelog(self, *args: Any, **kwargs: Any) -> FutureMessage:
        """Send the change, and keep its future for whoever must know that it is safe."""
        self.last_write = super().send_changelog(*args, **kwargs)
        return self.last_write

    def drop(self, key: bytes) -> FutureMessage | None:
        """Remove ``key`` and return the future of its tombstone; None when there is nothing to remove."""
        if key not in self:
            return None
        del self[key]
        return self.last_write

    def store(self, key: bytes, value: bytes) -> FutureMessage:
        """Write ``value`` and return the future that the broker's acknowledgement completes.

        Call it while the event of this key is being handled: the write goes to that event's partition.
        """
        self[key] = value
        return cast(FutureMessage, self.last_write)


def runs_table(app: faust.App, partitions: int) -> RunsTable:
    """Declare the table on ``app``. One partition count serves it and every topic it reads."""
    table = RunsTable(
        app,
        name=TABLE_NAME,
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
        help="Workflow runs by workflow id.",
    )
    return cast(RunsTable, app.tables.add(table))
