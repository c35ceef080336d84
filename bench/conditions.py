"""Under which conditions was measured: machine, versions, settings, and what the servers say of themselves?

Whether data is safe is asked of the servers, not taken from what they were meant to be told.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from importlib.metadata import version
from typing import Any

import aio_pika
import psutil
import psycopg2
import redis
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from fulcrum.settings import Settings
from fulcrum.wire.topics import Topics

_CALIBRATION = 2_000_000
_WITHIN = 15.0
_PACKAGES = ("fulcrum", "faust-streaming", "aiokafka", "aio-pika", "aiopg", "confluent-kafka", "uvloop")
_SETTINGS = ("namespace", "partitions", "replication", "concurrency", "batch_size", "log_level")
_POSTGRES = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
_TOPIC = ("min.insync.replicas", "flush.messages", "unclean.leader.election.enable")


async def conditions(settings: Settings) -> dict[str, Any]:
    """What the figures depend on and what stays as it is during a run."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "settings": {name: getattr(settings, name) for name in _SETTINGS},
        "postgres": await asyncio.to_thread(_postgres, settings),
        "kafka": await asyncio.to_thread(_kafka, settings),
        "rabbitmq": await _rabbitmq(settings),
        "redis": await asyncio.to_thread(_redis, settings),
    }


def strain() -> dict[str, float]:
    """How busy and how fast the machine is just now: load average, and seconds for a fixed loop."""
    return {"load_average": round(os.getloadavg()[0], 2), "calibration_s": round(_calibrate(), 4)}


def _calibrate() -> float:
    began, total = time.perf_counter(), 0
    for number in range(_CALIBRATION):
        total += number
    return time.perf_counter() - began


def _postgres(settings: Settings) -> dict[str, str]:
    connection = psycopg2.connect(settings.postgres_dsn)
    try:
        with connection.cursor() as cursor:
            found = {}
            for name in _POSTGRES:
                cursor.execute(f"SHOW {name}")
                row = cursor.fetchone()
                assert row is not None
                found[name] = str(row[0])
            return found
    finally:
        connection.close()


def _kafka(settings: Settings) -> dict[str, Any]:
    """Of the decisions topic; its producers wait for all in-sync replicas. No flush is the default: a record
    that a broker has acknowledged lies in its page cache, which outlives a killed broker, not a lost host."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    resource = ConfigResource("TOPIC", Topics(settings.namespace).stream("decisions"))
    (future,) = admin.describe_configs([resource], request_timeout=_WITHIN).values()
    values = future.result(_WITHIN)
    brokers = len(admin.list_topics(timeout=_WITHIN).brokers)
    return {"brokers": brokers, "acks": "all", **{name: values[name].value for name in _TOPIC}}


async def _rabbitmq(settings: Settings) -> dict[str, str]:
    async with await aio_pika.connect(settings.rabbitmq_url, timeout=_WITHIN) as connection:
        transport = connection.transport
        assert transport is not None
        said = transport.connection.server_properties
        return {"version": str(said["version"]), "queues": "quorum, persistent, confirmed"}


def _redis(settings: Settings) -> dict[str, str]:
    with redis.Redis.from_url(settings.redis_url) as cache:
        return {"version": str(cache.info("server")["redis_version"]), "used_as": "cache"}
