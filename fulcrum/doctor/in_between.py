"""Do those agree that Fulcrum does not own: the payment provider, the cache, the queues?"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import aio_pika
import redis

from fulcrum.commands.retry import LEVELS
from fulcrum.commands.topology import Topology
from fulcrum.doctor.in_postgres import BY_HAND, rows
from fulcrum.doctor.shipped import ships
from fulcrum.doctor.violation import Env, Violation
from fulcrum.saga.messages import SERVICES

_HTTP_WITHIN = 30.0
#: A live run may stay in the cache for so long (milliseconds) after its next version was lost with Redis.
_LAPSES_SOON = 35_000


def provider(env: Env) -> list[Violation]:
    """One effect per key, nothing outside a run, and it has exactly what the runs say it does."""
    url = f"{env['FULCRUM_PSP_URL']}/v1/effects"
    with urllib.request.urlopen(url, timeout=_HTTP_WITHIN) as answer:  # noqa: S310
        effects = json.load(answer)["effects"]
    query = f"""SELECT workflow_id::text, status, amount_minor, currency, {BY_HAND} AS by_hand,
                       {ships("r")} AS ships
                FROM read_model.workflow_runs r"""  # noqa: S608 - both parts are constants
    return effect_faults(effects, {row["workflow_id"]: row for row in rows(env, query)})


def effect_faults(
    effects: Iterable[Mapping[str, Any]], runs: Mapping[str, Mapping[str, Any]]
) -> list[Violation]:
    """What is wrong with the provider's ``effects``, given the final ``runs`` by workflow."""
    keys: Counter[str] = Counter()
    done: dict[str, Counter[str]] = defaultdict(Counter)
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    amounts: dict[str, tuple[int, str]] = {}
    for effect in effects:
        keys[effect["key"]] += 1
        done[effect["reference"]][effect["kind"]] += 1
        sums[effect["reference"]][effect["kind"]] += effect["amount_minor"]
        if effect["kind"] == "authorize":
            amounts[effect["reference"]] = (effect["amount_minor"], effect["currency"])
    found = [Violation("one effect per key", key, f"{n} effects") for key, n in keys.items() if n > 1]
    found += [
        Violation("the provider acts for runs only", workflow, _counted(done[workflow]))
        for workflow in sorted(done.keys() - runs.keys())
    ]
    for workflow, money in sums.items():
        if not money["refund"] <= money["capture"] <= money["authorize"]:
            detail = ", ".join(f"{kind} {money[kind]}" for kind in ("authorize", "capture", "refund"))
            found.append(Violation("the provider takes no more than it held", workflow, detail))
    for workflow, run in runs.items():
        kinds = done[workflow]
        given_back = 0 < sums[workflow]["capture"] == sums[workflow]["refund"]
        held = kinds["authorize"] - kinds["void"] - given_back
        kept = run["status"] == "completed"
        wrong = held != kept or (kept and run.get("ships") and not kinds["capture"])
        wrong = wrong and not run.get("by_hand")
        if kinds["authorize"] > 1 or wrong:
            detail = f"{run['status']}: {_counted(kinds)}"
            found.append(Violation("the provider holds what the run says", workflow, detail))
        if workflow in amounts and amounts[workflow] != (run["amount_minor"], run["currency"]):
            found.append(Violation("the amount is the intent's", workflow, str(amounts[workflow])))
    return found


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())) or "nothing"


def cache(env: Env) -> list[Violation]:
    """The cache may lack a run, but what it shows is what the database has."""
    prefix = f"{env['FULCRUM_NAMESPACE']}:run:"
    with redis.Redis.from_url(env["FULCRUM_REDIS_URL"]) as client:
        cached = {
            key.decode().removeprefix(prefix): (int(client.hget(key, "version") or 0), int(client.pttl(key)))
            for key in client.scan_iter(f"{prefix}*", count=1000)
        }
    stored = rows(env, "SELECT workflow_id::text, version FROM read_model.workflow_runs")
    return cache_faults(cached, {row["workflow_id"]: row["version"] for row in stored})


def cache_faults(cached: Mapping[str, tuple[int, int]], stored: Mapping[str, int]) -> list[Violation]:
    """What is wrong with what is ``cached`` (version, milliseconds left), given the ``stored`` versions."""
    found = []
    for workflow, (version, kept) in cached.items():
        detail = f"cached {version}, stored {stored.get(workflow, 0)}"
        if version > stored.get(workflow, 0):
            found.append(Violation("the cache is never ahead", workflow, detail))
        elif 0 < version < stored[workflow] and kept > _LAPSES_SOON:
            found.append(Violation("the cache is not left behind", workflow, detail))
    return found


async def queues(env: Env) -> list[Violation]:
    """No command waits: not for its service, not for a retry, not to be taken aside."""
    names = Topology(env["FULCRUM_NAMESPACE"])
    wanted = [
        *(names.queue(service) for service in SERVICES),
        *(names.retry(level.name) for level in LEVELS),
        *(names.parked_queue(service) for service in SERVICES),
    ]
    found = []
    async with await aio_pika.connect(env["FULCRUM_RABBITMQ_URL"], timeout=_HTTP_WITHIN) as connection:
        channel = await connection.channel()
        for name in wanted:
            queue = await channel.declare_queue(name, passive=True)
            if waiting := queue.declaration_result.message_count:
                found.append(Violation("no command waits", name, f"{waiting} messages"))
    return found
