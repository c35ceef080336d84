"""Does everything hold that must hold? Checked from the outside, on a system that has come to rest.

What is looked at is what users trust: the services' tables, the whole of Kafka, the provider's own log of
effects, the queues, and Redis. Nothing is asked of the roles themselves.
"""

from __future__ import annotations

import asyncio

from fulcrum.doctor import in_between, in_journal, in_postgres
from fulcrum.doctor.violation import Env, Violation
from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings
from fulcrum.wire.codec import open_codec

__all__ = ["Env", "Violation", "at_rest", "check_all", "settings_of"]

#: Where the parts that are looked at are found.
ADDRESSES = (
    "FULCRUM_POSTGRES_DSN",
    "FULCRUM_KAFKA_BOOTSTRAP",
    "FULCRUM_RABBITMQ_URL",
    "FULCRUM_REDIS_URL",
    "FULCRUM_REGISTRY_URL",
    "FULCRUM_PSP_URL",
)
_RESTING = ("every intent has ended", "outboxes are empty")


def settings_of(env: Env) -> Settings:
    """The settings of the system of ``env``; Misconfigured names the addresses that are missing."""
    missing = [name for name in ADDRESSES if not env.get(name)]
    if missing:
        raise Misconfigured(
            f"{', '.join(missing)}: not set, so it is not known where to look; `fulcrum stack env` prints "
            "the servers' addresses, and the payment provider's is that of its role"
        )
    given = {name.removeprefix("FULCRUM_").lower(): value for name, value in env.items()}
    return Settings(**{k: v for k, v in given.items() if k in Settings.model_fields})  # type: ignore[arg-type]


def at_rest(env: Env) -> bool:
    """Whether nothing is on its way any more, as far as Postgres knows: a quick look before the others."""
    return not in_postgres.violations(env, _RESTING)


async def check_all(env: Env) -> list[Violation]:
    """Everything that is wrong; an empty list when all holds.

    ``env`` holds the FULCRUM_* addresses and FULCRUM_NAMESPACE of the system. Checks that cannot be carried
    out raise: what was not looked at does not hold.
    """
    env = {"FULCRUM_NAMESPACE": "fulcrum", **env}
    codec = await open_codec(settings_of(env))
    found = await asyncio.to_thread(in_postgres.violations, env)
    found += await asyncio.to_thread(in_between.provider, env)
    found += await asyncio.to_thread(in_between.cache, env)
    found += await in_between.queues(env)
    found += await asyncio.to_thread(in_journal.violations, env, codec)
    return found
