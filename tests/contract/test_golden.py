"""Golden bytes: what was written under any released schema is read today, by us and by Apache's Avro.

``golden/<record>/<n>.<case>.bin`` is an Avro body under version n of the history, ``.json`` beside it the
value in it. They are never changed. After ``fulcrum schema snapshot`` run this file as a program: it adds the
bytes of the new version from the samples below.

Long, because it holds a sample of every message, full and bare.
"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import pytest

from fulcrum.saga.messages import (
    AuthorizePayment,
    CancelDelivery,
    CancelPackJob,
    CancelRequested,
    CapturePayment,
    Cause,
    ConfirmStock,
    ConsumeStock,
    CreateDelivery,
    DeadlinePassed,
    DecisionMade,
    DeliveryCancelled,
    DeliveryCreated,
    DeliveryDelayed,
    DeliveryNotCancelled,
    DeliveryRefused,
    HandOverParcel,
    HandOverRefused,
    HoldExpired,
    HoldStock,
    IntentCreated,
    IssuedCommand,
    Line,
    LineTerms,
    OperatorRequested,
    OrderPacked,
    OrderShort,
    PackJobCancelled,
    PackOrder,
    PackRefused,
    ParcelDelivered,
    ParcelHandedOver,
    ParcelNotDelivered,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureRefused,
    PaymentDeclined,
    PaymentNotFound,
    PaymentRefunded,
    PaymentRefundRefused,
    PaymentReversalRefused,
    PaymentReversed,
    PaymentVoided,
    PaymentVoidRefused,
    QueryPayment,
    ReceiveStock,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
    RestockStock,
    RetentionPassed,
    ReversePayment,
    ShortLine,
    SignalReceived,
    StepView,
    StockConfirmed,
    StockConsumed,
    StockExpired,
    StockNotConfirmed,
    StockNotConsumed,
    StockRejected,
    StockReleased,
    StockReserved,
    StockRestocked,
    TrackDelivery,
    VoidPayment,
)
from fulcrum.saga.run import Intercept, StepState, Unsent, WorkflowRun
from fulcrum.wire.codec import Message, offline_codec
from fulcrum.wire.history import committed
from fulcrum.wire.records import to_record
from fulcrum.wire.schemas import MESSAGE_TYPES, fullname, schema_text

GOLDEN = Path(__file__).parent / "golden"
HEAD = 5

_NOON = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)
_LATER = datetime(2038, 1, 19, 3, 14, 8, 999_999, tzinfo=UTC)
_EVENT = {
    "event_id": "0f1e8a52-9d51-5d0c-8f54-3d1c2b7a9e01",
    "workflow_id": "7b0c1a52-6a0e-5c57-9b0e-3f2f9d5f6c22",
    "sequence": 1,
    "occurred_at": _NOON,
}
_ANSWER = _EVENT | {"command_id": "c0ffee52-6a0e-5c57-9b0e-3f2f9d5f6c33"}
_COMMAND = {
    "command_id": _ANSWER["command_id"],
    "workflow_id": _EVENT["workflow_id"],
    "step": "reserve_stock",
    "attempt": 2,
    "issued_at": _LATER,
}
_LINES = (Line("SKU-1", 1), Line("ÄÖ-€-🚚", 2**40))
_INTENT = IntentCreated(
    **_EVENT,
    intent_id="1a7e1a52-6a0e-5c57-9b0e-3f2f9d5f6c44",
    tenant="acme",
    customer_ref="customer-7",
    lines=_LINES,
    amount_minor=1_999,
    currency="EUR",
    payment_method="pay_ok",
    ship_to="address-1",
    definition="fulfillment.v1",
    correlation_id="corr-1",
    terms=(LineTerms(999, "cancel_line"), LineTerms(2**40, "wait")),
    promised_at=_LATER,
    holds=("address", "fraud"),
)
_SHORT = (ShortLine("SKU-1", 5, 0),)
_CAUSE = Cause(
    event_id=str(_EVENT["event_id"]),
    type="StockRejected",
    stream="inventory",
    sequence=1,
    occurred_at=_NOON,
    topic="fulcrum.inventory",
    partition=7,
    offset=2**33,
    actor="someone",
    reason="gave up",
    verb="terminate",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
_DECISION: dict[str, Any] = {
    "decision_id": "dec1de52-6a0e-5c57-9b0e-3f2f9d5f6c55",
    "workflow_id": _EVENT["workflow_id"],
    "version": 3,
    "decided_at": _NOON,
    "cause": _CAUSE,
    "status": "compensating",
    "intent_id": _INTENT.intent_id,
    "tenant": "acme",
    "customer_ref": "customer-7",
    "correlation_id": "corr-1",
    "definition": "fulfillment.v1",
    "lines": _LINES,
    "amount_minor": 1_999,
    "currency": "EUR",
    "started_at": _NOON,
}

SAMPLES: dict[str, tuple[Message, ...]] = {
    "full": (
        _INTENT,
        CancelRequested(**_EVENT, reason="changed my mind", actor="someone"),
        PaymentAuthorized(
            **_ANSWER, authorization_id="auth_1", amount_minor=-1, currency="JPY", expires_at=_LATER
        ),
        PaymentDeclined(**_ANSWER, reason="insufficient_funds"),
        PaymentNotFound(**_ANSWER, asked_command_id=str(_ANSWER["command_id"])),
        PaymentVoided(**_ANSWER, authorization_id="auth_1"),
        PaymentVoidRefused(**_ANSWER, reason="captured"),
        PaymentCaptured(
            **_ANSWER, authorization_id="auth_1", amount_minor=2**40, currency="JPY", reauthorized=True
        ),
        PaymentCaptureRefused(**_ANSWER, reason="amount_too_large"),
        PaymentRefunded(
            **_ANSWER, authorization_id="auth_1", amount_minor=1, refunded_minor=2**40, currency="JPY"
        ),
        PaymentRefundRefused(**_ANSWER, reason="refund_failed"),
        StockReserved(**_ANSWER, lines=_LINES, expires_at=_LATER),
        StockRejected(**_ANSWER, reason="out_of_stock", short=(ShortLine("SKU-1", 5, 0),)),
        StockReleased(**_ANSWER, lines=_LINES),
        DeadlinePassed(
            **_EVENT, step="reserve_stock", command_id=str(_ANSWER["command_id"]), deadline_at=_LATER
        ),
        HoldExpired(**_EVENT, step="reserve_stock", expires_at=_LATER),
        RetentionPassed(**_EVENT, finished_at=_LATER),
        StockConfirmed(**_ANSWER, lines=_LINES),
        StockNotConfirmed(**_ANSWER, reason="expired"),
        StockExpired(**_ANSWER, lines=_LINES, expires_at=_LATER),
        OperatorRequested(
            **_EVENT,
            verb="skip",
            reason="paid in cash",
            actor="someone",
            step="authorize_payment",
            result='{"authorization_id": "till-1"}',
            seconds=2**33,
        ),
        SignalReceived(
            **_EVENT, name="release", payload='{"hold": "fraud"}', actor="someone", reason="looked at it"
        ),
        PaymentReversed(**_ANSWER, authorization_id="auth_1", refunded_minor=2**40, currency="JPY"),
        PaymentReversalRefused(**_ANSWER, reason="refund_failed"),
        StockConsumed(**_ANSWER, lines=_LINES, released=(Line("SKU-2", 1),)),
        StockNotConsumed(**_ANSWER, reason="released"),
        StockRestocked(**_ANSWER, lines=_LINES),
        OrderShort(**_ANSWER, pack_job_id="job-1", short=_SHORT, waits_until=_LATER),
        OrderPacked(**_ANSWER, pack_job_id="job-1", lines=_LINES, parcels=2),
        PackRefused(**_ANSWER, reason="short", short=_SHORT),
        PackJobCancelled(**_ANSWER, pack_job_id="job-1", handed_over=True),
        ParcelHandedOver(**_ANSWER, pack_job_id="job-1", lines=_LINES),
        HandOverRefused(**_ANSWER, reason="cancelled"),
        DeliveryCreated(
            **_ANSWER, delivery_id="d-1", tracking_number="T1", label_url="https://courier.example/labels/T1"
        ),
        DeliveryRefused(**_ANSWER, reason="address_unknown"),
        DeliveryCancelled(**_ANSWER, delivery_id="d-1", state="lost"),
        DeliveryNotCancelled(**_ANSWER, reason="out_for_delivery"),
        DeliveryDelayed(**_ANSWER, reason="customs"),
        ParcelDelivered(**_ANSWER, tracking_number="T1", delivered_at=_LATER),
        ParcelNotDelivered(**_ANSWER, reason="returned", undamaged=True),
        DecisionMade(
            **_DECISION,
            step="authorize_payment",
            status_before="running",
            reason="reserve_stock: out_of_stock",
            ignored="stale_command",
            commands=(
                IssuedCommand(
                    command_id=str(_ANSWER["command_id"]),
                    type="VoidPayment",
                    service="payment",
                    step="authorize_payment",
                    attempt=1,
                    deadline_at=_LATER,
                    body=bytes(range(256)),
                ),
            ),
            steps=(
                StepView(
                    name="authorize_payment",
                    status="undo_requested",
                    attempt=1,
                    command_id=str(_ANSWER["command_id"]),
                    deadline_at=_LATER,
                    finished_at=_NOON,
                    reason="because",
                    late=2,
                    expires_at=_LATER,
                    held=True,
                    skipped_by="someone",
                    result='{"authorization_id": "till-1"}',
                    passed_over=True,
                ),
            ),
            standing=("authorize_payment",),
            finished_at=_LATER,
            holds=("address", "fraud"),
            promised_at=_LATER,
            intercept="cancelled: because",
        ),
        AuthorizePayment(
            **_COMMAND, tenant="acme", amount_minor=1_999, currency="EUR", payment_method="pay_ok"
        ),
        QueryPayment(**_COMMAND, asked_command_id=str(_ANSWER["command_id"])),
        VoidPayment(**_COMMAND),
        CapturePayment(**_COMMAND, amount_minor=1_999, currency="EUR"),
        RefundPayment(**_COMMAND, amount_minor=1, currency="EUR"),
        ReserveStock(**_COMMAND, lines=_LINES),
        ReleaseStock(**_COMMAND),
        HoldStock(**_COMMAND, lines=_LINES),
        ConfirmStock(**_COMMAND),
        ReversePayment(**_COMMAND),
        ConsumeStock(**_COMMAND, lines=_LINES),
        RestockStock(**_COMMAND, undamaged=True),
        PackOrder(**_COMMAND, lines=_LINES, terms=_INTENT.terms, ship_to="address-1"),
        CancelPackJob(**_COMMAND),
        HandOverParcel(**_COMMAND, tracking_number="T1"),
        CreateDelivery(**_COMMAND, tenant="acme", ship_to="address-1", lines=_LINES, parcels=2),
        CancelDelivery(**_COMMAND),
        TrackDelivery(**_COMMAND),
        ReceiveStock(
            command_id=str(_ANSWER["command_id"]),
            sku="SKU-1",
            quantity=12,
            reference="delivery-9",
            issued_at=_NOON,
        ),
        WorkflowRun(
            workflow_id=str(_EVENT["workflow_id"]),
            version=3,
            status="cancelled",
            definition="fulfillment.v1",
            intent=_INTENT,
            steps=(
                StepState(
                    name="authorize_payment",
                    status="undone",
                    attempt=1,
                    command_id=str(_ANSWER["command_id"]),
                    requested_at=_NOON,
                    deadline_at=_LATER,
                    finished_at=_LATER,
                    reason="because",
                    undo_command_id="0dd01a52-6a0e-5c57-9b0e-3f2f9d5f6c66",
                    late=2,
                    query_command_id="0dd01a52-6a0e-5c57-9b0e-3f2f9d5f6c77",
                    expires_at=_LATER,
                    held=True,
                    skipped_by="someone",
                    result='{"authorization_id": "till-1"}',
                ),
            ),
            seen={"intents": 1},
            started_at=_NOON,
            updated_at=_NOON,
            finished_at=_LATER,
            reason="reserve_stock: out_of_stock",
            unsent=(Unsent(version=3, record=b"\x00\xff"),),
            paused_from="compensating",
            undo_from="authorize_payment",
            holds=("address", "operator"),
            intercept=Intercept(
                step="create_delivery",
                command_id="0dd01a52-6a0e-5c57-9b0e-3f2f9d5f6c88",
                reason="cancelled: because",
                requested_at=_NOON,
                deadline_at=_LATER,
                late=1,
                held=True,
            ),
        ),
    ),
    # Everything that may be absent is.
    "bare": (
        OperatorRequested(**_EVENT, verb="pause", reason="wait", actor="someone"),
        PaymentAuthorized(**_ANSWER, authorization_id="auth_1", amount_minor=1, currency="JPY"),
        PaymentVoided(**_ANSWER, authorization_id=None),
        PaymentReversed(**_ANSWER, authorization_id=None, refunded_minor=0, currency=None),
        PackJobCancelled(**_ANSWER, pack_job_id=None, handed_over=False),
        DeliveryCancelled(**_ANSWER, delivery_id=None, state="none"),
        StockReserved(**_ANSWER, lines=(), expires_at=None),
        StockRejected(**_ANSWER, reason="", short=()),
        DecisionMade(
            **_DECISION, step=None, status_before=None, reason=None, ignored=None, commands=(), steps=()
        ),
        WorkflowRun(
            workflow_id=str(_EVENT["workflow_id"]),
            version=1,
            status="running",
            definition="fulfillment.v1",
            intent=_INTENT,
            steps=(StepState(name="authorize_payment"),),
            seen={},
            started_at=_NOON,
            updated_at=_NOON,
        ),
    ),
}

_VERSIONS = {fullname(type_): committed().versions(fullname(type_)) for type_ in MESSAGE_TYPES}
_FILES = sorted(GOLDEN.glob("*/*.bin"))
_NEWEST = [path for path in _FILES if int(path.name.split(".")[0]) == len(_VERSIONS[path.parent.name])]


def _name(path: Path) -> str:
    return f"{path.parent.name.rpartition('.')[2]}/{path.stem}"


def _sample(path: Path) -> Message:
    case = path.name.split(".")[1]
    return next(m for m in SAMPLES[case] if fullname(type(m)) == path.parent.name)


def _value(path: Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def _written_under(path: Path) -> dict[str, Any]:
    written: dict[str, Any] = _VERSIONS[path.parent.name][int(path.name.split(".")[0]) - 1].schema
    return written


def _by_apache(path: Path, reader: str) -> Any:
    writer = avro.schema.parse(json.dumps(_written_under(path)))
    decoder = avro.io.BinaryDecoder(io.BytesIO(path.read_bytes()))
    return _plain(avro.io.DatumReader(writer, avro.schema.parse(reader)).read(decoder))


def _plain(value: Any) -> Any:
    """The value as JSON has it: bytes as the characters of the same number, tuples as lists."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@pytest.mark.parametrize("name", sorted(_VERSIONS))
