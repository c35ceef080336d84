"""Every message is described twice, as a dataclass and as an ``.avsc``; here the two are held equal."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from fulcrum.errors import Misconfigured
from fulcrum.saga import messages
from fulcrum.saga.messages import (
    COMMANDS,
    EVENT_STREAMS,
    EVENTS,
    SERVICES,
    DecisionMade,
    PaymentAuthorized,
    StockReserved,
)
from fulcrum.wire import schemas as wire_schemas
from fulcrum.wire.compatibility import canonical
from fulcrum.wire.lint import lint
from fulcrum.wire.records import from_record, to_record
from fulcrum.wire.schemas import MESSAGE_TYPES, fullname, schema, schema_file, schemas_dir

_PRIMITIVES: dict[Any, Any] = {
    str: "string",
    int: "long",
    bool: "boolean",
    bytes: "bytes",
    datetime: {"type": "long", "logicalType": "timestamp-micros"},
}


def described(hint: Any, records: dict[str, Any]) -> Any:
    """What an annotation must be in Avro. A record is its bare name, and is put into ``records``."""
    if hint in _PRIMITIVES:
        return _PRIMITIVES[hint]
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        inner = [(field.name, described(hints[field.name], records)) for field in fields(hint)]
        records[hint.__name__] = inner  # type: ignore[union-attr]
        return hint.__name__  # type: ignore[union-attr]
    if get_origin(hint) is tuple:
        return {"array": described(get_args(hint)[0], records)}
    if get_origin(hint) is Mapping:
        return {"map": described(get_args(hint)[1], records)}
    present = [part for part in get_args(hint) if part is not types.NoneType]
    return ["null", described(present[0], records)]


def written(node: Any, records: dict[str, Any]) -> Any:
    """What an ``.avsc`` says, in the same form."""
    if isinstance(node, list):
        return [written(branch, records) for branch in node]
    if isinstance(node, str):
        return node.rpartition(".")[2]
    if node["type"] == "record":
        name = node["name"].rpartition(".")[2]
        records[name] = [(field["name"], written(field["type"], records)) for field in node["fields"]]
        return name
    if node["type"] == "array":
        return {"array": written(node["items"], records)}
    if node["type"] == "map":
        return {"map": written(node["values"], records)}
    return node


@pytest.mark.parametrize("type_", MESSAGE_TYPES, ids=fullname)
def test_a_dataclass_and_its_schema_have_the_same_fields(type_: type) -> None:
    """Names, order, types and nullability agree, in the message and in every record inside it."""
    in_python: dict[str, Any] = {}
    in_avro: dict[str, Any] = {}
    assert described(type_, in_python) == written(schema(type_), in_avro)
    assert in_python == in_avro


@pytest.mark.parametrize("type_", MESSAGE_TYPES, ids=fullname)
def test_a_schema_keeps_the_rules(type_: type) -> None:
    """Each record and field has a doc, nullables default to null, times are timestamp-micros, and so on."""
    assert lint(schema(type_), fullname(type_)) == []


def test_there_is_one_file_a_message_and_none_besides() -> None:
    """No schema lies about that no message uses."""
    expected = {schema_file(type_) for type_ in MESSAGE_TYPES}
    assert set((schemas_dir() / "avro").glob("*/*")) == expected


def test_an_installation_without_checkout_finds_its_shared_schemas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a checkout the schemas are shared data; without those the error says where it looked."""
    monkeypatch.setattr(wire_schemas, "__file__", str(tmp_path / "site" / "fulcrum" / "wire" / "schemas.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(Misconfigured, match=f"neither in {tmp_path}/site/schemas nor in {tmp_path}/share"):
        schemas_dir.__wrapped__()
    shared = tmp_path / "share" / "fulcrum" / "schemas"
    (shared / "avro").mkdir(parents=True)
    assert schemas_dir.__wrapped__() == shared


def test_a_record_that_several_messages_share_is_the_same_in_all() -> None:
    """``Line`` and ``IntentCreated`` are written out in several files; they never drift apart."""
    seen: dict[str, Any] = {}
    for type_ in MESSAGE_TYPES:
        for record in _records(canonical(schema(type_))):
            assert seen.setdefault(record["name"], record) == record, f"{record['name']} in {type_.__name__}"
    assert "fulcrum.Line" in seen


def _records(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [record for branch in node for record in _records(branch)]
    if not isinstance(node, dict):
        return []
    inner = [node.get("items"), node.get("values"), *(f["type"] for f in node.get("fields", ()))]
    found = [record for part in inner if part is not None for record in _records(part)]
    return [node, *found] if node["type"] == "record" else found


def test_every_message_that_is_written_down_is_listed() -> None:
    """A new event or command that nobody added to EVENTS or COMMANDS is noticed here."""
    written_down = {
        type_
        for type_ in vars(messages).values()
        if is_dataclass(type_)
        and not type_.__subclasses__()
        and any(isinstance(getattr(type_, n, None), str) for n in ("stream", "service"))
    }
    assert written_down == {*EVENTS, *COMMANDS, DecisionMade}


def test_every_message_travels_somewhere_that_exists() -> None:
    """Streams and services that messages name are those that topics and queues are made for."""
    assert {type_.stream for type_ in EVENTS} == set(EVENT_STREAMS)
    assert {type_.service for type_ in COMMANDS} == set(SERVICES)


# --- the rules themselves -------------------------------------------------------------------------


def _changed(type_: type, name: str, /, **changes: Any) -> dict[str, Any]:
    """The schema of ``type_`` with one field changed."""
    changed = schema(type_)
    field = next(f for f in changed["fields"] if f["name"] == name)
    field.update(changes)
    return changed


_ENUM = {"type": "enum", "name": "Network", "doc": "Card network.", "symbols": ["VISA", "UNKNOWN"]}


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (_changed(PaymentAuthorized, "currency", doc=" "), "PaymentAuthorized.currency: has no doc"),
        (schema(PaymentAuthorized) | {"doc": ""}, "PaymentAuthorized: has no doc"),
        (schema(PaymentAuthorized) | {"namespace": "fulcrum.event"}, "must be called fulcrum.events"),
        (_changed(PaymentAuthorized, "amount_minor", type="int"), "amount_minor: use long"),
        (
            _changed(PaymentAuthorized, "amount_minor", type="double"),
            "amount_minor: use long in a minor unit",
        ),
        (
            _changed(PaymentAuthorized, "currency", name="currencyCode"),
            "currencyCode: a field is named in snake",
        ),
        (
            _changed(
                PaymentAuthorized, "occurred_at", type={"type": "long", "logicalType": "timestamp-millis"}
            ),
            "occurred_at: logicalType timestamp-millis on long",
        ),
        (
            _changed(
                PaymentAuthorized,
                "amount_minor",
                type={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            ),
            "amount_minor: logicalType decimal on bytes",
        ),
        (
            _changed(StockReserved, "expires_at", default=0),
            "expires_at: a nullable field has the default null",
        ),
        (
            _changed(StockReserved, "expires_at", type=["string", "null"]),
            'expires_at: a union is ["null", X]',
        ),
        (_changed(StockReserved, "expires_at", type=["null", "string", "long"]), "expires_at: a union is"),
        (
            _changed(PaymentAuthorized, "currency", type=_ENUM),
            "currency: enum Network needs the symbol UNKNOWN",
        ),
        (
            _changed(PaymentAuthorized, "currency", type=_ENUM | {"default": "UNKNOWN", "doc": ""}),
            "currency: enum Network has no doc",
        ),
        (
            _changed(
                StockReserved,
                "lines",
                type={
                    "type": "array",
                    "items": {"type": "record", "name": "Piece", "namespace": "fulcrum", "fields": []},
                },
            ),
            "fulcrum.Piece: has no doc",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_rule_is_named_with_its_record_and_field(broken: dict[str, Any], why: str) -> None:
    """Each rule finds its offence, also deep inside, and says where it is."""
    faults = [str(fault) for fault in lint(broken, f"fulcrum.events.{broken['name']}")]
    assert len([fault for fault in faults if why in fault]) == 1, faults


def test_a_well_formed_enum_is_allowed() -> None:
    """An enum with UNKNOWN as its default keeps room for new symbols."""
    enum = _ENUM | {"default": "UNKNOWN"}
    assert lint(_changed(PaymentAuthorized, "currency", type=enum), fullname(PaymentAuthorized)) == []


# --- annotations that have no Avro form -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Odd:
    first: str
    value: float


@dataclass(frozen=True, slots=True)
class _Either:
    first: str
    value: str | int


@pytest.mark.parametrize("odd", [_Odd, _Either])
@pytest.mark.parametrize("build", [to_record, from_record])
def test_an_annotation_without_avro_form_is_refused_at_once(odd: type, build: Any) -> None:
    """A message that could not be written fails when the codec is built, not when it is sent."""
    with pytest.raises(TypeError, match="has no Avro form here"):
        build(odd)


@dataclass(frozen=True)
class _WithoutSlots:
    first: str
    second: str


def test_a_message_without_slots_is_refused_at_once() -> None:
    """The reader fills slots; a message that has none is noticed when the codec is built."""
    with pytest.raises(TypeError, match="_WithoutSlots must be a dataclass with slots"):
        from_record(_WithoutSlots)
