"""How is each story of the demonstration driven through the API, and what came of it?"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid4

from rich.console import Console
from rich.text import Text

from fulcrum.cli.client import Client, segment
from fulcrum.cli.stories import STORIES, Story
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import NotFound, Unavailable
from fulcrum.localstack import Running
from fulcrum.readmodel.projection import FINAL
from fulcrum.settings import Settings

_T = TypeVar("_T")

_PATIENCE = 30.0
_LOOK_EVERY = 0.05
_RECEIVED = 10
_STYLES = {"completed": "green", "cancelled": "yellow", "compensating": "magenta", "needs_attention": "red"}


@dataclass
class Telling:
    """A story while it happens."""

    story: Story
    sku: str
    workflow_id: str = ""
    answers: list[str] = field(default_factory=list)
    workflow: dict[str, Any] = field(default_factory=dict)
    printed: int = 0

    @property
    def ended(self) -> bool:
        return self.workflow.get("status") in FINAL


@dataclass(frozen=True)
class Check:
    """One expectation and what was seen."""

    story: str
    what: str
    expected: str
    seen: str

    @property
    def held(self) -> bool:
        return self.expected == self.seen


def tell(found: Running, console: Console) -> list[Check]:
    """Drive every story to its end on what runs; the checks compare it with what must come."""
    client = Client(found.api)
    run = uuid4().hex[:6]
    tellings = [Telling(story, f"{story.sku_prefix}{story.name}-{run}") for story in STORIES]
    _receive(client, [t for t in tellings if t.story.stocked], run)
    console.print()
    for telling in tellings:
        _post(client, telling, run, console)
    poison = asyncio.run(_publish_poison(found))
    console.print(Text("unreadable  one message that no worker can read, on the payment queue"))
    console.print()
    _watch(client, tellings, console)
    parked = _until(lambda: _parked(client, poison)) or {}
    shown = f"{parked['status']}: {parked['error_class']}: {parked['error']}" if parked else "not parked"
    console.print(Text.assemble(("unreadable  ", "bold"), shown))
    cause = f"{parked['status']}, {parked['error_class']}" if parked else "nothing"
    return [
        *(check for telling in tellings for check in _compare(client, found, telling)),
        Check("unreadable", "kept with its cause", "parked, Corrupt", cause),
    ]


# --- acts -----------------------------------------------------------------------------------------


def _receive(client: Client, tellings: list[Telling], run: str) -> None:
    for telling in tellings:
        body = {"quantity": _RECEIVED, "reference": f"demo-{run}"}
        client.post(f"/v1/stock/{segment(telling.sku)}/receipts", body, key=f"receipt-{run}")
    left = [telling.sku for telling in tellings]

    def look() -> bool:
        left[:] = [sku for sku in left if _stock(client, sku)["received"] < _RECEIVED]
        return not left

    if not _until(look):
        raise Unavailable(
            f"waited {_PATIENCE:.0f} s, and the stock of {', '.join(left)} is not there; "
            "look into the logs of the roles intake and inventory"
        )


def _post(client: Client, telling: Telling, run: str, console: Console) -> None:
    for _ in range(telling.story.posts):
        reply = client.post("/v1/intents", telling.story.body(telling.sku), key=f"{telling.story.name}-{run}")
        telling.answers.append(reply.body["workflow_id"])
    telling.workflow_id = telling.answers[0]
    console.print(Text(f"{telling.story.name:<11} {telling.story.title}  ({telling.workflow_id})"))


async def _publish_poison(found: Running) -> str:
    message_id = str(uuid4())
    given = {name.removeprefix("FULCRUM_").lower(): value for name, value in found.env.items()}
    settings = Settings.model_validate({k: v for k, v in given.items() if k in Settings.model_fields})
    publisher = await CommandPublisher.open(settings, "demo")
    try:
        await publisher.publish("payment", b"this is not Avro", {}, message_id, "AuthorizePayment")
    finally:
        await publisher.close()
    return message_id


def _watch(client: Client, tellings: list[Telling], console: Console) -> None:
    """Print each transition as it appears in the query API, until every story has ended or patience has."""

    def look() -> bool:
        fresh = []
        for telling in tellings:
            if telling.ended:
                continue
            telling.workflow = client.get(f"/v1/workflows/{telling.workflow_id}")
            entries = telling.workflow["timeline"]
            fresh += [(entry["at"], telling, entry) for entry in entries[telling.printed :]]
            telling.printed = len(entries)
        for _, telling, entry in sorted(fresh, key=lambda each: each[0]):
            console.print(line_of(telling.story.name, telling.workflow["started_at"], entry))
        return all(telling.ended for telling in tellings)

    if not _until(look):
        late = ", ".join(telling.story.name for telling in tellings if not telling.ended)
        console.print(Text(f"waited {_PATIENCE:.0f} s, and this has not ended: {late}", style="bold red"))


def line_of(name: str, started_at: str, entry: Mapping[str, Any]) -> Text:
    """One transition: when, because of which event, the status it led to, and what was asked of whom."""
    after = (datetime.fromisoformat(entry["at"]) - datetime.fromisoformat(started_at)).total_seconds()
    commands = ", ".join(command["type"] for command in entry["commands"])
    return Text.assemble(
        (f"{name:<11} ", "bold"),
        f"+{after:6.3f} s  {entry['cause']['type']:<18} ",
        (f"{entry['status']:<13}", _STYLES.get(entry["status"], "cyan")),
        f" {entry['step'] or '':<18}",
        f"→ {commands}" if commands else "",
        f"  ({entry['reason']})" if entry["reason"] else "",
    )


# --- looks ----------------------------------------------------------------------------------------


def _stock(client: Client, sku: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.get(f"/v1/stock/{segment(sku)}")
    except NotFound:
        return {"available": 0, "reserved": 0, "consumed": 0, "received": 0}
    return found


def _parked(client: Client, message_id: str) -> dict[str, Any]:
    """The parked message, or nothing."""
    items: list[dict[str, Any]] = client.get("/v1/parked", limit=200)["items"]
    return next((item for item in items if item["message_id"] == message_id), {})


def _effects(found: Running, workflow_id: str) -> list[str]:
    url = f"{found.env['FULCRUM_PSP_URL']}/v1/effects?reference={workflow_id}"
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own simulator, on loopback
        effects = json.load(answer)["effects"]
    moved = ("capture", "refund")
    return [f"{e['kind']} {e['amount_minor']}" if e["kind"] in moved else e["kind"] for e in effects]


def _until(look: Callable[[], _T]) -> _T:
    """What ``look`` sees once it sees something, or at last."""
    deadline = time.monotonic() + _PATIENCE
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)
    return seen


def _compare(client: Client, found: Running, telling: Telling) -> list[Check]:
    effects = _effects(found, telling.workflow_id)
    return compare(telling.story, telling.workflow, telling.answers, effects, _stock(client, telling.sku))


def compare(
    story: Story,
    workflow: Mapping[str, Any],
    answers: Sequence[str],
    effects: Sequence[str],
    stock: Mapping[str, int],
) -> list[Check]:
    """A story beside what the API and the provider tell of it. ``answers`` are the workflows it was given."""
    name, received = story.name, _RECEIVED if story.stocked else 0
    steps = {step["name"]: step["status"] for step in workflow.get("steps", ())}
    wanted = {
        "available": received - story.held - story.left,
        "reserved": story.held,
        "consumed": story.left,
        "received": received,
    }
    checks = [
        Check(name, "ends", story.status, str(workflow.get("status"))),
        Check(name, "steps", _lines(story.steps), _lines(steps)),
        Check(name, "at the provider", ", ".join(story.effects), ", ".join(effects)),
        Check(name, "stock", _shelf(wanted), _shelf(stock)),
    ]
    if story.posts > 1:
        checks.append(Check(name, f"{story.posts} posts", "1 workflow", f"{len(set(answers))} workflow"))
    return checks


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{name} {value}" for name, value in values.items())


def _shelf(stock: Mapping[str, int]) -> str:
    """The stock of a SKU; its parts must be what was received."""
    parts = " + ".join(
        f"{stock[part]} {part}" for part in ("available", "reserved", "consumed") if stock[part]
    )
    return f"{parts or 'nothing'} of {stock['received']}"
