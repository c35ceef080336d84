"""How do the tests run Fulcrum? All roles under the supervisor, with names and a database of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from brokers import Ends, Kafka
from eventually import eventually_async

from bench.leftovers import remove_queues, remove_topics
from fulcrum.localstack import Stack
from fulcrum.localstack.postgres import create_database
from fulcrum.localstack.running import Running, running
from fulcrum.localstack.supervisor import RoleProcess
from fulcrum.saga.messages import EVENT_STREAMS, DecisionMade
from fulcrum.settings import Settings
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.topics import Topics

#: Short waits, so that a test that provokes retries takes no longer than others.
_QUICK = {
    "FULCRUM_RETRY_UNIT": "0.02",
    "FULCRUM_PSP_TIMEOUT": "1.0",
    "FULCRUM_WAREHOUSE_PACE": "0.05",
    "FULCRUM_WAREHOUSE_POLL_INTERVAL": "0.3",
    "FULCRUM_COURIER_PACE": "0.2",
    "FULCRUM_COURIER_POLL": "3",
    "FULCRUM_COURIER_POLL_INTERVAL": "1",
    "FULCRUM_LOG_FORMAT": "json",
}
_RESTARTED_WITHIN = 45.0


@dataclass(frozen=True)
class System:
    """Every role of one namespace, and the servers that it shares with others."""

    stack: Stack
    namespace: str
    running: Running
    kafka: Kafka
    codec: Codec

    @property
    def env(self) -> Mapping[str, str]:
        """What a client or a command-line tool needs."""
        return self.running.env

    @property
    def psp(self) -> str:
        """Address of the payment provider."""
        return self.env["FULCRUM_PSP_URL"]

    @cached_property
    def topics(self) -> Topics:
        """Names on Kafka."""
        return Topics(self.namespace)

    @cached_property
    def events(self) -> list[str]:
        """The event topics."""
        return [self.topics.stream(stream) for stream in EVENT_STREAMS]

    @property
    def decisions(self) -> str:
        """The topic of the journal."""
        return self.topics.stream("decisions")

    # --- roles ------------------------------------------------------------------------------------

    def role(self, name: str) -> RoleProcess:
        """One role's process."""
        return self.running.supervisor.roles[name]

    def kill(self, name: str) -> int:
        """``kill -9``; returns how often the role had been restarted before."""
        restarts = self.role(name).restarts
        self.running.supervisor.kill(name)
        return restarts

    async def until_back(self, name: str, restarts: int) -> None:
        """Wait until the supervisor has started the killed role again, once, and it is ready."""
        role = self.role(name)

        async def back() -> bool:
            return role.restarts > restarts and await asyncio.to_thread(role.answers)

        def state() -> str:
            return (
                f"{role.name} was restarted {role.restarts - restarts} times\n{role.log.read_text()[-3000:]}"
            )

        await eventually_async(back, within=_RESTARTED_WITHIN, state=state)

    async def stop(self, name: str) -> None:
        """End a role, so that it stays away until ``start``."""
        await asyncio.to_thread(self.running.supervisor.stop, name)

    async def start(self, name: str) -> None:
        """Start a stopped role as it was, and wait until it is ready."""
        env = self.role(name).env
        role = await asyncio.to_thread(self.running.supervisor.start, name, env=env)

        async def ready() -> bool:
            return await asyncio.to_thread(role.answers)

        await eventually_async(ready, within=_RESTARTED_WITHIN, state=lambda: role.log.read_text()[-3000:])

    async def until_all_ready(self) -> None:
        """Wait until every role says that it is ready."""
        roles = [role for role in self.running.supervisor.roles.values() if role.wanted]

        async def unready() -> list[str]:
            ready = await asyncio.gather(*(asyncio.to_thread(role.answers) for role in roles))
            return [role.name for role, answer in zip(roles, ready, strict=True) if not answer]

        async def all_ready() -> bool:
            return not await unready()

        await eventually_async(all_ready, within=_RESTARTED_WITHIN, state=unready)

    async def until_idle(self, within: float = 30) -> None:
        """Wait until every event and every decision is finished by everybody who reads it."""

        def behind() -> dict[Any, int]:
            groups = {
                f"{self.namespace}-orchestrator": [*self.events, self.decisions],
                f"{self.namespace}-projector": [self.decisions],
            }
            return {
                (group, *place): left
                for group, topics in groups.items()
                for place, left in self.kafka.behind(group, topics).items()
            }

        async def idle() -> bool:
            return not await asyncio.to_thread(behind)

        await eventually_async(idle, within=within, state=behind)

    def log_lines(self, name: str) -> list[dict[str, Any]]:
        """A role's JSON log lines so far."""
        lines = self.role(name).log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def journal(self, since: Ends) -> list[DecisionMade]:
        """Every decision recorded since then, repeats included; in order for each workflow."""
        records = await asyncio.to_thread(self.kafka.read, [self.decisions], since)
        decisions = [self.codec.decode(record.value) for record in records]
        return [decision for decision in decisions if isinstance(decision, DecisionMade)]

    # --- command line -----------------------------------------------------------------------------

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``fulcrum`` as a person would, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "fulcrum", *arguments],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    # --- dead letters -----------------------------------------------------------------------------

    def dead_letters(self) -> int:
        """How many records lie in the dead-letter topics."""
        return self.kafka.count(self.topics.dlq(topic) for topic in (*self.events, self.decisions))


def settings_of(env: Mapping[str, str]) -> Settings:
    """The settings that a process with this environment has."""
    names = {f"FULCRUM_{name.upper()}": name for name in Settings.model_fields}
    return Settings(**{names[name]: value for name, value in env.items() if name in names})


@contextmanager
def deployed(stack: Stack, name: str, **limits: str) -> Iterator[System]:
    """A system of its own on ``stack``; ``limits`` are environment variables of its roles."""
    namespace = f"{name}-{uuid4().hex[:8]}"
    addresses = stack.up(print)
    database = namespace.replace("-", "_")
    create_database(addresses["FULCRUM_POSTGRES_DSN"], database)
    dsn = urlsplit(addresses["FULCRUM_POSTGRES_DSN"])
    env = {**_QUICK, "FULCRUM_POSTGRES_DSN": urlunsplit(dsn._replace(path=f"/{database}")), **limits}
    named = {**addresses, "FULCRUM_NAMESPACE": namespace}
    with running(stack, say=print, namespace=namespace, env=env) as found:
        kafka = Kafka(found.env["FULCRUM_KAFKA_BOOTSTRAP"])
        try:
            yield System(stack, namespace, found, kafka, asyncio.run(open_codec(settings_of(found.env))))
        finally:
            kafka.close()
    remove_topics(named)
    asyncio.run(remove_queues(named))
