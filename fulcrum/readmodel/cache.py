"""The read model in Redis: what was read or written lately, never older than what it showed before.

One hash a workflow holds the newest run and every entry of its timeline that came by. Writers and
readers that fill it use one script that compares versions. Redis is never needed: whatever it does,
a read ends within its bound and Postgres answers instead.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, cast

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from fulcrum.readmodel.projection import FINAL, timestamp
from fulcrum.readmodel.view import View
from fulcrum.settings import Settings
from fulcrum.telemetry import metrics

log = structlog.get_logger()

READ_WITHIN = 0.05
WRITE_WITHIN = 0.25
#: After a failure reads leave Redis alone for this long, so that a hanging one costs few of them 50 ms.
_REST = 1.0
#: A finished run keeps for an hour. A live one only shortly: should the write of its next version be
#: lost with Redis, this is how long the cache can lag behind.
_KEEP_FINISHED, _KEEP_LIVE = 3600.0, 30.0
_JITTER = 0.1
_CHUNK = 100

# KEYS: one hash a workflow. ARGV, for each key: version, milliseconds to keep it, status, run, time,
# number of entries, then version and text of each entry.
_PUT = """
local at = 1
for _, key in ipairs(KEYS) do
  local version, keep, status, run, time, count = unpack(ARGV, at, at + 5)
  at = at + 6
  for _ = 1, tonumber(count) do
    redis.call('HSETNX', key, 'entry:' .. ARGV[at], ARGV[at + 1])
    at = at + 2
  end
  if tonumber(redis.call('HGET', key, 'version') or '0') <= tonumber(version) then
    redis.call('HSET', key, 'version', version, 'status', status, 'run', run, 'as_of', time)
    redis.call('PEXPIRE', key, keep)
  end
end
"""


@dataclass(frozen=True, slots=True)
class Cached:
    """A complete view, and when it was put here."""

    view: View
    as_of: datetime


class Cache:
    """Redis as a cache of workflows. No method raises because of Redis."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._prefix = f"{namespace}:run:"
        self._put = redis.register_script(_PUT)
        self._rest_until = 0.0

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """A cache at ``settings.redis_url``. Connects when first used."""
        redis = Redis.from_url(
            settings.redis_url,
            socket_connect_timeout=WRITE_WITHIN,
            socket_timeout=WRITE_WITHIN,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(redis, settings.namespace)

    @property
    def usable(self) -> bool:
        """False for a while after Redis failed."""
        return time.monotonic() >= self._rest_until

    async def get(self, workflow_id: str) -> Cached | None:
        """The workflow if its whole timeline is here; None within 50 ms otherwise."""
        if not self.usable:
            return None
        try:
            async with asyncio.timeout(READ_WITHIN):
                found = await self._redis.hgetall(self._prefix + workflow_id)
            return _read(workflow_id, cast("dict[bytes, bytes]", found))
        except (RedisError, OSError, TimeoutError, ValueError, KeyError) as error:
            self._failed("get", error)
            return None

    async def put_many(self, views: Sequence[View], within: float = WRITE_WITHIN) -> None:
        """Keep the views that are not older than what is here, each 100 of them within ``within`` seconds.

        A failure is logged and forgotten.
        """
        try:
            for start in range(0, len(views), _CHUNK):
                chunk = views[start : start + _CHUNK]
                async with asyncio.timeout(within):
                    await self._put(
                        keys=[self._prefix + view.workflow_id for view in chunk], args=list(_arguments(chunk))
                    )
        except (RedisError, OSError, TimeoutError) as error:
            self._failed("put", error)

    async def ping(self) -> bool:
        """True when Redis answers at once."""
        try:
            async with asyncio.timeout(READ_WITHIN):
                return bool(await self._redis.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _failed(self, act: str, error: Exception) -> None:
        metrics.cache_errors.inc()
        if self.usable:
            log.warning("cache.failed", act=act, error=f"{type(error).__name__}: {error}", rest=_REST)
        self._rest_until = time.monotonic() + _REST


def _arguments(views: Iterable[View]) -> Iterable[Any]:
    now = timestamp(datetime.now(UTC))
    for view in views:
        keep = _KEEP_FINISHED if view.status in FINAL else _KEEP_LIVE
        keep *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads expiry, guards nothing
        yield from (view.version, int(keep * 1000), view.status, view.run, now, len(view.entries))
        for version, entry in view.entries.items():
            yield from (version, entry)


def _read(workflow_id: str, found: dict[bytes, bytes]) -> Cached | None:
    if b"version" not in found:
        return None
    entries = {int(name[6:]): text.decode() for name, text in found.items() if name.startswith(b"entry:")}
    view = View(
        workflow_id=workflow_id,
        version=int(found[b"version"]),
        status=found[b"status"].decode(),
        run=found[b"run"].decode(),
        entries=entries,
    )
    return Cached(view, datetime.fromisoformat(found[b"as_of"].decode())) if view.complete else None
