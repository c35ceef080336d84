"""The registry: schemas get in once and under the strict rule, and services only look them up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from typer.testing import CliRunner

from fulcrum.cli.schema import app
from fulcrum.errors import Conflict, Corrupt, Misconfigured, Unavailable
from fulcrum.saga.messages import PaymentAuthorized, VoidPayment
from fulcrum.settings import Settings
from fulcrum.wire import registry as wire_registry
from fulcrum.wire.codec import MESSAGE_TYPES, Codec, open_codec
from fulcrum.wire.registry import COMPATIBILITY, Registry, check_registered, check_rules
from fulcrum.wire.schemas import fullname, schema, schema_text, subject

PAID = fullname(PaymentAuthorized)
MESSAGE = PaymentAuthorized(
    event_id="e1",
    workflow_id="w1",
    sequence=1,
    occurred_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    command_id="c1",
    authorization_id="auth_1",
    amount_minor=1999,
    currency="EUR",
)


@pytest_asyncio.fixture
async def registry(settings: Settings) -> AsyncIterator[Registry]:
    """The stack's registry."""
    opened = Registry(settings.registry_url)
    yield opened
    await opened.close()


@pytest.fixture
def name() -> str:
    """A subject that nobody has used."""
    return f"t{uuid4().hex[:8]}.payments-{PAID}"


def _with_field(**field: Any) -> str:
    changed = schema(PaymentAuthorized)
    changed["fields"].append({"name": "network", "doc": "Card network.", **field})
    return json.dumps(changed)


async def test_registering_again_changes_nothing(registry: Registry, name: str) -> None:
    """A schema gets version 1, a repeat gets the same version and id back, documentation makes no version."""
    first = await registry.register(name, schema_text(PaymentAuthorized))
    assert (first.subject, first.version) == (name, 1)
    assert await registry.register(name, schema_text(PaymentAuthorized)) == first
    assert await registry.register(name, json.dumps(schema(PaymentAuthorized) | {"doc": "Held."})) == first
    assert len(await registry.versions(name)) == 1


async def test_a_subject_is_held_to_the_strict_rule_from_the_first_version(
    settings: Settings, registry: Registry, name: str
) -> None:
    """Every version must read and be read by all others, whatever the registry was set to before."""
    SchemaRegistryClient({"url": settings.registry_url}).set_compatibility(name, "NONE")
    await registry.register(name, schema_text(PaymentAuthorized))
    assert await registry.rule(name) == COMPATIBILITY == "FULL_TRANSITIVE"


async def test_a_compatible_schema_becomes_the_next_version(registry: Registry, name: str) -> None:
    """A field with a default is let in beside the old version."""
    old = await registry.register(name, schema_text(PaymentAuthorized))
    new = await registry.register(name, _with_field(type=["null", "string"], default=None))
    assert (old.version, new.version) == (1, 2)
    assert old.schema_id != new.schema_id
    assert await registry.versions(name) == [old, new]


async def test_an_incompatible_schema_is_refused_with_the_remedy(registry: Registry, name: str) -> None:
    """The registry's refusal names the subject and where to learn more, and leaves nothing behind."""
    await registry.register(name, schema_text(PaymentAuthorized))
    broken = _with_field(type="string")
    assert not await registry.accepts(name, broken)
    with pytest.raises(Conflict, match=rf"{name}: the schema registry refuses .* `fulcrum schema check`"):
        await registry.register(name, broken)
    assert len(await registry.versions(name)) == 1


async def test_what_is_not_there_is_empty_and_not_an_error(registry: Registry, name: str) -> None:
    """An unknown subject has no versions and takes anything; an unknown id is a corrupt frame."""
    assert await registry.versions(name) == []
    assert await registry.accepts(name, schema_text(PaymentAuthorized))
    with pytest.raises(Corrupt, match="schema id 999999999 is unknown to the registry"):
        await registry.schema_by_id(999_999_999)


async def test_a_registry_that_is_away_is_unavailable(settings: Settings) -> None:
    """Nobody at the address: the error names it and the setting, for looking up and for opening a codec."""
    away = settings.model_copy(update={"registry_url": "http://127.0.0.1:1/apis/ccompat/v7"})
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/.* does not answer .* FULCRUM_REGISTRY_URL"):
        await open_codec(away)


