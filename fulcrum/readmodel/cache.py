"""The read model in Redis: what was read or written lately, never older than what it showed before.

One hash a workflow holds the newest run and every entry of its timeline that came by. Writers and
readers that fill it use one script that compares versions, and epochs before them: a swap of generations
begins an epoch, after which nothing from before is shown. Redis is never needed: whatever it does, a read
ends within its bound and Postgres answers instead.
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

# KEYS: the epoch, then one hash a workflow. ARGV, for each workflow: epoch, version, milliseconds to keep it,
# status, run, time, number of entries, then version and text of each entry. What was read before the last
# swap of generations changes nothing; what lies there from before it gives way to anything from after it.
_PUT = """
local now = tonumber(redis.call('GET', KEYS[1]) or '0')
local at = 1
for place = 2, #KEYS do
  local key = KEYS[place]
  local epoch, version, keep, status, run, time, count = unpack(ARGV, at, at + 6)
  epoch, at = tonumber(epoch), at + 7
  if epoch > now then
    now = epoch
    redis.call('SET', KEYS[1], epoch)
  end
  if epoch == now then
    if tonumber(redis.call('HGET', key, 'epoch') or '0') ~= epoch then
      redis.call('DEL', key)
    end
    for entry = at, at + 2 * count - 1, 2 do
      redis.call('HSETNX', key, 'entry:' .. ARGV[entry], ARGV[entry + 1])
    end
    if tonumber(redis.call('HGET', key, 'version') or '0') <= tonumber(version) then
      redis.call('HSET', key, 'version', version, 'status', status, 'run', run, 'as_of', time, 'epoch', epoch)
      redis.call('PEXPIRE', key, keep)
    end
  end
  at = at + 2 * count
end
"""

# KEYS: the epoch. ARGV: the new one.
_BEGIN_EPOCH = """
if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or '0') then
  redis.call('SET', KEYS[1], ARGV[1])
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
        self._epoch_key = f"{namespace}:epoch"
        self._known_epoch = 0
        self._put = redis.register_script(_PUT)
        self._begin_epoch = redis.register_script(_BEGIN_EPOCH)
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
                # At one instant, so that no swap comes between them.
                async with self._redis.pipeline(transaction=True) as pipeline:
                    pipeline.get(self._epoch_key)
                    pipeline.hgetall(self._prefix + workflow_id)
                    epoch, found = await pipeline.execute()
            self._known_epoch = max(self._known_epoch, int(epoch or 0))
            return _read(workflow_id, cast("dict[bytes, bytes]", found), self._known_epoch)
        except (RedisError, OSError, TimeoutError, ValueError, KeyError) as error:
            self._failed("get", error)
            return None

    async def put_many(self, views: Sequence[View], within: float = WRITE_WITHIN) -> None:
        """Keep the views that are not older than what is here, each 100 of them within ``within`` seconds.

        A failure is logged and forgotten.
        """
        self._known_epoch = max(self._known_epoch, *(view.epoch for view in views), 0)
        try:
            for start in range(0, len(views), _CHUNK):
                chunk = views[start : start + _CHUNK]
                async with asyncio.timeout(within):
                    await self._put(
                        keys=[self._epoch_key, *(self._prefix + view.workflow_id for view in chunk)],
                        args=list(_arguments(chunk)),
                    )
        except (RedisError, OSError, TimeoutError) as error:
            self._failed("put", error)

    async def begin_epoch(self, epoch: int) -> bool:
        """Show nothing from before ``epoch`` any more; False when Redis did not hear it."""
        self._known_epoch = max(self._known_epoch, epoch)
        try:
            async with asyncio.timeout(WRITE_WITHIN):
                await self._begin_epoch(keys=[self._epoch_key], args=[epoch])
        except (RedisError, OSError, TimeoutError) as error:
            self._failed("begin epoch", error)
            return False
        return True

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
        yield view.epoch
        yield from (view.version, int(keep * 1000), view.status, view.run, now, len(view.entries))
        for version, entry in view.entries.items():
            yield from (version, entry)


def _read(workflow_id: str, found: dict[bytes, bytes], since_epoch: int) -> Cached | None:
    if b"version" not in found or int(found[b"epoch"]) < since_epoch:
        return None
    entries = {int(name[6:]): text.decode() for name, text in found.items() if name.startswith(b"entry:")}
    view = View(
        workflow_id=workflow_id,
        version=int(found[b"version"]),
        status=found[b"status"].decode(),
        run=found[b"run"].decode(),
        entries=entries,
        epoch=int(found[b"epoch"]),
    )
    return Cached(view, datetime.fromisoformat(found[b"as_of"].decode())) if view.complete else None
