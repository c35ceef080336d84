"""Is every command that was published handled, parked or queued? Asked again and again, for a metric.

Runs in the projector's process, which has the database that the question needs. A healthy system is asked in
Postgres alone; Kafka and RabbitMQ are asked when a command has not come back in time.
"""

from __future__ import annotations

import asyncio
import time

import faust
import structlog

from fulcrum.commands import standing
from fulcrum.commands.balance import Depths, Steady, missing
from fulcrum.commands.depth import depths
from fulcrum.errors import Retryable
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.relations import SCHEMA_OF
from fulcrum.telemetry import metrics
from fulcrum.wire.reading import committed
from fulcrum.wire.topics import Topics

log = structlog.get_logger()

#: Looks in a row that must agree before a command counts as lost.
_LOOKS = 3
#: A look may keep the database busy for this share of the time, however many commands are open.
_SHARE = 0.05
#: Seconds for one statement. Nobody waits for it.
_STATEMENT_WITHIN = 30.0
_NAMED = 5


class Accountant:
    """Settles the accounts of published commands and says how many are missing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._db: Database | None = None
        self._steady = Steady(_LOOKS)
        self._told: dict[str, int] = {}

    async def run(self) -> None:
        """Look, for ever. What cannot be seen now is seen later: no failure of it stops the projector."""
        while True:
            began = time.monotonic()
            try:
                await self.look()
            except Retryable as error:
                log.warning("accounts.not_seen", error=str(error))
            except Exception:
                log.exception("accounts.failed")
            took = time.monotonic() - began
            await asyncio.sleep(max(self._settings.accounts_interval, took / _SHARE))

    async def look(self) -> dict[str, int]:
        """Settle what came back, and count what did not: by service, the commands that are lost."""
        db = await self._database()
        metrics.commands_settled.inc(await standing.settle(db))
        stands = await self._standings(db)
        if any(each.unconfirmed for each in stands.values()):
            await self._confirm(db)
            stands = await self._standings(db)
        late = {service: each.overdue for service, each in stands.items()}
        seen = (
            missing(late, Depths.of(await depths(self._settings)))
            if any(late.values())
            else dict.fromkeys(late, 0)
        )
        lost = self._steady.after(seen)
        for service, each in stands.items():
            metrics.commands_open.labels(service).set(each.open)
            metrics.commands_unaccounted.labels(service).set(lost[service])
            if lost[service] != self._told.get(service, 0):
                await self._tell(db, service, lost[service])
                self._told[service] = lost[service]
        metrics.accounts_seen.set_to_current_time()
        return lost

    async def _standings(self, db: Database) -> dict[str, standing.Standing]:
        grace = self._settings.accounts_grace
        return {service: await standing.standing(db, service, grace) for service in SCHEMA_OF}

    async def _confirm(self, db: Database) -> None:
        namespace = self._settings.namespace
        decisions = Topics(namespace).stream("decisions")
        bridge_at = await asyncio.to_thread(committed, self._settings, f"{namespace}-orchestrator", decisions)
        await standing.confirm(db, bridge_at)

    async def _tell(self, db: Database, service: str, count: int) -> None:
        if not count:
            log.info("commands.accounted", service=service)
            return
        rows = await standing.overdue(db, service, self._settings.accounts_grace)
        ids = [row["command_id"] for row in rows if row["since"] is not None]
        log.error("commands.unaccounted", service=service, count=count, oldest=ids[:_NAMED])

    async def _database(self) -> Database:
        if self._db is None:
            self._db = await Database.open(
                self._settings.postgres_dsn,
                size=1,
                application_name="fulcrum-accounts",
                statement_timeout=_STATEMENT_WITHIN,
            )
        return self._db

    async def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            await self._db.close()


def add_accountant(app: faust.App, settings: Settings) -> None:
    """Let the accounts be settled while ``app`` runs."""
    accountant = Accountant(settings)
    app.task(accountant.run)

    @app.on_before_shutdown.connect
    async def close(*_: object, **__: object) -> None:
        await accountant.close()
