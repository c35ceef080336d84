"""How does an operation ask one workflow? As an operator does, under an id of the item's own."""

from __future__ import annotations

from fulcrum.errors import Rejected
from fulcrum.operations.asked import Ask
from fulcrum.operations.kinds import verb_of
from fulcrum.store.database import Row
from fulcrum.telemetry.trace import child_of
from fulcrum.web.operation import Call
from fulcrum.web.problem import Problem
from fulcrum.web.requests import Wish, store_request
from fulcrum.web.services import Services


def asker(services: Services) -> Ask:
    """Puts the verb of an operation to the workflow of an item; the operation's id joins what follows."""

    async def ask(operation: Row, item: Row) -> None:
        verb = verb_of(operation["kind"])
        assert verb is not None, operation["kind"]
        call = Call(operation["id"], child_of(None), item["workflow_id"])
        wish = Wish(verb=verb, reason=operation["reason"], **operation["arguments"])
        try:
            await store_request(services, call, wish, operation["actor"], item["message_id"])
        except Problem as error:
            raise Rejected(error.detail) from error

    return ask
