"""How a transaction that met another one in its way is tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import psycopg2

from fulcrum.store.database import Database, Transaction
from fulcrum.store.failures import SerializationFailure

_Result = TypeVar("_Result")

_TRIES = 5
#: Seconds before the second try; doubled each time, and shortened by chance so that two do not meet again.
_PAUSE = 0.005


async def transact(
    db: Database, work: Callable[[Transaction, int], Awaitable[_Result]], met: Collection[str] = ()
) -> _Result:
    """Run ``work(tx, tries)`` in a transaction, and again while it meets others; ``tries`` counts from 0.

    ``met`` names the constraints that are violated because of what another transaction did since ours
    looked: keys that it inserted, versions that it moved on. Raises SerializationFailure when five tries
    were in vain.
    """
    tries = 0
    while True:
        try:
            async with db.transaction() as tx:
                return await work(tx, tries)
        except psycopg2.IntegrityError as error:
            if error.diag.constraint_name not in met:
                raise
            failure = SerializationFailure(f"{error.diag.constraint_name}: another transaction was first")
        except SerializationFailure as error:
            failure = error
        tries += 1
        if tries == _TRIES:
            raise failure
        await asyncio.sleep(_PAUSE * 2**tries * random.random())  # noqa: S311
