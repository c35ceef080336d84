"""The codec: every message survives the wire, and nothing but a message comes off it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any, get_args, get_origin, get_type_hints

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulcrum.errors import Corrupt
from fulcrum.saga.messages import Line, PaymentAuthorized, StockReserved
from fulcrum.wire.codec import MESSAGE_TYPES, Codec, UnknownSchema, offline_codec
from fulcrum.wire.schemas import fullname, schema

CODEC = offline_codec()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)
PAID = PaymentAuthorized(
    event_id="e1",
    workflow_id="w1",
    sequence=1,
    occurred_at=NOON,
    command_id="c1",
    authorization_id="auth_1",
    amount_minor=1999,
    currency="EUR",
)

_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    int: st.integers(-(2**63), 2**63 - 1),
    bytes: st.binary(max_size=20),
    datetime: st.timedeltas(timedelta(days=-700_000), timedelta(days=2_900_000)).map(lambda d: EPOCH + d),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotation that messages use."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{field.name: values(hints[field.name]) for field in fields(hint)})
    inner = [values(part) for part in get_args(hint) if part not in (..., types.NoneType)]
    if get_origin(hint) is tuple:
        return st.lists(inner[0], max_size=4).map(tuple)
    if get_origin(hint) is Mapping:
        return st.dictionaries(*inner, max_size=4)
    return st.none() | inner[0]


@pytest.mark.parametrize("type_", MESSAGE_TYPES, ids=fullname)
def test_every_message_comes_back_as_it_was(type_: type) -> None:
    """Whatever its fields hold, a message is equal to what is decoded from its bytes."""

    @settings(max_examples=40, deadline=None)
    @given(values(type_))
    def round_trip(message: Any) -> None:
        assert CODEC.decode(CODEC.encode(message)) == message

    round_trip()


def test_a_frame_begins_with_zero_and_the_schema_id() -> None:
    """The head is Confluent's, so every tool that knows the registry can read it."""
    codec = offline_codec()
    codec.add_writer(PaymentAuthorized, 0x01020304)
    assert codec.encode(PAID)[:5] == b"\x00\x01\x02\x03\x04"


def test_a_decoded_time_is_utc_and_keeps_its_microseconds() -> None:
    """Times are aware and in UTC, wherever the writer was."""
    there = replace(PAID, occurred_at=NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))
    read = CODEC.decode(CODEC.encode(there))
    assert isinstance(read, PaymentAuthorized)
    assert read.occurred_at == NOON
    assert read.occurred_at.utcoffset() == timedelta(0)


# --- what cannot be written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"currency": None},
        {"currency": b"EUR"},
        {"currency": 978},
        {"amount_minor": "1999"},
        {"amount_minor": 19.99},
        {"amount_minor": None},
        {"amount_minor": 2**63},
        {"occurred_at": datetime(2026, 3, 1, 12)},  # noqa: DTZ001
        {"occurred_at": "2026-03-01"},
        {"occurred_at": None},
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    """A wrong type, a naive time or a number that would be cut never gets into a topic."""
    with pytest.raises(Corrupt, match="PaymentAuthorized does not fit its schema"):
        CODEC.encode(replace(PAID, **change))


def test_a_wrong_value_inside_a_nested_record_is_refused() -> None:
    """The check reaches into lines."""
    held = StockReserved(
        event_id="e1",
        workflow_id="w1",
        sequence=1,
        occurred_at=NOON,
        command_id="c1",
        lines=(Line("SKU", 1.5),),  # type: ignore[arg-type]
        expires_at=None,
    )
    with pytest.raises(Corrupt, match="StockReserved"):
        CODEC.encode(held)


def test_a_message_that_the_codec_was_not_opened_for_is_refused() -> None:
    """A process writes only what it said it needs."""
    with pytest.raises(
        Corrupt, match="PaymentAuthorized cannot be encoded: this codec was not opened for it"
    ):
        Codec(_no_fetch).encode(PAID)


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x00\x00\x00\x00", b'{"event_id": "e1"}', b"\x01\x00\x00\x00\x01"]
)
def test_what_is_no_frame_is_corrupt(data: bytes) -> None:
    """JSON, short bytes and a wrong first byte are recognised before anybody is asked."""
    with pytest.raises(Corrupt, match="no frame"):
        CODEC.decode(data)


def test_a_frame_cut_anywhere_is_corrupt() -> None:
    """No prefix of a frame passes for a message."""
    frame = CODEC.encode(PAID)
    for length in range(len(frame)):
        with pytest.raises(Corrupt):
            CODEC.decode(frame[:length])


def test_bytes_behind_the_body_are_corrupt() -> None:
    """A frame that was written under another schema than its id says often ends too late."""
    with pytest.raises(Corrupt, match="2 bytes follow"):
        CODEC.decode(CODEC.encode(PAID) + b"!!")


@settings(deadline=None)
@given(st.integers(0, len(MESSAGE_TYPES) + 2), st.binary(max_size=200))
def test_no_bytes_break_the_reader(schema_id: int, body: bytes) -> None:
    """Whatever follows a head, the answer is a message, Corrupt or UnknownSchema; never another error."""
    with contextlib.suppress(Corrupt, UnknownSchema):
        CODEC.decode(b"\x00" + schema_id.to_bytes(4, "big") + body)


