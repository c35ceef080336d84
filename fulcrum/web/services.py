"""What the handlers work with, and how it comes up while the servers it needs are still starting.

Intake listens from the first moment. Postgres and the registry are waited for; until they are there,
requests that need them are answered 503. Redis and RabbitMQ are used when they are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import Unavailable
from fulcrum.operations.editing import Editor
from fulcrum.readmodel.cache import Cache
from fulcrum.saga.messages import (
    CancelRequested,
    IntentCreated,
    OperatorRequested,
    ReceiveStock,
    SignalReceived,
)
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.store.migrate import require_current
from fulcrum.telemetry.startup import patiently
from fulcrum.web.stream import IntakeStream
from fulcrum.web.watchers import Watchers
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.topics import Topics

_CONNECT_WITHIN = 3.0
_PING_EVERY, _PING_WITHIN = 2.0, 1.0


class Services:
    """The connections of one intake process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topics = Topics(settings.namespace)
        self.cache = Cache.open(settings)
        self.watchers = Watchers(lambda: self.db)
        self._db: Database | None = None
        self._codec: Codec | None = None
        self._publisher: CommandPublisher | None = None
        self._publisher_opening = asyncio.Lock()
        self._database_answers = False
        self.editor = Editor(settings)
        #: Tells the runner of this process that an operation was stored.
        self.wake: Callable[[], None] = lambda: None

    @property
    def db(self) -> Database:
        """Postgres; Unavailable until it was there once."""
        if self._db is None:
            raise Unavailable("Postgres does not answer yet; repeat the request shortly")
        return self._db

    @property
    def codec(self) -> Codec:
        """The schemas; Unavailable until the registry was there once."""
        if self._codec is None:
            raise Unavailable("The schema registry does not answer yet; repeat the request shortly")
        return self._codec

    @property
    def stream(self) -> IntakeStream:
        """Intake's own events; Unavailable until the registry was there once."""
        return IntakeStream(self.topics, self.codec)

    async def publisher(self) -> CommandPublisher:
        """RabbitMQ, connected when first needed; Unavailable when it does not answer in time."""
        try:
            async with asyncio.timeout(_CONNECT_WITHIN), self._publisher_opening:
                if self._publisher is None:
                    self._publisher = await CommandPublisher.open(self.settings, "intake")
                return self._publisher
        except TimeoutError as error:
            raise Unavailable(f"RabbitMQ did not answer within {_CONNECT_WITHIN:g} s") from error

    async def open(self) -> None:
        """Wait for Postgres and the registry. Misconfigured when one of them lacks what is needed."""
        self._db = await patiently("postgres", self._open_database)
        self._database_answers = True
        self._codec = await patiently("registry", self._open_codec)

    def checks(self) -> dict[str, bool]:
        """What must hold for this process to take requests."""
        return {"postgres": self._database_answers, "registry": self._codec is not None}

    async def watch(self) -> None:
        """Keep what ``checks`` says of Postgres up to date, for ever."""
        while True:
            # No timeout around it: the client library may lose a cancellation (before Python 3.12).
            ping = asyncio.create_task(self._ping())
            done, _ = await asyncio.wait({ping}, timeout=_PING_WITHIN)
            self._database_answers = bool(done) and ping.result()
            ping.cancel()
            await asyncio.sleep(_PING_EVERY)

    async def _ping(self) -> bool:
        try:
            await self.db.ping()
        except Unavailable:
            return False
        return True

    async def close(self) -> None:
        """Close every connection."""
        await self.watchers.close()
        if self._publisher is not None:
            await self._publisher.close()
        await self.cache.close()
        if self._db is not None:
            await self._db.close()

    async def _open_database(self) -> Database:
        db = await Database.open(self.settings.postgres_dsn, application_name="fulcrum-intake", wait=0)
        try:
            await require_current(db)
        except BaseException:
            await db.close()
            raise
        return db

    async def _open_codec(self) -> Codec:
        sent = (IntentCreated, CancelRequested, OperatorRequested, SignalReceived, ReceiveStock)
        return await open_codec(self.settings, sent)
