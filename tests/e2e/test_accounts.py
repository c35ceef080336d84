"""Does a system at work account for every command, by itself?"""

from __future__ import annotations

from typing import cast

from client import Client, until
from stories import COMPLETES, MIX
from system import System

from fulcrum.saga.messages import SERVICES

_WITHIN = 30.0


async def test_every_command_is_settled(system: System, client: Client) -> None:
    """The projector enters what decisions ask for and settles it; nothing is missing at the end."""
    shelf = await client.stocked(20)
    before = (await _figures(system, client)).get("fulcrum_commands_settled_total", 0.0)
    posted = await client.post_all([COMPLETES, *MIX], shelf)
    views = await client.until_final(posted, _WITHIN)
    issued = {c["command_id"] for view in views.values() for e in view["timeline"] for c in e["commands"]}

    async def settled() -> dict[str, float] | None:
        seen = await _figures(system, client)
        done = seen.get("fulcrum_commands_settled_total", 0.0) - before >= len(issued)
        return seen if done and not any(_of(seen, "fulcrum_commands_open")) else None

    seen = cast("dict[str, float]", await until(settled, "every command is settled"))

    assert len(issued) > len(posted)
    assert _of(seen, "fulcrum_commands_unaccounted") == [0.0] * len(SERVICES)
    assert seen["fulcrum_accounts_seen_timestamp_seconds"] > 0


async def _figures(system: System, client: Client) -> dict[str, float]:
    """The projector's metrics, by name with labels."""
    answer = await client.call("GET", f"{system.role('projector').url}/metrics")
    lines = [line for line in str(answer.json).splitlines() if line.startswith("fulcrum_")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def _of(figures: dict[str, float], name: str) -> list[float]:
    """The values of a metric over its labels."""
    return [value for key, value in figures.items() if key.startswith(f"{name}{{")]
