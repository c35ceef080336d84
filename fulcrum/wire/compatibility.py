"""Can one version of a schema read what another wrote, and if not: which field of which record, and why?

Registries answer the first half. They also do not see a change of a logical type, of a decimal's scale, of
a namespace, or between string and bytes, all of which turn right bytes into wrong values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAMED = frozenset({"record", "enum", "fixed"})
#: What a value means beyond its bytes; none of it may ever change.
_MEANING = ("logicalType", "precision", "scale")
#: Avro's promotions: a reader of the second type can read the first.
_PROMOTED = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a schema: the record, the field (empty: the record itself) and why."""

    record: str
    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.record}{'.' if self.field else ''}{self.field}: {self.why}"


@dataclass(frozen=True, slots=True)
class Version:
    """A schema with the name it has in explanations, such as "version 2"."""

    label: str
    schema: Any


def canonical(node: Any, namespace: str = "") -> Any:
    """The schema without docs and aliases, every name in full: equal when two write the same bytes."""
    if isinstance(node, str):
        return node if node in _PRIMITIVES or "." in node else _qualified(node, namespace)
    if isinstance(node, list):
        return [canonical(branch, namespace) for branch in node]
    kind = node["type"]
    if isinstance(kind, dict | list):
        return canonical(kind, namespace)
    meaning = {key: node[key] for key in _MEANING if key in node}
    if kind in _NAMED:
        return _canonical_named(node, namespace, meaning)
    if kind == "array":
        return {"type": "array", "items": canonical(node["items"], namespace)}
    if kind == "map":
        return {"type": "map", "values": canonical(node["values"], namespace)}
    return {"type": kind, **meaning} if meaning else canonical(kind, namespace)


def _canonical_named(node: Mapping[str, Any], namespace: str, meaning: dict[str, Any]) -> dict[str, Any]:
    name = _qualified(node["name"], node.get("namespace", namespace))
    inner = name.rpartition(".")[0]
    kept = {key: node[key] for key in ("symbols", "size", "default") if key in node}
    if node["type"] == "record":
        kept["fields"] = [
            {
                "name": field["name"],
                "type": canonical(field["type"], inner),
                **({"default": field["default"]} if "default" in field else {}),
            }
            for field in node["fields"]
        ]
    return {"type": node["type"], "name": name, **kept, **meaning}


