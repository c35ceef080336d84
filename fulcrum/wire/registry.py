"""What does the schema registry hold, and how is a schema put there? Any Confluent-compatible one.

Only `fulcrum schema register` registers. Services look up.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from confluent_kafka.schema_registry import (
    AsyncSchemaRegistryClient,
    RegisteredSchema,
    Schema,
    SchemaRegistryError,
)

from fulcrum.errors import Conflict, Corrupt, FulcrumError, Misconfigured, NotFound, Unavailable
from fulcrum.wire.compatibility import Fault, Version, breaks, same_bytes
from fulcrum.wire.schemas import MESSAGE_TYPES, fullname, schema, schema_text, subject

#: Any two releases read each other's messages, however far apart: a replay reads years back, and during
#: a rolling restart the old release reads the new one's messages.
COMPATIBILITY = "FULL_TRANSITIVE"

_TIMEOUT_SECONDS = 10.0
_RETRIES = 2
_RETRY_WAIT_MS = 200
_CONFLICT, _UNPROCESSABLE, _SERVER_ERROR = 409, 422, 500
#: The registry's own codes for "no such subject, version or schema". A bare 404 comes from something else.
_MISSING = range(40400, 40500)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A schema under its subject: ``version`` counts from 1, ``schema_id`` is what frames carry."""

    subject: str
    version: int
    schema_id: int
    text: str

    def labelled(self) -> Version:
        """As it is called in explanations."""
        return Version(f"registered version {self.version}", json.loads(self.text))


class Registry:
    """A client that speaks in our errors: ``Unavailable`` when nobody answers, else as each method says."""

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._client = AsyncSchemaRegistryClient(
                {
                    "url": url,
                    "timeout": _TIMEOUT_SECONDS,
                    "max.retries": _RETRIES,
                    "retries.wait.ms": _RETRY_WAIT_MS,
                }
            )
        except ValueError as error:
            raise Misconfigured(self._no_url(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def versions(self, name: str) -> list[RegisteredVersion]:
        """Every version of a subject, oldest first; none when the subject is unknown."""
        try:
            numbers = await self._ask(self._client.get_versions(name), name)
            found = [await self._ask(self._client.get_version(name, n), name) for n in numbers]
        except NotFound:
            return []
        return sorted((_version(name, version) for version in found), key=lambda v: v.version)

    async def schema_by_id(self, schema_id: int) -> str:
        """The schema text behind an id; ``Corrupt`` when the registry knows no such id."""
        try:
            found = await self._ask(self._client.get_schema(schema_id), f"schema id {schema_id}")
        except NotFound as error:
            raise Corrupt(f"schema id {schema_id} is unknown to the registry at {self._url}") from error
        return str(found.schema_str)

    async def register(self, name: str, text: str) -> RegisteredVersion:
        """Put a schema under its subject, unless it is there. ``Conflict`` when it breaks another version.

        The subject's rule comes first, so that no version can slip in under a weaker one.
        """
        await self._ask(self._client.set_compatibility(name, COMPATIBILITY), name)
        there = _matching(await self.versions(name), text)
        if there is None:
            await self._ask(self._client.register_schema(name, Schema(text, "AVRO")), name)
            there = _matching(await self.versions(name), text)
        if there is None:
            raise Misconfigured(
                f"{name}: the registry at {self._url} took the schema and gives another one back; "
                "look at its versions with `fulcrum schema list`"
            )
        return there

    async def rule(self, name: str) -> str:
        """The compatibility that the registry demands of a subject, its own or the global one."""
        try:
            return str(await self._ask(self._client.get_compatibility(name), name))
        except NotFound:
            return str(await self._ask(self._client.get_compatibility(), "its global compatibility"))

    async def accepts(self, name: str, text: str) -> bool:
        """Whether the registry would take a schema beside every version that it has of the subject."""
        asked = self._client.test_compatibility_all_versions(name, Schema(text, "AVRO"))
        try:
            return bool(await self._ask(asked, name))
        except NotFound:  # some answer so for a subject that they do not know
            return True

    async def _ask(self, request: Awaitable[_T], about: str) -> _T:
        """Await a request and say its failure in our errors."""
        try:
            return await request
        except httpx2.TransportError as error:
            raise Unavailable(
                f"The schema registry at {self._url} does not answer about {about} "
                f"({type(error).__name__}: {error}); check FULCRUM_REGISTRY_URL and that the registry runs"
            ) from error
        except httpx2.InvalidURL as error:
            raise Misconfigured(self._no_url(error)) from error
        except SchemaRegistryError as error:
            raise self._explain(error, about) from error

    def _no_url(self, error: Exception) -> str:
        return f"FULCRUM_REGISTRY_URL={self._url!r}: {error}; it looks like http://host:port/path"

    def _explain(self, error: SchemaRegistryError, about: str) -> FulcrumError:
        if error.http_status_code >= _SERVER_ERROR:
            return Unavailable(
                f"The schema registry at {self._url} failed about {about}: {error}; see its log"
            )
        if error.error_code in _MISSING:
            return NotFound(f"{about} is unknown to the schema registry at {self._url}")
        if error.http_status_code in (_CONFLICT, _UNPROCESSABLE):
            return Conflict(
                f"{about}: the schema registry refuses the schema ({error.error_message}); "
                "`fulcrum schema check` says which field and why"
            )
        return Misconfigured(
            f"What answers at {self._url} is no schema registry that lets us in: {error}; "
            "FULCRUM_REGISTRY_URL must be the root of a Confluent-compatible API"
        )


async def check_registered(registry: Registry, namespace: str) -> list[Fault]:
    """Why this release's schemas cannot stand beside what is registered; a new subject has no faults."""
    faults: list[Fault] = []
    for type_ in MESSAGE_TYPES:
        name, text = subject(namespace, type_), schema_text(type_)
        registered = await registry.versions(name)
        found = [fault for v in registered for fault in breaks(schema(type_), v.labelled())]
        if not found and registered and not await registry.accepts(name, text):
            found = [Fault(fullname(type_), "", f"the registry calls it incompatible under {name}")]
        faults += found
    return faults


async def check_rules(registry: Registry, namespace: str) -> list[Fault]:
    """The registered subjects that the registry holds to a weaker rule than ours."""
    faults = []
    for type_ in MESSAGE_TYPES:
        name = subject(namespace, type_)
        if await registry.versions(name) and (rule := await registry.rule(name)) != COMPATIBILITY:
            why = f"{name} is held to {rule}, not {COMPATIBILITY}; run `fulcrum schema register`"
            faults.append(Fault(fullname(type_), "", why))
    return faults


def _version(name: str, found: RegisteredSchema) -> RegisteredVersion:
    assert found.version is not None
    assert found.schema_id is not None
    return RegisteredVersion(name, found.version, found.schema_id, str(found.schema.schema_str))


def _matching(versions: list[RegisteredVersion], text: str) -> RegisteredVersion | None:
    """The newest version that writes the same bytes; documentation does not count."""
    ours = json.loads(text)
    return next((v for v in reversed(versions) if same_bytes(json.loads(v.text), ours)), None)