def test_every_released_schema_has_golden_bytes(name: str) -> None:
    """No version of a schema is without bytes that prove it readable."""
    have = {int(path.name.split(".")[0]) for path in _FILES if path.parent.name == name}
    assert have == set(range(1, len(_VERSIONS[name]) + 1)), "run this file as a program to add them"


@pytest.mark.parametrize("path", _FILES, ids=_name)
def test_apaches_avro_reads_the_value_that_is_written_down(path: Path) -> None:
    """An implementation that shares no code with ours finds in the bytes what the JSON file says."""
    assert _by_apache(path, json.dumps(_written_under(path))) == _value(path)


@pytest.mark.parametrize("path", _FILES, ids=_name)
def test_our_codec_reads_what_apaches_avro_reads(path: Path) -> None:
    """Bytes of every release, read as today's message, give both readers the same value."""
    codec = offline_codec()
    codec.add_reader(4711, json.dumps(_written_under(path)))
    message = codec.decode(b"\x00" + (4711).to_bytes(4, "big") + path.read_bytes())
    ours = _plain(to_record(type(message))(message))
    assert ours == _by_apache(path, schema_text(type(message)))


@pytest.mark.parametrize("path", _NEWEST, ids=_name)
def test_our_codec_still_writes_the_golden_bytes(path: Path) -> None:
    """The same message gives the same bytes, release after release."""
    assert offline_codec().encode(_sample(path))[HEAD:] == path.read_bytes()


@pytest.mark.parametrize("path", _NEWEST, ids=_name)
def test_apaches_avro_writes_the_golden_bytes(path: Path) -> None:
    """Written from our record by the other implementation, the bytes are the same."""
    message = _sample(path)
    writer = avro.io.DatumWriter(avro.schema.parse(schema_text(type(message))))
    out = io.BytesIO()
    writer.write(to_record(type(message))(message), avro.io.BinaryEncoder(out))
    assert out.getvalue() == path.read_bytes()


def _add_missing() -> None:
    for case, messages in SAMPLES.items():
        for message in messages:
            name = fullname(type(message))
            path = GOLDEN / name / f"{len(_VERSIONS[name])}.{case}.bin"
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(offline_codec().encode(message)[HEAD:])
            value = _plain(to_record(type(message))(message))
            path.with_suffix(".json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
            print(f"added {path.relative_to(GOLDEN.parent)}")


if __name__ == "__main__":
    _add_missing()
