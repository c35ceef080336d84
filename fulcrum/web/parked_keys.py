"""Keys of an outbox that have stopped: seen, and let go on once Kafka takes what it refused."""

from __future__ import annotations

import base64

from fulcrum.operations.releasing import release_key
from fulcrum.store import release
from fulcrum.web import parked_answers as answers
from fulcrum.web.bodies import OperatorBody
from fulcrum.web.operation import Answer, Call
from fulcrum.web.parked_bodies import KeyPath, KeysQuery
from fulcrum.web.services import Services


async def list_parked_keys(services: Services, call: Call, *, query: KeysQuery) -> Answer:
    """List the keys of outboxes that have stopped, those that wait longest first."""
    rows = await release.list_parked_keys(services.db, query.limit)
    return Answer(
        answers.ParkedKeys(
            items=[
                answers.ParkedKey(
                    **{
                        **row,
                        "key": base64.urlsafe_b64encode(row["key"]).decode(),
                        "key_text": row["key"].decode(errors="replace"),
                    }
                )
                for row in rows
            ]
        )
    )


async def release_parked_key(services: Services, call: Call, *, path: KeyPath, body: OperatorBody) -> Answer:
    """Let a key go on: its events are sent again, in their order and before all later ones.

    An event that Kafka still refuses parks its key again.
    """
    key = base64.urlsafe_b64decode(path.key)
    row = await release_key(services.db, path.outbox, key, body.actor, body.reason, call.act)
    return Answer(answers.Operation(**row))