def _qualified(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def same_bytes(one: Any, other: Any) -> bool:
    """Whether two schemas differ in documentation only."""
    return bool(canonical(one) == canonical(other))


def breaks(ours: Any, earlier: Version) -> list[Fault]:
    """Why ``ours`` and an earlier version cannot read each other, or would misunderstand each other."""
    new = Version("this schema", canonical(ours))
    old = Version(earlier.label, canonical(earlier.schema))
    found = [
        *_Comparison(reader=new, writer=old).faults(),
        *_Comparison(reader=old, writer=new).faults(),
    ]
    return list(dict.fromkeys(found))


class _Comparison:
    """One reader against one writer, both canonical."""

    def __init__(self, reader: Version, writer: Version) -> None:
        self._reader = reader
        self._writer = writer
        self._read_names = _definitions(reader.schema)
        self._written_names = _definitions(writer.schema)
        self._compared: set[tuple[str, str]] = set()

    def faults(self) -> Iterator[Fault]:
        yield from self._compare(self._reader.schema, self._writer.schema, ("schema", ""))

    def _compare(self, reader: Any, writer: Any, at: tuple[str, str]) -> Iterator[Fault]:
        reader = self._read_names.get(reader, reader) if isinstance(reader, str) else reader
        writer = self._written_names.get(writer, writer) if isinstance(writer, str) else writer
        if isinstance(writer, list) or isinstance(reader, list):
            for branch in writer if isinstance(writer, list) else [writer]:
                yield from self._compare_branch(reader, branch, at)
        else:
            yield from self._compare_types(reader, writer, at)

    def _compare_branch(self, reader: Any, branch: Any, at: tuple[str, str]) -> Iterator[Fault]:
        """Some branch of the reader must take each branch of the writer."""
        kind = _kind(branch, self._written_names)
        readers = reader if isinstance(reader, list) else [reader]
        matching = [candidate for candidate in readers if _kind(candidate, self._read_names) == kind]
        if matching:
            yield from self._compare(matching[0], branch, at)
        else:
            yield Fault(*at, f"{self._writer.label} may write {kind}, which {self._reader.label} cannot read")

    def _compare_types(self, reader: Any, writer: Any, at: tuple[str, str]) -> Iterator[Fault]:
        read, written = _kind(reader), _kind(writer)
        if read != written:
            if read not in _PROMOTED.get(written, ()):
                yield Fault(*at, self._differ(read, written))
            return
        yield from self._compare_meaning(reader, writer, at)
        if read == "array":
            yield from self._compare(reader["items"], writer["items"], at)
        elif read == "map":
            yield from self._compare(reader["values"], writer["values"], at)
        elif read in _NAMED:
            yield from self._compare_named(reader, writer, at)

    def _compare_meaning(self, reader: Any, writer: Any, at: tuple[str, str]) -> Iterator[Fault]:
        for key in _MEANING:
            ours = reader.get(key) if isinstance(reader, dict) else None
            theirs = writer.get(key) if isinstance(writer, dict) else None
            if ours != theirs:
                yield Fault(*at, f"{key} must not change: {self._differ(ours, theirs)}")

    def _differ(self, read: Any, written: Any) -> str:
        """Said in one order for both directions, so that it is reported once."""
        one, other = f"{self._reader.label} has {read}", f"{self._writer.label} has {written}"
        return ", ".join(sorted((one, other)))

    def _compare_named(self, reader: Any, writer: Any, at: tuple[str, str]) -> Iterator[Fault]:
        if reader["name"] != writer["name"]:
            yield Fault(
                *at, f"name and namespace must not change: {self._differ(reader['name'], writer['name'])}"
            )
            return
        if (reader["name"], writer["name"]) in self._compared:
            return
        self._compared.add((reader["name"], writer["name"]))
        if reader["type"] == "record":
            yield from self._compare_fields(reader, writer)
        elif reader["type"] == "enum":
            yield from self._compare_symbols(reader, writer)
        elif reader["size"] != writer["size"]:
            yield Fault(
                reader["name"], "", f"size must not change: {self._differ(reader['size'], writer['size'])}"
            )

    def _compare_fields(self, reader: Any, writer: Any) -> Iterator[Fault]:
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            at = (reader["name"], field["name"])
            if field["name"] in written:
                yield from self._compare(field["type"], written[field["name"]]["type"], at)
            elif "default" not in field:
                yield Fault(
                    *at,
                    f"{self._writer.label} does not have it and {self._reader.label} has no default for it",
                )

    def _compare_symbols(self, reader: Any, writer: Any) -> Iterator[Fault]:
        unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
        if unknown and "default" not in reader:
            yield Fault(
                reader["name"],
                "",
                f"{self._writer.label} may write {', '.join(unknown)}, which {self._reader.label} does not "
                "know, and its enum has no default",
            )


def _kind(node: Any, names: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The kind of a type: a primitive's name, or record, enum, array and so on."""
    node = names.get(node, node) if isinstance(node, str) else node
    return str(node["type"]) if isinstance(node, dict) else str(node)


def _definitions(node: Any) -> dict[str, Any]:
    """Every named type of a canonical schema by its full name."""
    found: dict[str, Any] = {}
    if isinstance(node, list):
        for branch in node:
            found.update(_definitions(branch))
    elif isinstance(node, dict):
        if node["type"] in _NAMED:
            found[node["name"]] = node
        for inner in (node.get("items"), node.get("values"), *(f["type"] for f in node.get("fields", ()))):
            found.update(_definitions(inner))
    return found
