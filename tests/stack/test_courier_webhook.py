"""The webhook on real HTTP and a real database: what is believed, kept once, and when it is answered."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from courierbench import SECRETS, WITHIN, Bench, courier_service
from deliveries import intercept, new_workflow, ship, track
from eventually import eventually_async
from link import linked

from fulcrum.saga.messages import (
    DeliveryCancelled,
    DeliveryDelayed,
    DeliveryNotCancelled,
    ParcelDelivered,
    ParcelNotDelivered,
)
from fulcrum.workers.courier_webhook import LIMIT
from fulcrum.workers.signature import HEADER

pytestmark = pytest.mark.asyncio(loop_scope="module")

_AT = "2026-03-01T12:00:00+00:00"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module; its courier is silent unless a test's address says otherwise."""
    async with courier_service(namespace) as running:
        yield running


async def booked(bench: Bench, ship_to: str = "silent-stays_booked-home") -> tuple[str, str]:
    """A workflow that waits for the end of its shipment, and the courier's id of that."""
    workflow = new_workflow()
    await bench.handle(ship(workflow, ship_to), track(workflow))
    return workflow, (await bench.row(workflow))["shipment_id"]


def said(shipment: str, sequence: int, status: str, **more: Any) -> dict[str, Any]:
    """An update as the courier sends it."""
    return {
        "update_id": f"upd_{shipment}_{sequence}",
        "shipment_id": shipment,
        "sequence": sequence,
        "status": status,
        "at": _AT,
        **more,
    }


