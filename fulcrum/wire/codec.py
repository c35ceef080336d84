"""How does a message become bytes, and bytes a message? Confluent wire format around Avro.

A frame is ``0x00``, the schema id as big-endian 32 bits, and the Avro body. Ids are looked up when the
codec is opened and never registered: after that the registry may be away. Only a frame written under an id
that appeared later (a newer release during a rolling update) needs it once more.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

import fastavro
from fastavro.types import Schema

from fulcrum.errors import Corrupt, Misconfigured, Retryable
from fulcrum.settings import Settings
from fulcrum.wire.compatibility import same_bytes
from fulcrum.wire.records import from_record, to_record
from fulcrum.wire.schemas import (
    MESSAGE_TYPES,
    Message,
    MessageType,
    fullname,
    schema,
    subject,
)

__all__ = ["MESSAGE_TYPES", "Codec", "Message", "UnknownSchema", "offline_codec", "open_codec", "subject"]

_HEAD = struct.Struct(">bI")
_TYPES: Mapping[str, MessageType] = {fullname(type_): type_ for type_ in MESSAGE_TYPES}

#: The schema text behind an id; Corrupt when the registry knows no such id.
Fetch = Callable[[int], Awaitable[str]]


class UnknownSchema(Retryable):
    """The frame names a schema id that is not cached yet: ``await codec.learn(error.schema_id)``."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} is not known yet")
        self.schema_id = schema_id


@dataclass(frozen=True, slots=True)
class _Writer:
    head: bytes
    schema: Schema
    record: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Reader:
    """``target`` is None when the writer's schema is ours, so that nothing needs to be resolved."""

    written: Schema
    target: Schema | None
    message: Callable[[dict[str, Any]], Message]


class Codec:
    """Encodes and decodes every message. Safe to share within a process."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._writers: dict[type, _Writer] = {}
        self._readers: dict[int, _Reader] = {}
        self._learning = asyncio.Lock()

    def encode(self, message: Message) -> bytes:
        """The frame of ``message``; Corrupt when a value does not fit its schema."""
        writer = self._writers.get(type(message))
        if writer is None:
            raise Corrupt(f"{type(message).__name__} cannot be encoded: this codec was not opened for it")
        out = BytesIO()
        out.write(writer.head)
        try:
            fastavro.schemaless_writer(out, writer.schema, writer.record(message), strict=True)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Corrupt(f"{type(message).__name__} does not fit its schema: {error}") from error
        return out.getvalue()

    def decode(self, data: bytes) -> Message:
        """The message in a frame. Corrupt, or UnknownSchema when its id must be learned first."""
        reader = self._readers.get(self.schema_id(data))
        if reader is None:
            raise UnknownSchema(self.schema_id(data))
        body = BytesIO(data)
        body.seek(_HEAD.size)
        try:
            record = fastavro.schemaless_reader(body, reader.written, reader.target)
            if body.tell() != len(data):
                raise Corrupt(f"{len(data) - body.tell()} bytes follow the Avro body")
            return reader.message(cast("dict[str, Any]", record))
        except Corrupt:
            raise
        except Exception as error:  # fastavro raises whatever the broken bytes lead it into
            raise Corrupt(f"Avro body cannot be read: {type(error).__name__}: {error}") from error

    def schema_id(self, data: bytes) -> int:
        """The schema id of a frame; Corrupt when it is no frame."""
        if len(data) < _HEAD.size:
            raise Corrupt(f"{len(data)} bytes are no frame: it begins with 0x00 and a 4-byte schema id")
        magic, schema_id = _HEAD.unpack_from(data)
        if magic != 0:
            raise Corrupt(f"byte 0x{data[0]:02x} at the start is no frame: it begins with 0x00")
        return cast(int, schema_id)

    async def learn(self, schema_id: int) -> None:
        """Fetch the schema behind an id. Corrupt when it is unknown, Unavailable when nobody answers."""
        async with self._learning:
            if schema_id not in self._readers:
                self.add_reader(schema_id, await self._fetch(schema_id))

    async def read(self, data: bytes) -> Message:
        """Decode, asking the registry once when the frame's schema is new."""
        try:
            return self.decode(data)
        except UnknownSchema as error:
            await self.learn(error.schema_id)
        return self.decode(data)

    def add_reader(self, schema_id: int, text: str) -> None:
        """Read frames of ``schema_id`` as written under the schema in ``text``."""
        written = json.loads(text)
        name = _fullname(written)
        type_ = _TYPES.get(name)
        if type_ is None:
            raise Corrupt(f"schema id {schema_id} is {name}, which is no message known here")
        ours = schema(type_)
        same = same_bytes(written, ours)
        self._readers[schema_id] = _Reader(
            fastavro.parse_schema(written),
            None if same else fastavro.parse_schema(ours),
            cast("Callable[[dict[str, Any]], Message]", from_record(type_)),
        )

    def add_writer(self, type_: MessageType, schema_id: int) -> None:
        """Write messages of ``type_`` under ``schema_id``."""
        parsed = fastavro.parse_schema(schema(type_))
        self._writers[type_] = _Writer(_HEAD.pack(0, schema_id), parsed, to_record(type_))


async def open_codec(settings: Settings, needs: Collection[MessageType] = MESSAGE_TYPES) -> Codec:
    """A codec with every version of the schemas in ``needs``, looked up in the registry, never registered.

    ``Misconfigured`` names the subjects under which a schema is missing; ``Unavailable`` when the registry
    does not answer.
    """
    from fulcrum.wire.registry import Registry  # its HTTP client takes 0.3 s to import

    registry = Registry(settings.registry_url)
    codec = Codec(registry.schema_by_id)
    found = await asyncio.gather(*(registry.versions(subject(settings.namespace, type_)) for type_ in needs))
    missing = []
    for type_, versions in zip(needs, found, strict=True):
        ours = schema(type_)
        for version in versions:
            codec.add_reader(version.schema_id, version.text)
            if same_bytes(json.loads(version.text), ours):
                codec.add_writer(type_, version.schema_id)
        if type_ not in codec._writers:
            missing.append(subject(settings.namespace, type_))
    if missing:
        raise Misconfigured(
            f"The registry at {settings.registry_url} lacks this release's schema under "
            f"{', '.join(sorted(missing))}; run `fulcrum schema register`"
        )
    return codec


def offline_codec() -> Codec:
    """A codec with ids of its own making, for tests that need no registry."""

    async def fetch(schema_id: int) -> str:
        raise Corrupt(f"schema id {schema_id} is unknown to the offline codec")

    codec = Codec(fetch)
    for schema_id, type_ in enumerate(MESSAGE_TYPES, start=1):
        codec.add_writer(type_, schema_id)
        codec.add_reader(schema_id, json.dumps(schema(type_)))
    return codec


def _fullname(node: Mapping[str, Any]) -> str:
    name = str(node.get("name", ""))
    return name if "." in name else f"{node.get('namespace', '')}.{name}"
