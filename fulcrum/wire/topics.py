"""What are the Kafka topics called, and what must each be set to? All names come from the namespace."""

from __future__ import annotations

from fulcrum.saga.messages import EVENT_STREAMS

#: Every topic that carries messages: the services' event streams and the journal.
STREAMS: tuple[str, ...] = (*EVENT_STREAMS, "decisions")

#: Events are the history that everything is rebuilt from: kept for ever and never compacted,
#: because compaction would leave only the last event of each workflow.
_KEEP_ALL = {"cleanup.policy": "delete", "retention.ms": "-1"}
#: Kafka compacts no segment that is still written to, and a recovery reads the changelog whole, so segments
#: are closed after a minute or 16 MiB, and compacted when a quarter of them is out of date.
_KEEP_LATEST = {
    "cleanup.policy": "compact",
    "segment.ms": "60000",
    "segment.bytes": str(16 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.25",
}
#: The settings without which events or states would be lost; the others only cost time.
VITAL_SETTINGS = frozenset({"cleanup.policy", "retention.ms"})


class Topics:
    """The topic names of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        #: The topic behind the ``workflow_runs`` table of the orchestrator's Faust app.
        self.changelog = f"{namespace}-orchestrator-workflow_runs-changelog"

    def stream(self, stream: str) -> str:
        """The topic of a stream: intents, payments, inventory, timers or decisions."""
        if stream not in STREAMS:
            raise KeyError(f"{stream!r} is no stream; one of {', '.join(STREAMS)}")
        return f"{self.namespace}.{stream}"

    def dlq(self, topic: str) -> str:
        """The dead-letter topic beside ``topic``."""
        return f"{topic}.dlq"

    def configs(self) -> dict[str, dict[str, str]]:
        """Every topic with the configuration it is created with."""
        streams = [self.stream(stream) for stream in STREAMS]
        kept = {name: _KEEP_ALL for stream in streams for name in (stream, self.dlq(stream))}
        return {**kept, self.changelog: _KEEP_LATEST}