@pytest.mark.parametrize("url", ["nowhere", "http://127.0.0.1:port/"])
async def test_an_address_that_is_none_is_misconfigured(url: str) -> None:
    """A typing error in the setting is told apart from a registry that is down."""
    with pytest.raises(Misconfigured, match=f"FULCRUM_REGISTRY_URL='{url}'"):
        await Registry(url).versions("any")


async def test_another_server_at_the_address_is_misconfigured(settings: Settings) -> None:
    """A wrong path answers 404 as well, and must not pass for an empty registry."""
    wrong = settings.registry_url.replace("ccompat", "nothing")
    with pytest.raises(Misconfigured, match="is no schema registry that lets us in"):
        await Registry(wrong).versions("any")


# --- services -------------------------------------------------------------------------------------


async def test_a_codec_needs_no_registry_once_it_is_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message is written and read from what was looked up at the start."""
    codec = await open_codec(settings)

    async def nobody(schema_id: int) -> str:
        raise AssertionError(f"schema id {schema_id} was asked for")

    monkeypatch.setattr(codec, "_fetch", nobody)
    assert await codec.read(codec.encode(MESSAGE)) == MESSAGE


async def test_the_ids_in_frames_are_those_of_the_registry(settings: Settings, registry: Registry) -> None:
    """Anybody with the registry can read our frames."""
    [version] = await registry.versions(subject(settings.namespace, PaymentAuthorized))
    frame = (await open_codec(settings)).encode(MESSAGE)
    assert int.from_bytes(frame[1:5], "big") == version.schema_id


async def test_a_codec_is_not_opened_without_its_schemas(settings: Settings) -> None:
    """A process refuses to start, names every missing subject and the remedy, and registers nothing."""
    empty = settings.model_copy(update={"namespace": f"t{uuid4().hex[:8]}"})
    needs = (PaymentAuthorized, VoidPayment)
    with pytest.raises(Misconfigured) as caught:
        await open_codec(empty, needs)
    names = [subject(empty.namespace, type_) for type_ in needs]
    assert ", ".join(sorted(names)) + "; run `fulcrum schema register`" in str(caught.value)
    registry = Registry(settings.registry_url)
    assert [await registry.versions(name) for name in names] == [[], []]
    await registry.close()


async def test_a_process_opens_only_what_it_needs(settings: Settings, registry: Registry) -> None:
    """A worker starts when its own messages are registered, whatever else is missing."""
    part = settings.model_copy(update={"namespace": f"t{uuid4().hex[:8]}"})
    await registry.register(subject(part.namespace, PaymentAuthorized), schema_text(PaymentAuthorized))
    codec = await open_codec(part, (PaymentAuthorized,))
    assert codec.decode(codec.encode(MESSAGE)) == MESSAGE


async def test_a_frame_of_a_newer_release_is_learned_and_read(settings: Settings, registry: Registry) -> None:
    """During a rolling restart the old process reads what the new one writes."""
    newer = settings.model_copy(update={"namespace": f"t{uuid4().hex[:8]}"})
    name = subject(newer.namespace, PaymentAuthorized)
    await registry.register(name, schema_text(PaymentAuthorized))
    old = await open_codec(newer, (PaymentAuthorized,))
    text = _with_field(type=["null", "string"], default=None)
    version = await registry.register(name, text)
    new = Codec(registry.schema_by_id)
    new.add_writer(PaymentAuthorized, version.schema_id)
    body = new.encode(MESSAGE)[5:]
    frame = b"\x00" + version.schema_id.to_bytes(4, "big") + body + b"\x02\x08visa"
    assert await old.read(frame) == MESSAGE


async def test_a_later_release_is_not_mistaken_for_ours(settings: Settings, registry: Registry) -> None:
    """With two versions registered, a process writes under the one that is its own."""
    both = settings.model_copy(update={"namespace": f"t{uuid4().hex[:8]}"})
    name = subject(both.namespace, PaymentAuthorized)
    mine = await registry.register(name, schema_text(PaymentAuthorized))
    await registry.register(name, _with_field(type=["null", "string"], default=None))
    frame = (await open_codec(both, (PaymentAuthorized,))).encode(MESSAGE)
    assert int.from_bytes(frame[1:5], "big") == mine.schema_id


# --- the check ------------------------------------------------------------------------------------


async def test_the_check_explains_what_the_registry_only_refuses(
    settings: Settings, registry: Registry
) -> None:
    """A registered schema that this release cannot stand beside is named with record, field and why."""
    other = settings.model_copy(update={"namespace": f"t{uuid4().hex[:8]}"})
    name = subject(other.namespace, PaymentAuthorized)
    await registry.register(name, _with_field(type="string"))
    assert [str(f) for f in await check_registered(registry, other.namespace)] == [
        f"{PAID}.network: this schema does not have it and registered version 1 has no default for it"
    ]


async def test_the_check_sees_what_the_registry_lets_pass(
    settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of unit passes the registry's test and turns every time into another one."""
    other = f"t{uuid4().hex[:8]}"
    name = subject(other, PaymentAuthorized)
    await registry.register(name, schema_text(PaymentAuthorized))
    changed = schema_text(PaymentAuthorized).replace("timestamp-micros", "timestamp-millis", 1)
    assert await registry.accepts(name, changed)
    monkeypatch.setattr(wire_registry, "MESSAGE_TYPES", (PaymentAuthorized,))
    monkeypatch.setattr(wire_registry, "schema_text", lambda _: changed)
    monkeypatch.setattr(wire_registry, "schema", lambda _: json.loads(changed))
    [fault] = await check_registered(registry, other)
    assert (fault.record, fault.field) == (PAID, "occurred_at")
    assert fault.why.startswith("logicalType must not change")


