"""``fulcrum demo``: the whole of Fulcrum on real servers, in six stories that a person can watch."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import uuid4

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fulcrum.cli.client import Client, segment, show_json
from fulcrum.cli.interrupt import interruptible
from fulcrum.cli.stories import STORIES, Story
from fulcrum.commands.publisher import CommandPublisher
from fulcrum.errors import NotFound
from fulcrum.localstack import Running, Stack, running
from fulcrum.readmodel.projection import FINAL
from fulcrum.settings import load_settings

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


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the checks as JSON at the end.")] = False,
) -> None:
    """Start the servers and every role, drive six stories through the API, and check how each ends."""
    console = Console(soft_wrap=True, highlight=False, stderr=json_output)
    with interruptible():
        try:
            with running(Stack(), say=console.print) as found:
                checks = tell(found, console)
                _print_checks(checks, console)
                _print_addresses(found, console)
                if json_output:
                    show_json([{**check.__dict__, "held": check.held} for check in checks])
                if keep:
                    console.print("\nEverything is left running. Ctrl-C stops it.")
                    threading.Event().wait()
        except KeyboardInterrupt:
            console.print("Stopped.")
            raise typer.Exit(130) from None
    if not all(check.held for check in checks):
        raise typer.Exit(1)


def tell(found: Running, console: Console) -> list[Check]:
    """Drive every story to its end on what runs; the checks compare it with what must come."""
    client = Client(found.api)
    run = uuid4().hex[:6]
    tellings = [Telling(story, f"{story.name}-{run}") for story in STORIES]
    _receive(client, [t for t in tellings if t.story.stocked], run)
    console.print()
    for telling in tellings:
        _post(client, telling, run, console)
    poison = asyncio.run(_publish_poison(found))
    console.print(Text("unreadable  one message that no worker can read, on the payment queue"))
    console.print()
    _watch(client, tellings, console)
    parked = _until("the unreadable message is parked", lambda: _parked(client, poison))
    console.print(
        Text("unreadable  ", style="bold")
        + Text(f"parked: {parked.get('error_class', '?')}: {parked.get('error', '')}")
    )
    return [
        *(check for telling in tellings for check in _compare(client, found, telling)),
        Check("unreadable", "parked with its cause", "Corrupt", str(parked.get("error_class"))),
    ]


# --- acts -----------------------------------------------------------------------------------------


def _receive(client: Client, tellings: list[Telling], run: str) -> None:
    for telling in tellings:
        body = {"quantity": _RECEIVED, "reference": f"demo-{run}"}
        client.post(f"/v1/stock/{segment(telling.sku)}/receipts", body, key=f"receipt-{run}")
    for telling in tellings:
        _until(
            f"{telling.sku} is in stock",
            lambda sku=telling.sku: _stock(client, sku)["available"] == _RECEIVED,  # type: ignore[misc]
        )


def _post(client: Client, telling: Telling, run: str, console: Console) -> None:
    for _ in range(telling.story.posts):
        reply = client.post("/v1/intents", telling.story.body(telling.sku), key=f"{telling.story.name}-{run}")
        telling.answers.append(reply.body["workflow_id"])
    telling.workflow_id = telling.answers[0]
    console.print(Text(f"{telling.story.name:<11} {telling.story.title}  ({telling.workflow_id})"))


async def _publish_poison(found: Running) -> str:
    message_id = str(uuid4())
    os.environ.update(found.env)
    publisher = await CommandPublisher.open(load_settings(), "demo")
    try:
        await publisher.publish("payment", b"this is not Avro", {}, message_id, "AuthorizePayment")
    finally:
        await publisher.close()
    return message_id


def _watch(client: Client, tellings: list[Telling], console: Console) -> None:
    """Print each transition as it appears in the query API, until every story has ended."""

    def look() -> bool:
        for telling in tellings:
            if telling.ended:
                continue
            telling.workflow = client.get(f"/v1/workflows/{telling.workflow_id}")
            for entry in telling.workflow["timeline"][telling.printed :]:
                console.print(_line(telling, entry))
                telling.printed += 1
        return all(telling.ended for telling in tellings)

    _until("every workflow has ended", look)


def _line(telling: Telling, entry: dict[str, Any]) -> Text:
    began = datetime.fromisoformat(telling.workflow["started_at"])
    after = (datetime.fromisoformat(entry["at"]) - began).total_seconds()
    commands = ", ".join(command["type"] for command in entry["commands"])
    return Text.assemble(
        (f"{telling.story.name:<11} ", "bold"),
        f"+{after:6.3f} s  {entry['cause']['type']:<18} ",
        (f"{entry['status']:<13}", _STYLES.get(entry["status"], "cyan")),
        f" → {commands}" if commands else "",
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
        return [effect["kind"] for effect in json.load(answer)["effects"]]


def _until(what: str, look: Callable[[], _T]) -> _T:
    deadline = time.monotonic() + _PATIENCE
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise typer.Exit(_give_up(what))
        time.sleep(_LOOK_EVERY)
    return seen


def _give_up(what: str) -> int:
    typer.echo(
        f"demo: waited {_PATIENCE:.0f} s until {what}; it did not happen. See .fulcrum/logs.", err=True
    )
    return 1


def _compare(client: Client, found: Running, telling: Telling) -> list[Check]:
    story, workflow = telling.story, telling.workflow
    stock = _stock(client, telling.sku)
    received = _RECEIVED if story.stocked else 0
    steps = {step["name"]: step["status"] for step in workflow["steps"]}
    return [
        Check(story.name, "ends", story.status, workflow["status"]),
        Check(story.name, "steps", _pairs(dict(story.steps)), _pairs({n: steps[n] for n in story.steps})),
        Check(story.name, "workflows", "1", str(len(set(telling.answers)))),
        Check(
            story.name,
            "at the provider",
            ", ".join(story.effects),
            ", ".join(_effects(found, telling.workflow_id)),
        ),
        Check(
            story.name,
            "stock",
            f"{received - story.held} available, {story.held} reserved",
            f"{stock['available']} available, {stock['reserved']} reserved",
        ),
    ]


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


# --- prints ---------------------------------------------------------------------------------------


def _print_checks(checks: list[Check], console: Console) -> None:
    table = Table("story", "what", "expected", "seen", "")
    for check in checks:
        mark = Text("ok", style="green") if check.held else Text("DIFFERS", style="bold red")
        table.add_row(check.story, check.what, check.expected, check.seen, mark)
    console.print()
    console.print(table)


def _print_addresses(found: Running, console: Console) -> None:
    agents = found.supervisor.url("agents")
    console.print(f"API                  {found.api}  ({found.api}/openapi.json)")
    console.print(f"orchestrator's runs  {agents}/runs  {agents}/runs/overview  {agents}/table/")
    console.print(
        f"RabbitMQ management  {found.env.get('FULCRUM_RABBITMQ_MANAGEMENT_URL', '-')}  (guest, guest)"
    )
    console.print(
        "to stop              Ctrl-C if it was kept; `.venv/bin/fulcrum stack down` for the servers"
    )
