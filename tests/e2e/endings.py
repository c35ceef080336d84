"""Did a workflow end as its story says, and did everybody do exactly what that takes?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from client import Client, Posted, Shelf, told

View = Mapping[str, Any]


def assert_ended(item: Posted, view: View) -> None:
    """Status, steps and commands are the story's; the timeline has every version once; nothing is ignored."""
    story, shown = item.story, told(view)
    assert view["status"] == story.status, shown
    assert {step["name"]: step["status"] for step in view["steps"]} == story.steps, shown
    assert [entry["version"] for entry in view["timeline"]] == list(range(1, view["version"] + 1)), shown
    assert [entry["ignored"] for entry in view["timeline"]] == [None] * view["version"], shown
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
