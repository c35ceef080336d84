"""Do those agree that Fulcrum does not own, while it works: the provider, the cache, the queues?"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aio_pika
import redis

from fulcrum.commands.topology import Topology
from fulcrum.doctor.findings import Fault, Finding, State, found
from fulcrum.doctor.in_between import cache_faults, effect_faults
from fulcrum.saga.messages import SERVICES
from fulcrum.settings import Settings

_WITHIN = 5.0
#: Workflows about which the provider is asked, one request each.
ASKED = 20

Runs = Mapping[str, Mapping[str, Any]]


def effects_of(settings: Settings, workflows: Sequence[str]) -> list[dict[str, Any]]:
    """What the provider did for these workflows."""
    found = []
    for workflow in workflows[:ASKED]:
        url = f"{settings.psp_url}/v1/effects?reference={quote(workflow)}"
        with urllib.request.urlopen(url, timeout=_WITHIN) as answer:  # noqa: S310 - an http address of ours
            found += json.load(answer)["effects"]
    return found


def provider(effects: Sequence[Mapping[str, Any]], runs: Runs) -> Finding:
    """One effect per key, and it holds what the finished ``runs`` say."""
    faults = [Fault(each.subject, each.check, each.detail) for each in effect_faults(effects, runs)]
    return found("the provider holds what the runs say", 4, len(runs), faults)


def cached_versions(settings: Settings, workflows: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Version and milliseconds left of each workflow that is cached.

    Read it *before* the database, which is written first.
    """
    prefix = f"{settings.namespace}:run:"
    with redis.Redis.from_url(
        settings.redis_url, socket_timeout=_WITHIN, socket_connect_timeout=_WITHIN
    ) as client:
        pipeline = client.pipeline(transaction=False)
        for workflow in workflows:
            pipeline.hget(prefix + workflow, "version")
            pipeline.pttl(prefix + workflow)
        answers = pipeline.execute()
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return {
        workflow: (int(version), int(kept))
        for workflow, (version, kept) in zip(workflows, pairs, strict=True)
        if version is not None
    }


def cache(cached: Mapping[str, tuple[int, int]], runs: Runs) -> Finding:
    """What the cache shows is what the database has, unless the run has just changed."""
    stored = {workflow: int(run["version"]) for workflow, run in runs.items()}
    faults = [
        Fault(each.subject, each.check, each.detail)
        for each in cache_faults(cached, stored)
        if not runs.get(each.subject, {}).get("fresh")
    ]
    return found("the cache shows what is stored", 6, len(cached), faults)


async def queues(settings: Settings) -> Finding:
    """Commands, or messages to be parked, that wait while nobody is there to take them."""
    names = Topology(settings.namespace)
    wanted = [name(service) for service in SERVICES for name in (names.queue, names.parked_queue)]
    faults = []
    async with await aio_pika.connect(settings.rabbitmq_url, timeout=_WITHIN) as connection:
        channel = await connection.channel()
        for name in wanted:
            answer = (await channel.declare_queue(name, passive=True)).declaration_result
            if answer.message_count and not answer.consumer_count:
                detail = f"{answer.message_count} messages, no consumer"
                faults.append(Fault(name, "nobody takes them", detail))
    return found("somebody takes every command", 5, len(wanted), faults, State.ATTENTION)
