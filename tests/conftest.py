"""Which servers do tests use, and what keeps tests apart on them?

Servers named by the environment (``eval "$(fulcrum stack env)"``) are used as they are; otherwise one stack
is started for the session, in FULCRUM_TEST_HOME or in a folder that is removed afterwards. Tests are kept
apart by names: a namespace and a database of their own.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest

from fulcrum.localstack import Stack

_FOLDERS = ("unit", "simulation", "contract", "stack", "e2e")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs servers, and run what is quickest first."""
    root = Path(__file__).parent
    folders = {item: item.path.relative_to(root).parts[0] for item in items}
    for item, folder in folders.items():
        if folder in {"stack", "e2e"}:
            item.add_marker(pytest.mark.stack)
    items.sort(key=lambda item: _FOLDERS.index(folders[item]))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Running servers; what this session started is stopped at its end."""
    if "FULCRUM_KAFKA_BOOTSTRAP" in os.environ:
        yield from _up(Stack())
    elif home := os.environ.get("FULCRUM_TEST_HOME"):
        # Several test processes each have servers of their own.
        yield from _up(Stack(Path(home) / os.environ.get("PYTEST_XDIST_WORKER", ""), Stack().home.dist))
    else:
        with tempfile.TemporaryDirectory(prefix="fulcrum-test-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o755)
            mine = Stack(Path(folder), Stack().home.dist)
            yield from _up(mine)
            mine.wipe(print)


def _up(stack: Stack) -> Iterator[Stack]:
    was_up = stack.running
    stack.up(print)
    try:
        yield stack
    finally:
        if not was_up:
            stack.down(print)


def execute(dsn: str, statement: str) -> None:
    """Run one statement outside of any transaction, as CREATE DATABASE wants it."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


@pytest.fixture(scope="session")
def template(stack: Stack) -> Iterator[str]:
    """The name of a migrated, empty database that nobody is connected to."""
    from fulcrum.store.migrate import migrate

    admin = stack.env()["FULCRUM_POSTGRES_DSN"]
    name = f"template_{uuid4().hex[:8]}"
    execute(admin, f"CREATE DATABASE {name}")
    migrate(urlsplit(admin)._replace(path=f"/{name}").geturl())
    yield name
    execute(admin, f"DROP DATABASE {name} WITH (FORCE)")


def remove_names(env: Mapping[str, str]) -> None:
    """Delete topics and queues: a server that holds those of all modules takes long to return from a kill."""
    from bench.leftovers import remove_queues, remove_topics

    remove_topics(env)
    asyncio.run(remove_queues(env))


@pytest.fixture(scope="module")
def namespace(stack: Stack, template: str) -> Iterator[Mapping[str, str]]:
    """The environment of a namespace and a migrated database that belong to one test module alone."""
    admin = stack.env()["FULCRUM_POSTGRES_DSN"]
    name = f"t{uuid4().hex[:8]}"
    execute(admin, f"CREATE DATABASE {name} TEMPLATE {template}")
    dsn = urlsplit(admin)._replace(path=f"/{name}").geturl()
    env = {**stack.env(), "FULCRUM_NAMESPACE": name, "FULCRUM_POSTGRES_DSN": dsn}
    yield env
    remove_names(env)
    execute(admin, f"DROP DATABASE {name} WITH (FORCE)")
