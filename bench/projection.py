"""How far is the read model behind the journal, under a steady load and when the system is saturated?

The whole system runs. Each decision is awaited twice: on its Kafka topic, and as a row of the timeline, for
which Postgres is asked every few milliseconds. A lag is from the time of the decision's record, which its
producer gave it, to the look that found the row: it is too long by up to one pause between two looks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BigInteger, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from bench.conditions import conditions, strain
from bench.figures import milliseconds
from bench.load import Ends, Generator, Load
from bench.run import settled
from fulcrum.doctor.invariants import settings_of
from fulcrum.readmodel.relations import timeline
from fulcrum.saga.definitions import DEFAULT_DEFINITION
from fulcrum.saga.messages import DecisionMade
from fulcrum.store.database import Database
from fulcrum.wire.codec import open_codec

#: Milliseconds that 99 of 100 decisions may take into the read model.
TARGETS: Mapping[str, float] = {"rate": 300.0, "users": 2000.0}
_LOOK_EVERY = 0.01
_SEEN_WITHIN = 60.0
_SKUS, _UNITS = 100, 1_000_000

_Key = tuple[str, int]


@dataclass(frozen=True)
class Plan:
    """Intents a second, then users that never pause; each for ``duration`` seconds after ``warmup``."""

    rate: float
    users: int
    duration: float
    warmup: float


class Lags:
    """When each decision was made, and how long the read model took to have it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._open: dict[_Key, float] = {}
        self.found: list[float] = []
        wanted = (
            func.unnest(
                bindparam("ids", type_=ARRAY(UUID(as_uuid=False))),
                bindparam("versions", type_=ARRAY(BigInteger)),
            )
            .table_valued("workflow_id", "version")
            .render_derived()
        )
        self._look = select(timeline.c.workflow_id, timeline.c.version).join(
            wanted,
            (timeline.c.workflow_id == wanted.c.workflow_id) & (timeline.c.version == wanted.c.version),
        )

    def note(self, decision: DecisionMade, made: float) -> None:
        """A decision came by, whose record was made at ``made``."""
        self._open.setdefault((decision.workflow_id, decision.version), made)

    async def watch(self, over: asyncio.Event) -> None:
        """Look until ``over`` and nothing is open any more; what never comes stays open."""
        deadline: float | None = None
        while not over.is_set() or self._open:
            await asyncio.sleep(_LOOK_EVERY)
            if self._open:
                await self._look_once()
            if over.is_set():
                deadline = deadline or time.monotonic() + _SEEN_WITHIN
                if time.monotonic() > deadline:
                    return

    async def _look_once(self) -> None:
        keys = list(self._open)
        parameters = {"ids": [key[0] for key in keys], "versions": [key[1] for key in keys]}
        rows = await self._db.all(self._look, parameters)
        now = time.time()
        for row in rows:
            self.found.append(now - self._open.pop((row["workflow_id"], row["version"])))

    @property
    def missing(self) -> int:
        """Decisions that the read model does not have yet."""
        return len(self._open)


async def measure(plan: Plan, env: Mapping[str, str], say: Callable[[str], None]) -> dict[str, Any]:
    """Run ``plan`` against the system of ``env``."""
    settings = settings_of(env)
    under, before = await conditions(settings), strain()
    db = await Database.open(settings.postgres_dsn, size=1)
    try:
        figures = {}
        for name in TARGETS:
            say(f"{name} {getattr(plan, name):g} for {plan.duration:g} s")
            figures[name] = await _round(plan, name, env, db)
        violations = await settled(env)
    finally:
        await db.close()
    return {
        "plan": asdict(plan),
        "conditions": under,
        "before": before,
        "after": strain(),
        "figures": figures,
        "violations": [asdict(violation) for violation in violations],
    }


async def _round(plan: Plan, name: str, env: Mapping[str, str], db: Database) -> dict[str, Any]:
    codec = await open_codec(settings_of(env))
    lags = Lags(db)
    counted = False

    def seen(decision: DecisionMade, made: float) -> None:
        if counted:
            lags.note(decision, made)

    ends = Ends(env, codec, asyncio.get_running_loop(), seen)
    generator = Generator(env["FULCRUM_API"], ends, _SKUS, DEFAULT_DEFINITION)
    over = asyncio.Event()
    watching = asyncio.create_task(lags.watch(over))
    try:
        await generator.stock(_UNITS)
        await _load(generator, plan, name, plan.warmup)
        counted = True
        load = await _load(generator, plan, name, plan.duration)
        over.set()
        await watching
    finally:
        watching.cancel()
        await generator.close()
        await asyncio.to_thread(ends.close)
    span = load.until - load.began
    in_time = [each for each in load.ended if each.end is not None and each.end.at <= load.until]
    return {
        "completed_per_s": round(len(in_time) / span, 1),
        "decisions": len(lags.found),
        "missing": lags.missing,
        "lag_ms": milliseconds(lags.found, 0.5, 0.95, 0.99, 1.0),
        "target_ms": TARGETS[name],
    }


async def _load(generator: Generator, plan: Plan, name: str, duration: float) -> Load:
    if name == "rate":
        return await generator.open_loop(plan.rate, duration)
    return await generator.closed_loop(plan.users, duration)


def missed(result: Mapping[str, Any]) -> list[str]:
    """What was wrong, and which lag is over its target."""
    found = ["invariants are broken"] if result["violations"] else []
    for name, figure in result["figures"].items():
        if figure["missing"]:
            found.append(f"{name}: {figure['missing']} decisions never came into the read model")
        worst = figure["lag_ms"]["p99"]
        if worst is None or worst > figure["target_ms"]:
            found.append(f"{name}: lag p99 {worst} ms, at most {figure['target_ms']:g} is wanted")
    return found
