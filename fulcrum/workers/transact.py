"""How a transaction that met another one in its way is tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import psycopg2.errors

from fulcrum.store.database import Database, Transaction
from fulcrum.store.failures import SerializationFailure

_Result = TypeVar("_Result")

_TRIES = 5
#: Seconds before the second try; doubled each time, and shortened by chance so that two do not meet again.
_PAUSE = 0.005


async def transact(
    db: Database, work: Callable[[Transaction, int], Awaitable[_Result]], created: Collection[str] = ()
) -> _Result:
    """Run ``work(tx, tries)`` in a transaction, and again while it meets others; ``tries`` counts from 0.

    ``created`` names the keys that another transaction may have inserted since ours looked. Raises
    SerializationFailure when five tries were in vain.
    """
    tries = 0
    while True:
        try:
            async with db.transaction() as tx:
                return await work(tx, tries)
        except psycopg2.errors.UniqueViolation as error:
            if error.diag.constraint_name not in created:
                raise
            failure = SerializationFailure(f"{error.diag.constraint_name}: made by another transaction")
        except SerializationFailure as error:
            failure = error
        tries += 1
        if tries == _TRIES:
            raise failure
        await asyncio.sleep(_PAUSE * 2**tries * random.random())  # noqa: S311
