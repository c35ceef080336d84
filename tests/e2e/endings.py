"""Did a workflow end as its story says, and did everybody do exactly what that takes?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from client import Client, Posted, Shelf, told
from eventually import eventually_async

from fulcrum.doctor.invariants import Violation, check_all
from fulcrum.saga.messages import DecisionMade

_AT_REST_WITHIN = 30.0

View = Mapping[str, Any]


def assert_ended(item: Posted, view: View) -> None:
    """Status, steps and commands are the story's; the timeline has every version once; nothing is ignored."""
    story, shown = item.story, told(view)
    assert view["status"] == story.status, shown
    assert {step["name"]: step["status"] for step in view["steps"]} == story.steps, shown
    assert [entry["version"] for entry in view["timeline"]] == list(range(1, view["version"] + 1)), shown
    # On a slow machine a deadline passes while its answer is on its way; nothing is done about it then.
    assert {entry["ignored"] for entry in view["timeline"]} <= {None, "stale_deadline"}, shown
    assert issued(view) == list(story.commands), shown
    assert view["finished_at"] is not None, shown


def issued(view: View) -> list[str]:
    """The types of the commands that left, in order."""
    return [command["type"] for entry in view["timeline"] for command in entry["commands"]]


async def assert_all_ended(client: Client, posted: Collection[Posted], psp: str, within: float) -> None:
    """Every workflow ends as it must, and the provider did for each exactly what its story takes."""
    views = await client.until_final(posted, within)
    for item in posted:
        assert_ended(item, views[item.workflow_id])
    done = provider_effects(await effects(client, psp))
    for item in posted:
        assert done[item.workflow_id] == Counter(item.story.effects), (
            f"the provider did {dict(done[item.workflow_id])} for\n{told(views[item.workflow_id])}"
        )


def assert_journal(decisions: Iterable[DecisionMade], posted: Iterable[Posted]) -> None:
    """Each workflow's versions come in order and without a hole; a repeated one says the same again."""
    first: dict[str, list[DecisionMade]] = defaultdict(list)
    for decision in decisions:
        known = first[decision.workflow_id]
        if decision.version <= len(known):
            assert decision == known[decision.version - 1], (
                f"another decision under the same version: {decision}"
            )
        else:
            assert decision.version == len(known) + 1, f"a hole before {decision}"
            known.append(decision)
    for item in posted:
        types = [command.type for decision in first[item.workflow_id] for command in decision.commands]
        assert types == list(item.story.commands), f"{item.story.name} {item.workflow_id}: {types}"


async def effects(client: Client, psp: str) -> list[dict[str, Any]]:
    """All that the provider ever did."""
    answer = await client.insist("GET", f"{psp}/v1/effects")
    assert answer.status == 200, answer
    done: list[dict[str, Any]] = answer.json["effects"]
    return done


def provider_effects(done: Iterable[Mapping[str, Any]]) -> Mapping[str, Counter[str]]:
    """How often the provider did what, by workflow."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for effect in done:
        found[effect["reference"]][effect["kind"]] += 1
    return found


async def assert_stock(client: Client, shelf: Shelf, posted: Iterable[Posted]) -> None:
    """What was received is still there, or was taken by the workflows that may keep it, one unit each."""
    stock = await client.stock(shelf.full)
    kept = sum(item.story.keeps_stock for item in posted if item.sku == shelf.full)
    assert stock["received"] == shelf.received, stock
    assert stock["available"] == shelf.received - kept, f"{kept} units should be taken: {stock}"
    assert stock["reserved"] + stock["consumed"] == kept, f"{kept} units should be taken: {stock}"


async def assert_sound(env: Mapping[str, str], known: Collection[Violation] = ()) -> None:
    """Once what is on its way has arrived, every invariant holds, but for what was ``known`` to be wrong."""
    wrong: list[Violation] = []

    async def sound() -> bool:
        wrong[:] = [violation for violation in await check_all(env) if violation not in known]
        return not wrong

    await eventually_async(sound, within=_AT_REST_WITHIN, state=lambda: wrong)