def code(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer[0], answer[1]["code"]


async def test_an_update_is_kept_once(bench: Bench) -> None:
    """Its copies get 200 and change nothing; the bytes are kept as they came."""
    workflow, shipment = await booked(bench)
    raw = json.dumps(said(shipment, 2, "picked_up"), indent=3).encode()
    assert await bench.post(raw) == (200, {"status": "kept"})
    before = await bench.row(workflow)
    for _ in range(3):
        assert await bench.post(raw) == (200, {"status": "seen_before"})
    assert await bench.row(workflow) == before
    (row,) = await bench.updates(workflow)
    assert (bytes(row["body"]), row["came_by"], row["status"]) == (raw, "webhook", "picked_up")


async def test_copies_at_once_have_one_effect(bench: Bench) -> None:
    """Ten of the same at the same time: one is kept, one end is told."""
    workflow, shipment = await booked(bench)
    answers = await asyncio.gather(*(bench.post(said(shipment, 5, "delivered")) for _ in range(10)))
    assert sorted(body["status"] for _, body in answers) == ["kept", *["seen_before"] * 9]
    assert [type(event) for event in await bench.told(workflow)][1:] == [ParcelDelivered]


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_leads_to_the_same_end(bench: Bench, seed: int) -> None:
    """All updates of a shipment, shuffled and doubled, many at once."""
    workflow, shipment = await booked(bench)
    way = ["picked_up", "in_transit", "exception", "out_for_delivery", "delivered"]
    updates = [said(shipment, number, status) for number, status in enumerate(way, start=2)] * 2
    random.Random(seed).shuffle(updates)
    assert {status for status, _ in await asyncio.gather(*map(bench.post, updates))} == {200}
    row = await bench.row(workflow)
    assert (row["state"], row["courier_sequence"]) == ("delivered", 6)
    assert len(await bench.updates(workflow)) == 5
    told = await bench.told(workflow)
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert isinstance(told[-1], ParcelDelivered)
    assert all(isinstance(event, DeliveryDelayed) for event in told[1:-1])


async def test_an_older_update_is_kept_and_moves_nothing(bench: Bench) -> None:
    """A state never goes back."""
    workflow, shipment = await booked(bench)
    await bench.post(said(shipment, 4, "out_for_delivery"))
    assert await bench.post(said(shipment, 3, "in_transit")) == (200, {"status": "kept"})
    assert (await bench.row(workflow))["state"] == "out_for_delivery"
    assert [row["sequence"] for row in await bench.updates(workflow)] == [3, 4]


async def test_either_secret_is_accepted(bench: Bench) -> None:
    """While they are changed; one that was never ours is not."""
    workflow, shipment = await booked(bench)
    for number, secret in enumerate(SECRETS, start=2):
        assert (await bench.post(said(shipment, number, "in_transit"), secret=secret))[0] == 200
    assert code(await bench.post(said(shipment, 9, "lost"), secret="guessed")) == (401, "not_signed")
    assert (await bench.row(workflow))["state"] == "in_transit"


@pytest.mark.parametrize("age", [301, 3600, -301])
async def test_a_replay_is_refused(bench: Bench, age: int) -> None:
    """Signed by the right secret, but long ago, or in days to come."""
    workflow, shipment = await booked(bench)
    answer = await bench.post(said(shipment, 2, "lost"), age=age)
    assert code(answer) == (401, "not_signed")
    assert "300 s" in answer[1]["detail"]
    assert await bench.updates(workflow) == []


@pytest.mark.parametrize("header", ["", "t=1", "v1=00", "t=x,v1=y", "t=1,v1=" + "0" * 64])
async def test_what_is_not_signed_is_refused(bench: Bench, header: str) -> None:
    """401 before anything is read or looked up."""
    answer = await bench.post(b"\xff\x00 no JSON", **{HEADER: header})
    assert code(answer) == (401, "not_signed")


async def test_an_unknown_shipment_is_not_found_and_nothing_is_kept(bench: Bench) -> None:
    """It may be told again, when the booking is stored."""
    update = said("shp_of_nobody", 2, "delivered")
    assert code(await bench.post(update)) == (404, "unknown_shipment")
    _, shipment = await booked(bench)
    ours = {**update, "shipment_id": shipment}
    assert await bench.post(ours) == (200, {"status": "kept"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"status": "teleported"}, "status: "),
        ({"sequence": "2"}, "sequence: "),
        ({"at": "noon"}, "at: "),
        ({"update_id": ""}, "update_id: "),
        ({"update_id": "\ud800"}, "update_id: "),
        ({"undamaged": 1}, "undamaged: "),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_done(
    bench: Bench, change: dict[str, Any], named: str
) -> None:
    """400, and the shipment is as before."""
    workflow, shipment = await booked(bench)
    before = await bench.row(workflow)
    answer = await bench.post({**said(shipment, 2, "lost"), **change})
    assert code(answer) == (400, "invalid_update")
    assert answer[1]["detail"].startswith(named)
    assert (await bench.row(workflow), await bench.updates(workflow)) == (before, [])


async def test_an_id_stands_for_one_update(bench: Bench) -> None:
    """The same id with another number, or of another shipment, is a conflict; the first one stands."""
    workflow, shipment = await booked(bench)
    _, other = await booked(bench)
    first = said(shipment, 2, "picked_up")
    await bench.post(first)
    for change in ({"sequence": 3}, {"status": "lost"}, {"shipment_id": other}):
        assert code(await bench.post({**first, **change})) == (409, "update_id_reused")
    assert [row["status"] for row in await bench.updates(workflow)] == ["picked_up"]


async def test_a_body_without_end_is_too_large(bench: Bench) -> None:
    """Signed or not; one at the limit is read."""
    _, shipment = await booked(bench)
    update = said(shipment, 2, "picked_up")
    room = LIMIT - len(json.dumps({**update, "more": ""}).encode())
    assert (await bench.post({**update, "more": "x" * room}))[0] == 200
    assert code(await bench.post({**update, "more": "x" * (room + 1)})) == (413, "too_large")


async def test_other_methods_and_paths_are_not_served(bench: Bench) -> None:
    """Only the POST."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(bench.settings.courier_webhook_url) as answer,
    ):
        assert answer.status == 405


async def test_the_end_races_a_cancellation_and_one_of_them_wins(bench: Bench) -> None:
    """Both at once, many times: the answers agree with the state, and their numbers are dense."""
    for _ in range(10):
        workflow, shipment = await booked(bench, "silent-stays_in_transit-home")
        await asyncio.gather(bench.post(said(shipment, 9, "delivered")), bench.handle(intercept(workflow)))
        state = (await bench.row(workflow))["state"]
        told = await bench.told(workflow)
        kinds = {type(event) for event in told}
        assert sorted(event.sequence for event in told) == [1, 2, 3]
        assert kinds & {DeliveryCancelled, DeliveryNotCancelled}
        # Cancelled before it was fetched, or else delivered.
        assert (state, kinds & {ParcelDelivered, ParcelNotDelivered}) in (
            ("delivered", {ParcelDelivered}),
            ("cancelled", {ParcelNotDelivered}),
        )


async def test_without_a_secret_nobody_is_believed(namespace: Mapping[str, str]) -> None:
    """The endpoint is there, and refuses all; the poller goes on."""
    async with courier_service(namespace, webhook_secret="") as quiet:
        workflow, _ = await booked(quiet, "home")
        assert code(await quiet.post(said("shp", 2, "lost"))) == (401, "not_signed")

        async def found_out() -> bool:
            await quiet.poller.poll()
            return (await quiet.row(workflow))["state"] == "delivered"

        await eventually_async(found_out, within=WITHIN)


async def test_before_the_service_has_started_it_asks_for_patience(namespace: Mapping[str, str]) -> None:
    """503, so that the courier tells it again."""
    async with courier_service(namespace) as starting:
        starting.webhook.news = None
        assert code(await starting.post(said("shp", 2, "lost"))) == (503, "later")


async def test_while_postgres_is_away_it_asks_for_patience(namespace: Mapping[str, str]) -> None:
    """Nothing is answered 200 before it is committed; told again later, it is kept."""
    async with (
        linked(namespace["FULCRUM_POSTGRES_DSN"]) as (link, dsn),
        courier_service({**namespace, "FULCRUM_POSTGRES_DSN": dsn}) as shaky,
    ):
        _, shipment = await booked(shaky)
        update = said(shipment, 2, "picked_up")
        await link.cut()
        assert code(await shaky.post(update)) == (503, "later")
        await link.mend()

        async def kept() -> bool:
            return (await shaky.post(update))[0] == 200

        await eventually_async(kept, within=WITHIN)
