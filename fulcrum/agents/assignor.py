"""What does a worker make of an assignment that was meant for its predecessor?

With static membership Kafka hands a worker that returns within the session timeout its old assignment as it
was, without asking anybody. But the worker may have come back at another address, or as a newer version that
reads more topics. Upstream fails on the first (and the process then waits for ever) and does not see the
second. Here the old assignment is taken, so that work goes on at once, and the group is asked to deal anew.

``tests/contract/test_guard.py`` fails when upstream changes a function overridden or relied on here.
"""

from __future__ import annotations

from typing import Any

import structlog
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

log = structlog.get_logger()


class ReturningAssignor(PartitionAssignor):
    """Faust's assignor, for workers that return elsewhere or changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wanted: set[str] = set()
        self._asked_again = False

    def metadata(self, topics: set[str]) -> Any:
        """What this worker tells the group; the topics it wants are remembered."""
        self._wanted = set(topics)
        return super().metadata(topics)

    def on_assignment(self, assignment: Any) -> None:
        """Take the assignment; one that was made for another address or other topics only until the next."""
        told: ClientMetadata = ClientMetadata.loads(self._decompress(assignment.user_data))
        here = str(self._url)
        missing = self._wanted - told.topic_groups.keys()
        if told.url != here:
            mine = told.derive(url=here)
            assignment.user_data = self._compress(mine.dumps())
        super().on_assignment(assignment)
        if (told.url != here or missing) and not self._asked_again:
            # Once: a topic that nobody has would otherwise be asked for without end.
            self._asked_again = True
            log.info("group.dealt_anew", meant_for=told.url, here=here, missing=sorted(missing))
            consumer: Any = self.app.consumer
            consumer._thread._ensure_consumer()._coordinator.request_rejoin()
