"""In what does the topology that RabbitMQ has differ from the one we want? All of it, not the first find.

AMQP has no way to ask for the arguments of a queue, and a refusal names one of them only. So what was refused
is declared again with the value that the refusal told, until it is taken: what had to be changed is the whole
difference. Declaring what exists as it is changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelPreconditionFailed

from fulcrum.commands.connection import broker_errors, dial, hang_up, server_of
from fulcrum.commands.dialect import ABSENT, Difference, difference_in
from fulcrum.errors import Misconfigured
from fulcrum.settings import Settings

#: A queue has fewer arguments than this; past it something answers in circles.
_MOST = 20
_TYPE = "x-queue-type"
#: A queue of another type has none of these, and may not even be asked for them.
_QUORUM_ONLY = ("x-delivery-limit", "x-dead-letter-strategy")


class Part(Protocol):
    """An exchange or a queue of the topology: a frozen dataclass that can declare itself."""

    @property
    def name(self) -> str: ...

    async def declare(self, channel: AbstractChannel) -> None: ...


async def explain(settings: Settings, wanted: Sequence[Part], refusal: str) -> Misconfigured:
    """The error that ends a start: every argument that differs (has, wants), and what to do about it.

    ``refusal`` is the broker's own text, for what cannot be read. Unavailable when RabbitMQ goes away.
    """
    found: list[Difference] = []
    with broker_errors(server_of(settings.rabbitmq_url)):
        connection = await dial(settings, "topology")
        try:
            for part in wanted:
                found += await _differences(connection, part)
        finally:
            await hang_up(connection)
    return Misconfigured(told(found) if found else f"RabbitMQ refuses the topology: {refusal}")


async def _differences(connection: AbstractConnection, part: Any) -> list[Difference]:
    found: list[Difference] = []
    while len(found) < _MOST:
        channel = await connection.channel()
        try:
            await part.declare(channel)
        except ChannelPreconditionFailed as error:
            difference = difference_in(str(error))
            changed = None if difference is None else _as_it_is(part, difference)
            if difference is None or changed is None:
                break
            found.append(difference)
            if difference.argument == _TYPE:
                found += _lacking(part, difference)
            part = changed
        else:
            await channel.close()
            break
    return found


def _as_it_is(part: Any, difference: Difference) -> Any | None:
    """``part`` as it exists in the point of ``difference``; None when it cannot be declared so."""
    argument = difference.argument
    if difference.kind == "exchange":
        return replace(part, type=ExchangeType(difference.has)) if argument == "type" else None
    if argument not in part.arguments:
        return None if not argument.startswith("x-") else _with(part, argument, difference.value(None))
    ours = part.arguments[argument]
    theirs = difference.value(ours)
    changed = None if theirs == ours else _with(part, argument, theirs)
    if changed is not None and argument == _TYPE:
        for name in _QUORUM_ONLY:
            changed = _with(changed, name, None)
    return changed


def _lacking(part: Any, difference: Difference) -> list[Difference]:
    return [
        Difference(difference.kind, difference.name, argument, ABSENT, str(part.arguments[argument]))
        for argument in _QUORUM_ONLY
        if argument in part.arguments
    ]


def _with(part: Any, argument: str, value: Any) -> Any:
    arguments = {name: kept for name, kept in part.arguments.items() if name != argument}
    return replace(part, arguments=arguments if value is None else {**arguments, argument: value})


def told(found: Sequence[Difference]) -> str:
    """``found`` as one line each, with the remedy behind."""
    lines = [f"{each.kind} {each.name}: {each.argument} has {each.has}, wants {each.wants}" for each in found]
    remedy = (
        "Use the old setting, another FULCRUM_NAMESPACE, or delete "
        f"{', '.join({f'{each.kind} {each.name}': None for each in found})} once empty: what is missing is "
        "declared again at the next start."
    )
    if any(each.argument == "x-message-ttl" for each in found):
        remedy = f"The delay (x-message-ttl) comes from FULCRUM_RETRY_UNIT. {remedy}"
    return "\n  ".join(("RabbitMQ has another topology than this process wants:", *lines, remedy))
