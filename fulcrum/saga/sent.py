"""Which decisions has this process sent to Kafka, and which are proven to be there? Pure.

A run's state names its decisions that were not proven sent when it was written; what has become of them since
is known here only, and a new process knows nothing. Each of them is sent once in the life of a process,
together with what the run decides next or by a repeat of its event, whichever comes first:

* sent too rarely, a decision is lost: the run's next one must not count as proof of those before it, which an
  earlier process may have left in the state without sending them;
* sent too often, it comes back: the repeated decision repeats its command, the command is answered again, and
  that repeated answer would start the round anew, for ever.
"""

from __future__ import annotations

from collections import OrderedDict

from fulcrum.saga.run import Unsent, WorkflowRun


class Sent:
    """Versions by run. Forgetting a run costs one more round, so only those touched last are kept."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._versions: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def proven(self, workflow_id: str) -> int:
        """Up to which version every decision of the run is acknowledged; 0 when nothing is known."""
        return self._versions.get(workflow_id, (0, 0))[0]

    def due(self, run: WorkflowRun) -> tuple[Unsent, ...]:
        """What of ``run`` this process has not sent yet, in order. It counts as sent from now on."""
        proven, sent = self._versions.get(run.workflow_id, (0, 0))
        due = tuple(unsent for unsent in run.unsent if unsent.version > sent)
        if due:
            self._keep(run.workflow_id, proven, due[-1].version)
        return due

    def prove(self, workflow_id: str, version: int) -> None:
        """Every decision up to ``version`` is acknowledged. One topic takes them in order."""
        proven, sent = self._versions.get(workflow_id, (0, 0))
        self._keep(workflow_id, max(version, proven), max(version, sent))

    def forget(self, workflow_id: str) -> None:
        """The run is gone."""
        self._versions.pop(workflow_id, None)

    def _keep(self, workflow_id: str, proven: int, sent: int) -> None:
        self._versions[workflow_id] = (proven, sent)
        self._versions.move_to_end(workflow_id)
        if len(self._versions) > self._most:
            self._versions.popitem(last=False)
