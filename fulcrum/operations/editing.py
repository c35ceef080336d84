"""What does a parked message become when its decoded body is patched? A new message, checked by its schema.

It gets an id of its own, because one id stands for one body for ever: the inbox would refuse the second.
"""

from __future__ import annotations

import base64
import dataclasses
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

from fulcrum.commands.parker import jsonable
from fulcrum.errors import Corrupt, Rejected
from fulcrum.operations.json_patch import patched
from fulcrum.operations.requests import edited_id
from fulcrum.operations.sending import EDITED_FROM
from fulcrum.settings import Settings
from fulcrum.store.database import Row
from fulcrum.wire.codec import MESSAGE_TYPES, Codec, Message, open_codec

#: The field that holds a message's own id.
_IDS = ("command_id", "event_id")
_MESSAGES = {type_.__name__: type_ for type_ in MESSAGE_TYPES}


class Editor:
    """Edits messages; a schema is looked up when the first message of its type is edited."""

    def __init__(self, settings: Settings, opened: Callable[..., Awaitable[Codec]] = open_codec) -> None:
        self._settings = settings
        self._open = opened
        self._codecs: dict[str, Codec] = {}

    async def edited(self, message: Row, patch: Sequence[Mapping[str, Any]], operation: str) -> Row:
        """The row of the new message. Rejected when the message cannot be read or the patch not applied.

        Unavailable when the registry does not answer.
        """
        type_ = _MESSAGES.get(message["type"])
        if type_ is None:
            raise Rejected(f"type {message['type']!r} is no message known here, so it cannot be edited")
        codec = self._codecs.get(message["type"])
        if codec is None:
            codec = self._codecs[message["type"]] = await self._open(self._settings, (type_,))
        try:
            before = jsonable(await codec.read(message["body"]))
        except Corrupt as error:
            raise Rejected(f"a message that cannot be read cannot be edited: {error}") from error
        new_id = edited_id(operation, message["id"])
        after = patched(before, patch)
        if not isinstance(after, dict):
            raise Rejected("patch makes the message something else than an object")
        for name in _IDS:
            if name in before:
                if after.get(name) != before[name]:
                    raise Rejected(f"{name} is given by Fulcrum: leave it out of the patch")
                after[name] = new_id
                break
        made = from_jsonable(type_, after, "")
        try:
            body = codec.encode(made)
        except Corrupt as error:
            raise Rejected(f"the edited message is refused by its schema: {error}") from error
        return _row(message, made, body, new_id)


def _row(message: Row, made: Message, body: bytes, new_id: str) -> Row:
    kept = {
        name: message[name]
        for name in (
            "service", "type", "workflow_id", "queue", "reason", "error_class", "error", "fingerprint",
            "attempts", "actor", "note", "operation_id", "parked_at",
        )
    }  # fmt: skip
    headers = {**message["headers"], "ce_id": new_id, EDITED_FROM: message["message_id"]}
    return {
        **kept,
        "id": new_id,
        "message_id": new_id,
        "headers": headers,
        "body": body,
        "decoded": jsonable(made),
        "status": "replayed",
        "edited_from": message["id"],
        "origin": _origin(message["origin"], new_id),
    }


def _origin(origin: Mapping[str, Any] | None, new_id: str) -> dict[str, Any] | None:
    """The headers of an edited event: those of the old one, under the new id."""
    if origin is None:
        return None
    told = base64.b64encode(new_id.encode()).decode()
    headers = [[name, told if name == "ce_id" else value] for name, value in origin["headers"]]
    return {**origin, "headers": headers}


def from_jsonable(hint: Any, value: Any, path: str) -> Any:
    """The value of type ``hint`` that ``jsonable`` made ``value`` from; Rejected names the field at fault."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, path)
    if origin in (Union, types.UnionType):
        present = next(each for each in arguments if each is not types.NoneType)
        return None if value is None else from_jsonable(present, value, path)
    if origin is tuple and isinstance(value, list):
        return tuple(from_jsonable(arguments[0], each, f"{path}/{n}") for n, each in enumerate(value))
    if hint is datetime and isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
        if found is not None and found.tzinfo is not None:
            return found
    elif hint in (str, int) and type(value) is hint:
        return value
    elif origin is Mapping and isinstance(value, dict):
        return {name: from_jsonable(arguments[1], each, f"{path}/{name}") for name, each in value.items()}
    wanted = {str: "text", int: "an integer", datetime: "a time with its zone"}.get(hint, f"{hint}")
    raise Rejected(f"{path or '/'} is {value!r}: give {wanted}")


def _record(hint: Any, value: Any, path: str) -> Any:
    hints = get_type_hints(hint)
    fields = dataclasses.fields(hint)
    if not isinstance(value, dict):
        raise Rejected(f"{path or '/'} is {value!r}: give an object")
    if unknown := sorted(value.keys() - {field.name for field in fields}):
        raise Rejected(f"{path}/{unknown[0]} is unknown: leave it out or correct its name")
    missing = [
        field.name
        for field in fields
        if field.name not in value
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise Rejected(f"{path}/{missing[0]} is missing: give it a value")
    return hint(**{name: from_jsonable(hints[name], each, f"{path}/{name}") for name, each in value.items()})