async def test_a_weaker_rule_is_noticed_and_repaired(settings: Settings, registry: Registry) -> None:
    """Somebody who loosens a subject's rule is found by the check; registering tightens it again."""
    loose = f"t{uuid4().hex[:8]}"
    name = subject(loose, PaymentAuthorized)
    await registry.register(name, schema_text(PaymentAuthorized))
    SchemaRegistryClient({"url": settings.registry_url}).set_compatibility(name, "NONE")
    [fault] = await check_rules(registry, loose)
    assert fault.why == f"{name} is held to NONE, not {COMPATIBILITY}; run `fulcrum schema register`"
    await registry.register(name, schema_text(PaymentAuthorized))
    assert await check_rules(registry, loose) == []


def _in(monkeypatch: pytest.MonkeyPatch, settings: Settings, namespace: str) -> None:
    monkeypatch.setenv("FULCRUM_NAMESPACE", namespace)
    monkeypatch.setenv("FULCRUM_REGISTRY_URL", settings.registry_url)


def test_the_command_registers_lists_and_checks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`register` puts every schema there, and repeats itself; `check` is content; `list` shows them."""
    namespace = f"t{uuid4().hex[:8]}"
    _in(monkeypatch, settings, namespace)
    first = CliRunner().invoke(app, ["register"])
    assert first.exit_code == 0, first.output
    assert len(first.stdout.splitlines()) == len(MESSAGE_TYPES)
    assert f"{subject(namespace, VoidPayment)}  version 1  id " in first.stdout
    assert CliRunner().invoke(app, ["register"]).stdout == first.stdout
    checked = CliRunner().invoke(app, ["check"])
    assert (checked.exit_code, checked.stderr) == (0, "")
    rows = json.loads(CliRunner().invoke(app, ["list", "-o", "json"]).stdout)
    assert {row["subject"] for row in rows} == {subject(namespace, type_) for type_ in MESSAGE_TYPES}
    assert all(row["version"] == 1 and row["id"] > 0 for row in rows)


def test_the_command_registers_nothing_when_anything_is_incompatible(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release is refused as a whole, with exit code 10, before its first schema is written."""
    namespace = f"t{uuid4().hex[:8]}"
    _in(monkeypatch, settings, namespace)
    client = SchemaRegistryClient({"url": settings.registry_url})
    client.register_schema(subject(namespace, PaymentAuthorized), Schema(_with_field(type="string"), "AVRO"))
    result = CliRunner().invoke(app, ["register"])
    assert result.exit_code == 10
    assert f"{PAID}.network: this schema does not have it" in result.stderr
    assert client.get_versions(subject(namespace, PaymentAuthorized)) == [1]
    assert subject(namespace, VoidPayment) not in client.get_subjects()
