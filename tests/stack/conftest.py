"""What a test of one part on real servers starts from: a namespace that is ready for use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest

from fulcrum.settings import Settings
from fulcrum.wire.registry import Registry
from fulcrum.wire.schemas import MESSAGE_TYPES, schema_text, subject
from fulcrum.wire.topics import ensure_topics


@pytest.fixture(scope="module")
def settings(namespace: Mapping[str, str]) -> Settings:
    """Settings of a namespace with a migrated database, topics and schemas, for one test module."""
    fields = {name.removeprefix("FULCRUM_").lower(): value for name, value in namespace.items()}
    known = {name: value for name, value in fields.items() if name in Settings.model_fields}
    prepared = Settings.model_validate({**known, "partitions": 2, "retry_unit": 0.01})
    ensure_topics(prepared)
    asyncio.run(_register(prepared))
    return prepared


async def _register(settings: Settings) -> None:
    registry = Registry(settings.registry_url)
    await asyncio.gather(
        *(
            registry.register(subject(settings.namespace, type_), schema_text(type_))
            for type_ in MESSAGE_TYPES
        )
    )
    await registry.close()


@pytest.fixture
def empty_database(namespace: Mapping[str, str]) -> Iterator[str]:
    """The address of a database in which nothing is."""
    admin = namespace["FULCRUM_POSTGRES_DSN"]
    name = f"empty_{uuid4().hex[:8]}"
    connection = psycopg2.connect(admin)
    connection.autocommit = True  # as CREATE DATABASE wants it
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        yield urlsplit(admin)._replace(path=f"/{name}").geturl()
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()
