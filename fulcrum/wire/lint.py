"""What must hold for a schema by itself, beyond what Avro and the registry ask?

The rules keep every later version possible (``null`` first with its default, ``long`` from the start, room in
enums) and every message explained (a ``doc`` on each record and field).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fulcrum.wire.compatibility import Fault

_FIELD_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_RECORD_NAME = re.compile(r"^[A-Z][A-Za-z0-9]*$")
_TIME = "timestamp-micros"
#: Every enum can be read by a release that does not know its newest symbol.
_ENUM_DEFAULT = "UNKNOWN"
_AVOIDED = {
    "int": "use long: int could never grow into it under FULL compatibility",
    "float": "use long in a minor unit: floats do not add up",
    "double": "use long in a minor unit: floats do not add up",
    "fixed": "use bytes: a fixed size can never change",
}


def lint(schema: Mapping[str, Any], fullname: str) -> list[Fault]:
    """Every rule that a message's schema breaks. ``fullname`` is what the message is called."""
    found = list(_record(schema, schema.get("namespace", "")))
    name = f"{schema.get('namespace', '')}.{schema.get('name', '')}"
    if name != fullname:
        found.insert(0, Fault(name, "", f"must be called {fullname}, as its message and its file"))
    return found


def _record(node: Mapping[str, Any], namespace: str) -> Iterator[Fault]:
    namespace = node.get("namespace", namespace)
    record = f"{namespace}.{node['name']}"
    if not _RECORD_NAME.match(node["name"]):
        yield Fault(record, "", "a record is named in CamelCase")
    if not namespace:
        yield Fault(record, "", "has no namespace")
    if not str(node.get("doc", "")).strip():
        yield Fault(record, "", "has no doc")
    for field in node["fields"]:
        yield from _field(field, record, namespace)


def _field(field: Mapping[str, Any], record: str, namespace: str) -> Iterator[Fault]:
    name = field["name"]
    if not _FIELD_NAME.match(name):
        yield Fault(record, name, "a field is named in snake_case")
    if not str(field.get("doc", "")).strip():
        yield Fault(record, name, "has no doc")
    if isinstance(field["type"], list):
        yield from _nullable(field, record)
    for type_ in field["type"] if isinstance(field["type"], list) else [field["type"]]:
        yield from _type(type_, record, name, namespace)


def _nullable(field: Mapping[str, Any], record: str) -> Iterator[Fault]:
    branches = field["type"]
    if len(branches) != 2 or branches[0] != "null":
        yield Fault(record, field["name"], 'a union is ["null", X]: null first, and one other branch')
    elif "default" not in field or field["default"] is not None:
        yield Fault(record, field["name"], "a nullable field has the default null, so that it can be removed")


def _type(node: Any, record: str, field: str, namespace: str) -> Iterator[Fault]:
    kind = node["type"] if isinstance(node, Mapping) else node
    if kind in _AVOIDED:
        yield Fault(record, field, _AVOIDED[kind])
    if not isinstance(node, Mapping):
        return
    logical = node.get("logicalType")
    if logical is not None and (logical, kind) != (_TIME, "long"):
        yield Fault(record, field, f"logicalType {logical} on {kind}: only {_TIME} on long is used here")
    if kind == "record":
        yield from _record(node, namespace)
    elif kind == "enum":
        yield from _enum(node, record, field)
    elif kind in ("array", "map"):
        yield from _type(node["items" if kind == "array" else "values"], record, field, namespace)


def _enum(node: Mapping[str, Any], record: str, field: str) -> Iterator[Fault]:
    if node.get("default") != _ENUM_DEFAULT or _ENUM_DEFAULT not in node["symbols"]:
        yield Fault(
            record, field, f"enum {node['name']} needs the symbol {_ENUM_DEFAULT} and has it as default"
        )
    if not str(node.get("doc", "")).strip():
        yield Fault(record, field, f"enum {node['name']} has no doc")
