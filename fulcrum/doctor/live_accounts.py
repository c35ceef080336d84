"""Is every command that was published handled, parked or queued, on a system that is at work?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fulcrum.commands.balance import Depths, Steady, missing
from fulcrum.commands.depth import depths
from fulcrum.commands.standing import overdue_statement
from fulcrum.doctor.findings import Fault, Finding, found
from fulcrum.doctor.live_postgres import Scope, connect
from fulcrum.settings import Settings
from fulcrum.store.relations import SCHEMA_OF
from fulcrum.store.statements import compiled
from fulcrum.wire.reading import committed
from fulcrum.wire.topics import Topics

ACCOUNTS = ("every published command is handled, parked or queued", 5)
#: A command that is about to be handled may be missed by one look, not by two so many seconds apart.
_LOOKS, _BETWEEN = 2, 1.0


@dataclass(frozen=True, slots=True)
class Overdue:
    """A command that has not come back; ``partition`` and ``offset`` are those of its decision."""

    command_id: str
    type: str
    workflow_id: str | None
    partition: int | None
    offset: int | None
    decided_at: datetime
    since: datetime | None

    def published(self, bridge_at: Mapping[int, int]) -> bool:
        """Whether RabbitMQ had it, when the bridge stands at these offsets."""
        if self.since is not None or self.partition is None or self.offset is None:
            return True
        return self.offset < bridge_at.get(self.partition, 0)


async def accounts(settings: Settings, scope: Scope) -> Finding:
    """Names the oldest overdue commands, as many as there are fewer messages on the queues than commands."""
    steady = Steady(_LOOKS)
    for look in range(_LOOKS):
        if look:
            await asyncio.sleep(_BETWEEN)
        late = await asyncio.to_thread(_overdue, settings, scope.grace)
        if not any(late.values()):
            return found(*ACCOUNTS, 0, [])
        waiting = Depths.of(await depths(settings))
        lost = steady.after(missing({service: len(each) for service, each in late.items()}, waiting))
    queued = sum(waiting.own.values()) + waiting.retry
    faults = [fault for service in late for fault in _faults(service, late[service], lost[service], queued)]
    return found(*ACCOUNTS, sum(map(len, late.values())), faults)


def _faults(service: str, late: Sequence[Overdue], lost: int, queued: int) -> list[Fault]:
    among = "" if lost == len(late) else f", one of {len(late)} with {queued} messages on the queues"
    return [
        Fault(
            each.command_id,
            f"{service}: missing",
            f"{each.type} of workflow {each.workflow_id} since {each.since or each.decided_at}{among}",
        )
        for each in late[:lost]
    ]


def _overdue(settings: Settings, grace: float) -> dict[str, list[Overdue]]:
    connection = connect(settings.postgres_dsn)
    try:
        with connection.cursor() as cursor:
            late: dict[str, list[Overdue]] = {}
            for service in SCHEMA_OF:
                cursor.execute(*compiled(overdue_statement(service), {"grace": grace}))
                late[service] = [Overdue(*row) for row in cursor.fetchall()]
    finally:
        connection.close()
    return _published(settings, late)


def _published(settings: Settings, late: Mapping[str, Sequence[Overdue]]) -> dict[str, list[Overdue]]:
    """Those of ``late`` that the bridge has published; Kafka is asked when Postgres does not know."""
    bridge_at: dict[int, int] = {}
    if any(each.since is None for rows in late.values() for each in rows):
        namespace = settings.namespace
        topic = Topics(namespace).stream("decisions")
        bridge_at = committed(settings, f"{namespace}-orchestrator", topic)
    return {service: [each for each in rows if each.published(bridge_at)] for service, rows in late.items()}
