"""Intake: what comes in over HTTP is stored once, leaves once, and failures say what to do.

Long, because every answer of one endpoint, and every failure behind it, needs the same server.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import aiohttp
import pytest
from eventually import eventually_async
from intake import Api, free_port, listening_intake, ready, running_intake, sent
from intents import intent_body
from link import linked
from sqlalchemy import func, select
from structlog.testing import capture_logs

from fulcrum.errors import Misconfigured
from fulcrum.readmodel import queries
from fulcrum.saga import identity
from fulcrum.saga.messages import IntentCreated, ReceiveStock
from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.web.app import serve_intake
from fulcrum.web.relations import intents
from fulcrum.wire.codec import open_codec
from fulcrum.wire.headers import Envelope

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}
NOWHERE = "127.0.0.1:1"


async def stored(settings: Settings, workflow_id: str) -> int:
    """How many intents are stored for one workflow."""
    db = await Database.open(settings.postgres_dsn, size=1)
    counted = select(func.count().label("n")).where(intents.c.workflow_id == workflow_id)
    row = await db.one(counted)
    await db.close()
    assert row is not None
    return int(row["n"])


async def test_intent_is_stored_and_its_event_leaves(api: Api, settings: Settings) -> None:
    """202 with ids and Location; IntentCreated is on Kafka, keyed by workflow, with all that was sent."""
    key = str(uuid4())
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    seen = await api.post(
        "/v1/intents", intent_body(), key, {"X-Correlation-Id": "order-42", "traceparent": trace}
    )
    assert seen.status == 202
    intent_id = identity.intent_id("acme", key)
    workflow_id = identity.workflow_id(intent_id)
    assert seen.body["workflow_id"] == workflow_id
    assert seen.body["intent_id"] == intent_id
    assert seen.body["status"] == "accepted"
    assert seen.headers["Location"] == f"/v1/workflows/{workflow_id}"
    assert seen.headers["X-Correlation-Id"] == "order-42"
    assert "Idempotency-Replayed" not in seen.headers
    records = await sent(settings, workflow_id)
    assert len(records) == 1
    codec = await open_codec(settings, (IntentCreated,))
    event = codec.decode(records[0].value())
    assert isinstance(event, IntentCreated)
    assert (event.workflow_id, event.sequence, event.correlation_id) == (workflow_id, 1, "order-42")
    assert [(line.sku, line.quantity) for line in event.lines] == [("tea-01", 2)]
    assert event.definition == "fulfillment.v1"
    envelope = Envelope.from_kafka(records[0].headers())
    assert (envelope.message_id, envelope.type) == (event.event_id, "IntentCreated")
    assert (envelope.correlation_id, envelope.workflow_id) == ("order-42", workflow_id)
    assert envelope.traceparent is not None
    assert envelope.traceparent.split("-")[1] == trace.split("-")[1]
    assert envelope.traceparent != trace


async def test_repeat_gets_the_first_answer(api: Api, settings: Settings) -> None:
    """Same key, same body: the same answer to the byte, one intent, one event."""
    key = str(uuid4())
    first = await api.post("/v1/intents", intent_body(), key)
    again = await api.post(
        "/v1/intents", dict(reversed(intent_body(definition="fulfillment.v1").items())), key
    )
    assert (again.status, again.text) == (first.status, first.text)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    workflow_id = first.body["workflow_id"]
    assert await stored(settings, workflow_id) == 1
    assert len(await sent(settings, workflow_id)) == 1


async def test_key_with_another_body_is_refused(api: Api, settings: Settings) -> None:
    """Same key, other body: 409, and what was stored stays."""
    key = str(uuid4())
    first = await api.post("/v1/intents", intent_body(), key)
    other = await api.post("/v1/intents", intent_body(amount_minor=1), key)
    assert (other.status, other.body["code"]) == (409, "key-reused")
    assert other.body["errors"][0]["header"] == "Idempotency-Key"
    assert (await api.get(first.headers["Location"])).body["amount_minor"] == 1250


async def test_key_belongs_to_its_tenant(api: Api) -> None:
    """Two tenants may use the same key."""
    key = str(uuid4())
    one = await api.post("/v1/intents", intent_body(tenant="one"), key)
    two = await api.post("/v1/intents", intent_body(tenant="two"), key)
    assert (one.status, two.status) == (202, 202)
    assert one.body["workflow_id"] != two.body["workflow_id"]


async def test_requests_at_the_same_time_have_one_effect(api: Api, settings: Settings) -> None:
    """Thirty requests with one key at once: one intent, one event, thirty equal answers."""
    key = str(uuid4())
    answers = await asyncio.gather(*(api.post("/v1/intents", intent_body(), key) for _ in range(30)))
    assert {(seen.status, seen.text) for seen in answers} == {(202, answers[0].text)}
    assert sum("Idempotency-Replayed" not in seen.headers for seen in answers) == 1
    workflow_id = answers[0].body["workflow_id"]
    assert await stored(settings, workflow_id) == 1
    assert len(await sent(settings, workflow_id)) == 1


KEY = {"Idempotency-Key": "k"}
GOOD = json.dumps(intent_body()).encode()


@pytest.mark.parametrize(
    ("method", "path", "data", "headers", "status", "code"),
    [
        ("POST", "/v1/intents", b"{", {**JSON, **KEY}, 400, "malformed-json"),
        ("POST", "/v1/intents", b"", {**JSON, **KEY}, 400, "malformed-json"),
        ("POST", "/v1/intents", GOOD, {**JSON, **KEY, "Content-Encoding": "gzip"}, 400, "malformed-json"),
        ("POST", "/v1/intents", GOOD, {**JSON}, 400, "idempotency-key"),
        ("POST", "/v1/intents", GOOD, {**JSON, "Idempotency-Key": ""}, 400, "idempotency-key"),
        ("POST", "/v1/intents", GOOD, {**JSON, "Idempotency-Key": "k" * 256}, 400, "idempotency-key"),
        ("POST", "/v1/intents", GOOD, {**JSON, "Idempotency-Key": "caf\u00e9"}, 400, "idempotency-key"),
        ("POST", "/v1/intents", GOOD, {**KEY, "Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (
            "POST",
            "/v1/intents",
            GOOD,
            {**KEY, "Content-Type": "application/json; charset=latin-1"},
            415,
            "unsupported-media-type",
        ),
        ("POST", "/v1/intents", b" " * 65_537, {**JSON, **KEY}, 413, "body-too-large"),
        (
            "POST",
            "/v1/intents",
            gzip.compress(b" " * 65_537, mtime=0),
            {**JSON, **KEY, "Content-Encoding": "gzip"},
            413,
            "body-too-large",
        ),
        ("POST", "/v1/intents", b"{}", {**JSON, **KEY}, 422, "invalid-body"),
        ("POST", "/v1/stock/a%20b/receipts", b"{}", {**JSON, **KEY}, 400, "invalid-parameter"),
        ("GET", "/v1/workflows/no-uuid", None, {}, 400, "invalid-parameter"),
        ("GET", "/v1/workflows?limit=0", None, {}, 400, "invalid-parameter"),
        ("GET", "/v1/workflows?limit=1&limit=2", None, {}, 400, "invalid-parameter"),
        ("GET", "/v1/workflows?staus=running", None, {}, 400, "invalid-parameter"),
        ("GET", "/v1/workflows?cursor=none", None, {}, 400, "invalid-parameter"),
        ("GET", f"/v1/workflows/{UUID(int=1)}", None, {}, 404, "not-found"),
        ("GET", "/v1/stock/never-seen", None, {}, 404, "not-found"),
        ("GET", "/nowhere", None, {}, 404, "not-found"),
        ("DELETE", "/v1/intents", None, {}, 405, "method-not-allowed"),
        ("PUT", "/healthz", None, {}, 405, "method-not-allowed"),
    ],
)
async def test_bad_request_is_a_problem(
    api: Api,
    method: str,
    path: str,
    data: bytes | None,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    """Each fault has its status and kind, with a page that explains it."""
    seen = await api.send(method, path, data, headers)
    assert (seen.status, seen.body["code"]) == (status, code), seen.text
    assert seen.headers["Content-Type"].startswith("application/problem+json")
    assert seen.body["correlation_id"] == seen.headers["X-Correlation-Id"]
    assert (await api.get(seen.body["type"])).body["status"] == status
    if status == 405:
        assert seen.headers["Allow"]
    if status == 415:
        assert seen.headers["Accept-Post"] == "application/json"


async def test_refused_body_leaves_its_key_free(api: Api) -> None:
    """A client corrects its body and sends it under the same key."""
    key = str(uuid4())
    assert (await api.post("/v1/intents", intent_body(currency="?"), key)).status == 422
    assert (await api.post("/v1/intents", intent_body(), key)).status == 202


async def test_correlation_id_that_is_not_sane_is_replaced(api: Api) -> None:
    """What would spoil a log line is not carried on."""
    seen = await api.post(
        "/v1/intents", intent_body(), str(uuid4()), {"X-Correlation-Id": "a b", "traceparent": "?"}
    )
    assert seen.status == 202
    assert seen.headers["X-Correlation-Id"] not in ("", "a b")


async def test_request_is_logged_with_its_workflow(api: Api) -> None:
    """One line a request, with route, status and workflow id; probes are left out."""
    with capture_logs() as lines:
        workflow_id = await api.accept()
        await api.get(f"/v1/workflows/{workflow_id}")
        await api.get("/healthz")
    requests = [line for line in lines if line["event"] == "http.request"]
    assert [(line["route"], line["status"], line["workflow_id"]) for line in requests] == [
        ("/v1/intents", 202, workflow_id),
        ("/v1/workflows/{workflow_id}", 200, workflow_id),
    ]


async def test_requests_are_counted_by_route(api: Api) -> None:
    """The metrics name the pattern of a route, never an id, and no method that a client made up."""
    workflow_id = await api.accept()
    await api.get(f"/v1/workflows/{workflow_id}")
    await api.send("PROPFIND", "/v1/intents")
    text = (await api.get("/metrics")).text
    assert 'route="/v1/workflows/{workflow_id}"' in text
    assert 'method="other"' in text
    assert workflow_id not in text
    assert "PROPFIND" not in text


async def test_database_down_is_503_until_it_is_back(settings: Settings) -> None:
    """Without Postgres: 503 with Retry-After and not ready; the same request is accepted once it is back."""
    async with (
        linked(settings.postgres_dsn) as (link, dsn),
        running_intake(settings.model_copy(update={"postgres_dsn": dsn})) as api,
    ):
        await link.cut()
        key = str(uuid4())
        seen = await api.post("/v1/intents", intent_body(), key)
        assert (seen.status, seen.body["code"], seen.body["retryable"]) == (503, "unavailable", True)
        assert int(seen.headers["Retry-After"]) > 0

        async def not_ready() -> bool:
            return (await api.get("/readyz")).status == 503

        await eventually_async(not_ready, within=10)
        await link.mend()

        async def accepted() -> bool:
            return (await api.post("/v1/intents", intent_body(), key)).status == 202

        await eventually_async(accepted, within=15)
        await ready(api)


async def receipts_on_queue(settings: Settings) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """Take every command from inventory's queue."""
    async with await aio_pika.connect(settings.rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(f"{settings.namespace}.commands.inventory")
        found = []
        while message := await queue.get(fail=False, no_ack=True):
            found.append(message)
        return found


async def test_receipt_becomes_a_command(api: Api, settings: Settings) -> None:
    """202 once RabbitMQ has ReceiveStock; a repeat publishes the same bytes under the same id."""
    sku, key = f"sku-{uuid4()}", str(uuid4())
    body = {"quantity": 5, "reference": "delivery 1"}
    first = await api.post(f"/v1/stock/{sku}/receipts", body, key)
    again = await api.post(f"/v1/stock/{sku}/receipts", body, key)
    assert (first.status, again.status) == (202, 202)
    assert again.text == first.text
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.body["command_id"] == identity.receipt_id(sku, key)
    ours = [m for m in await receipts_on_queue(settings) if m.message_id == first.body["command_id"]]
    assert len(ours) == 2
    assert ours[0].body == ours[1].body
    command = (await open_codec(settings, (ReceiveStock,))).decode(ours[0].body)
    assert isinstance(command, ReceiveStock)
    assert (command.sku, command.quantity, command.reference) == (sku, 5, "delivery 1")
    envelope = Envelope.from_amqp(ours[0].headers)
    assert (envelope.type, envelope.correlation_id) == ("ReceiveStock", first.headers["X-Correlation-Id"])


async def test_receipt_key_with_another_body_is_refused(api: Api, settings: Settings) -> None:
    """Same key, other quantity: 409, and nothing is published."""
    sku, key = f"sku-{uuid4()}", str(uuid4())
    first = await api.post(f"/v1/stock/{sku}/receipts", {"quantity": 5, "reference": "r"}, key)
    other = await api.post(f"/v1/stock/{sku}/receipts", {"quantity": 6, "reference": "r"}, key)
    assert (other.status, other.body["code"]) == (409, "key-reused")
    ours = [m for m in await receipts_on_queue(settings) if m.message_id == first.body["command_id"]]
    assert len(ours) == 1


async def test_rabbitmq_down_stops_receipts_only(settings: Settings) -> None:
    """Without RabbitMQ a receipt is 503, an intent is accepted; the receipt is taken once it is back."""
    async with linked(settings.rabbitmq_url) as (link, url):
        await link.cut()
        async with running_intake(settings.model_copy(update={"rabbitmq_url": url})) as api:
            sku, key = f"sku-{uuid4()}", str(uuid4())
            body = {"quantity": 5, "reference": "r"}
            seen = await api.post(f"/v1/stock/{sku}/receipts", body, key)
            assert (seen.status, seen.body["code"]) == (503, "unavailable")
            assert int(seen.headers["Retry-After"]) > 0
            await api.accept()
            await link.mend()

            async def accepted() -> bool:
                return (await api.post(f"/v1/stock/{sku}/receipts", body, key)).status == 202

            await eventually_async(accepted, within=15)
            ours = [
                m for m in await receipts_on_queue(settings) if m.message_id == identity.receipt_id(sku, key)
            ]
            assert len(ours) == 1


async def test_redis_and_rabbitmq_are_not_needed_to_start(settings: Settings) -> None:
    """Intake takes intents and shows workflows with both away."""
    away = settings.model_copy(
        update={"redis_url": f"redis://{NOWHERE}/0", "rabbitmq_url": f"amqp://guest:guest@{NOWHERE}/"}
    )
    async with running_intake(away) as api:
        workflow_id = await api.accept()
        assert (await api.get(f"/v1/workflows/{workflow_id}")).body["status"] == "accepted"


async def test_intake_waits_for_postgres_and_registry(settings: Settings) -> None:
    """Started first, intake answers 503 and says what it waits for; it is ready once both are there."""
    async with (
        linked(settings.postgres_dsn) as (database, dsn),
        linked(settings.registry_url) as (registry, url),
    ):
        await database.cut()
        await registry.cut()
        away = settings.model_copy(update={"postgres_dsn": dsn, "registry_url": url})
        with capture_logs() as lines:

            async def waits_for(server: str) -> None:
                async def told() -> bool:
                    return any(line.get("server") == server for line in lines)

                await eventually_async(told, within=15, state=lambda: lines)

            async with listening_intake(away) as api:
                await waits_for("postgres")
                seen = await api.post("/v1/intents", intent_body(), str(uuid4()))
                assert (seen.status, seen.body["code"]) == (503, "unavailable")
                assert (await api.get("/readyz")).body["checks"] == {"postgres": False, "registry": False}
                await database.mend()
                await waits_for("registry")
                seen = await api.post("/v1/intents", intent_body(), str(uuid4()))
                assert (seen.status, seen.body["code"]) == (503, "unavailable")
                await registry.mend()
                await ready(api, within=25)
                await api.accept()


async def test_intake_waiting_for_a_server_stops_when_told(settings: Settings) -> None:
    """A stop ends the waiting at once."""
    nowhere = settings.model_copy(update={"postgres_dsn": f"postgresql://fulcrum@{NOWHERE}/none"})
    async with listening_intake(nowhere) as api:
        assert (await api.get("/readyz")).status == 503


async def test_missing_schema_refuses_the_start(settings: Settings) -> None:
    """Schemas that nobody registered: Misconfigured names the remedy."""
    elsewhere = settings.model_copy(update={"namespace": f"n{uuid4().hex[:12]}", "http_port": free_port()})
    with pytest.raises(Misconfigured, match="fulcrum schema register"):
        async with asyncio.timeout(20):
            await serve_intake(elsewhere, asyncio.Event())


async def test_database_without_relations_refuses_the_start(settings: Settings, empty_database: str) -> None:
    """A database that was never migrated: Misconfigured names the remedy."""
    empty = settings.model_copy(update={"postgres_dsn": empty_database, "http_port": free_port()})
    with pytest.raises(Misconfigured, match="fulcrum db migrate"):
        async with asyncio.timeout(20):
            await serve_intake(empty, asyncio.Event())


async def test_taken_port_refuses_the_start(api: Api, settings: Settings) -> None:
    """A port that is in use: Misconfigured names the port and the setting."""
    port = int(api.address.rpartition(":")[2])
    with pytest.raises(Misconfigured, match=rf"{port}.*FULCRUM_HTTP_PORT"):
        async with asyncio.timeout(20):
            await serve_intake(settings.model_copy(update={"http_port": port}), asyncio.Event())


async def test_stop_lets_requests_finish(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is under way when intake is told to stop gets its answer; a new one is refused."""
    looked = asyncio.Event()
    find_run = queries.find_run

    async def find_and_tell(*arguments: Any) -> Any:
        looked.set()
        return await find_run(*arguments)

    monkeypatch.setattr(queries, "find_run", find_and_tell)
    port, stop = free_port(), asyncio.Event()
    role = asyncio.create_task(serve_intake(settings.model_copy(update={"http_port": port}), stop))
    async with aiohttp.ClientSession() as http:
        api = Api(http, f"http://127.0.0.1:{port}")
        await eventually_async(lambda: api.get("/healthz"), within=10)
        await ready(api)
        workflow_id = await api.accept()
        waiting = asyncio.create_task(api.get(f"/v1/workflows/{workflow_id}?min_version=1"))
        await looked.wait()
        stop.set()
        assert (await waiting).body["code"] == "not-yet"
        async with asyncio.timeout(10):
            await role
        with pytest.raises(aiohttp.ClientConnectorError):
            await api.get("/healthz")
