"""Who may change generations, and how is one told to pause, given up, or removed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection

from fulcrum.errors import Conflict
from fulcrum.readmodel import generation_tables as tables
from fulcrum.readmodel import generations
from fulcrum.readmodel.generations import Generation
from fulcrum.settings import Settings
from fulcrum.store.plain import connected


@contextmanager
def working(settings: Settings, parameters: Mapping[str, str] | None = None) -> Iterator[Connection]:
    """A connection that holds the claim to change generations."""
    with connected(settings.postgres_dsn, "fulcrum-projection", parameters) as connection:
        generations.claim(connection)
        yield connection


def pause(settings: Settings) -> Generation:
    """Ask the rebuild at work to pause after its batch; Conflict when none is at work."""
    with connected(settings.postgres_dsn, "fulcrum-projection") as connection, connection.begin():
        generation = generations.find(connection)
        if not generations.worked_on(connection):
            raise Conflict(f"generation {generation.generation} is {generation.status}: no process is at it")
        generations.ask(connection, generation.generation, "pause")
        return generation


def abort(settings: Settings) -> Generation:
    """Give up the generation in work: the process that is at it drops it, or this one when none is."""
    with connected(settings.postgres_dsn, "fulcrum-projection") as connection:
        with connection.begin():
            generation = generations.find(connection)
            if generations.worked_on(connection):
                generations.ask(connection, generation.generation, "abort")
                return generation
        return drop(settings, generation.generation)


def drop(settings: Settings, number: int) -> Generation:
    """Remove a generation that is not live; Conflict when it is, or when a process is at it."""
    with working(settings) as connection, connection.begin():
        generation = generations.find(connection, number)
        if generation.status == "live":
            raise Conflict(f"generation {number} is live: swap another one in before it is dropped")
        remove(connection, generation)
        return generations.find(connection, number)


def remove(connection: Connection, generation: Generation) -> None:
    """Drop the relations of ``generation``; the caller holds the claim."""
    tables.drop(connection, generation.schema)
    generations.forget(connection, generation.generation)