def test_an_endless_length_does_not_eat_the_memory() -> None:
    """A string that claims to be 2^62 bytes long is corrupt at once."""
    head = CODEC.encode(PAID)[:5]
    with pytest.raises(Corrupt):
        CODEC.decode(head + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f")


# --- schemas that are not known yet ---------------------------------------------------------------


async def _no_fetch(schema_id: int) -> str:
    raise AssertionError(f"schema id {schema_id} was fetched")


def _frame(schema_id: int, written: dict[str, Any], record: dict[str, Any]) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(written), record)
    return b"\x00" + schema_id.to_bytes(4, "big") + body.getvalue()


def _record(**changes: Any) -> dict[str, Any]:
    return {field.name: getattr(PAID, field.name) for field in fields(PAID)} | changes


def _fetching(texts: dict[int, str], fetched: list[int]) -> Callable[[int], Any]:
    async def fetch(schema_id: int) -> str:
        fetched.append(schema_id)
        await asyncio.sleep(0)
        if schema_id not in texts:
            raise Corrupt(f"schema id {schema_id} is unknown")
        return texts[schema_id]

    return fetch


def test_decode_names_the_id_it_does_not_know() -> None:
    """The caller learns which id to ask for."""
    with pytest.raises(UnknownSchema) as caught:
        CODEC.decode(b"\x00" + (4711).to_bytes(4, "big") + b"body")
    assert caught.value.schema_id == 4711


async def test_reading_asks_once_for_a_new_id_however_many_wait() -> None:
    """Many frames under a new id cost one request."""
    fetched: list[int] = []
    codec = Codec(_fetching({7: json.dumps(schema(PaymentAuthorized))}, fetched))
    frame = _frame(7, schema(PaymentAuthorized), _record())
    assert await asyncio.gather(*(codec.read(frame) for _ in range(20))) == [PAID] * 20
    assert fetched == [7]


async def test_a_known_id_is_read_without_asking() -> None:
    """With its ids cached the codec needs no registry."""
    codec = Codec(_no_fetch)
    codec.add_reader(7, json.dumps(schema(PaymentAuthorized)))
    assert await codec.read(_frame(7, schema(PaymentAuthorized), _record())) == PAID


async def test_an_id_that_the_registry_does_not_know_is_corrupt() -> None:
    """A made-up id is a broken frame, not a reason to wait."""
    with pytest.raises(Corrupt, match="schema id 8 is unknown"):
        await Codec(_fetching({}, [])).read(b"\x00\x00\x00\x00\x08body")


async def test_a_record_of_somebody_else_is_corrupt() -> None:
    """A schema of another system on our topic is named and refused."""
    foreign = {"type": "record", "name": "Invoice", "namespace": "billing", "fields": []}
    with pytest.raises(Corrupt, match=r"schema id 9 is billing\.Invoice, which is no message known here"):
        await Codec(_fetching({9: json.dumps(foreign)}, [])).learn(9)


async def test_a_record_without_a_namespace_in_its_name_is_recognised() -> None:
    """A registry may hand a schema back with its full name in ``name``."""
    renamed = schema(PaymentAuthorized) | {"name": "fulcrum.events.PaymentAuthorized"}
    del renamed["namespace"]
    codec = Codec(_fetching({7: json.dumps(renamed)}, []))
    assert await codec.read(_frame(7, renamed, _record())) == PAID


async def test_a_message_of_an_older_release_is_read() -> None:
    """A field that an older writer did not have takes its default."""
    older = schema(StockReserved)
    older["fields"] = [f for f in older["fields"] if f["name"] != "expires_at"]
    record = {
        "event_id": "e1",
        "workflow_id": "w1",
        "sequence": 1,
        "occurred_at": NOON,
        "command_id": "c1",
        "lines": [{"sku": "SKU", "quantity": 2}],
    }
    codec = Codec(_fetching({7: json.dumps(older)}, []))
    assert await codec.read(_frame(7, older, record)) == StockReserved(
        event_id="e1",
        workflow_id="w1",
        sequence=1,
        occurred_at=NOON,
        command_id="c1",
        lines=(Line("SKU", 2),),
        expires_at=None,
    )


async def test_a_message_of_a_newer_release_is_read() -> None:
    """A field that this release does not know is skipped."""
    newer = schema(PaymentAuthorized)
    newer["fields"].insert(2, {"name": "network", "type": ["null", "string"], "default": None})
    codec = Codec(_fetching({7: json.dumps(newer)}, []))
    assert await codec.read(_frame(7, newer, _record(network="visa"))) == PAID


async def test_a_schema_that_cannot_be_resolved_is_corrupt() -> None:
    """An incompatible writer is reported on its bytes, and the reader goes on."""
    broken = schema(PaymentAuthorized)
    broken["fields"] = [f for f in broken["fields"] if f["name"] != "currency"]
    record = {k: v for k, v in _record().items() if k != "currency"}
    codec = Codec(_fetching({7: json.dumps(broken)}, []))
    with pytest.raises(Corrupt, match="currency"):
        await codec.read(_frame(7, broken, record))
