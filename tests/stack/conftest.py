"""What a test of one part on real servers starts from: a namespace that is ready for use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest
import pytest_asyncio
from intake import Api, running_intake

from fulcrum.settings import Settings
from fulcrum.store.database import Database
from fulcrum.wire.registry import Registry
from fulcrum.wire.schemas import MESSAGE_TYPES, schema_text, subject
from fulcrum.wire.topic_admin import ensure_topics


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(settings: Settings) -> AsyncIterator[Api]:
    """An intake for the tests that leave it as it is."""
    async with running_intake(settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def db(settings: Settings) -> AsyncIterator[Database]:
    """The database of the module."""
    opened = await Database.open(settings.postgres_dsn, size=4)
    yield opened
    await opened.close()


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
