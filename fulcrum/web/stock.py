"""Goods arrive, and how many there are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert

from fulcrum.commands import accounts
from fulcrum.readmodel import queries
from fulcrum.saga import identity
from fulcrum.saga.messages import ReceiveStock
from fulcrum.store.audit import enter
from fulcrum.web.answers import ReceiptAccepted, Stock
from fulcrum.web.auditing import end
from fulcrum.web.bodies import ReceiptBody, SkuPath
from fulcrum.web.intents import REPLAYED, find_first, refuse_other_body
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import Problem
from fulcrum.web.relations import receipts
from fulcrum.web.services import Services
from fulcrum.web.stream import SOURCE
from fulcrum.wire.headers import Envelope

log = structlog.get_logger()

_INSERT = insert(receipts).on_conflict_do_nothing()
_FIRST = select(receipts).where(receipts.c.command_id == bindparam("command_id"))


async def receive_stock(
    services: Services, call: Call, *, path: SkuPath, body: ReceiptBody, key: str, actor: str | None
) -> Answer:
    """Add goods to the stock of a SKU.

    The answer comes when RabbitMQ has the command; inventory counts it a moment later, and once, however
    often it is sent.
    """
    fingerprint = body.fingerprint()
    given: dict[str, Any] = {
        "command_id": identity.receipt_id(path.sku, key),
        "sku": path.sku,
        "idempotency_key": key,
        "fingerprint": fingerprint,
        "quantity": body.quantity,
        "reference": body.reference,
        "correlation_id": call.correlation_id,
        "accepted_at": datetime.now(UTC),
    }
    if call.act is not None:
        # One act per receipt, however often it is repeated.
        call.act = replace(call.act, id=given["command_id"])
    added = {"quantity": body.quantity, "reference": body.reference}
    async with services.db.transaction() as tx:
        replayed = not await tx.execute(_INSERT, given)
        if not replayed:
            await enter(tx, call.act, "began", after=added)
    # A repeat publishes what came first, to the byte: the time of issue is a part of it.
    first = await find_first(services, _FIRST, {"command_id": given["command_id"]}) if replayed else given
    refuse_other_body(first["fingerprint"], fingerprint, "SKU and")
    await _publish(services, call, first)
    await end(services, call.act, "done", after=added)
    accepted = ReceiptAccepted(
        command_id=first["command_id"],
        sku=path.sku,
        quantity=body.quantity,
        reference=body.reference,
        accepted_at=first["accepted_at"],
    )
    headers = {"Location": f"/v1/stock/{path.sku}", **({REPLAYED: "true"} if replayed else {})}
    return Answer(accepted, 202, headers)


async def show_stock(services: Services, call: Call, *, path: SkuPath) -> Answer:
    """Show how many units of a SKU there are, and where they went."""
    found = await queries.find_stock(services.db, path.sku)
    if found is None:
        raise Problem(
            "not-found", f"SKU {path.sku} was never received; POST /v1/stock/{path.sku}/receipts adds some."
        )
    return Answer(Stock(**found))


async def _publish(services: Services, call: Call, receipt: dict[str, Any]) -> None:
    command = ReceiveStock(
        command_id=receipt["command_id"],
        sku=receipt["sku"],
        quantity=receipt["quantity"],
        reference=receipt["reference"],
        issued_at=receipt["accepted_at"],
    )
    envelope = Envelope(
        message_id=command.command_id,
        type=type(command).__name__,
        source=SOURCE,
        workflow_id=None,
        time=command.issued_at,
        correlation_id=receipt["correlation_id"],
        causation_id=None,
        traceparent=call.traceparent,
    )
    body = services.codec.encode(command)
    publisher = await services.publisher()
    await publisher.publish(command.service, body, envelope.to_amqp(), command.command_id, envelope.type)
    await accounts.enter_published(
        services.db, command.command_id, command.service, envelope.type, workflow_id=None
    )
    log.info("command.published", type=envelope.type, message_id=command.command_id, sku=command.sku)
