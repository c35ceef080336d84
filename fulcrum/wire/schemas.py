"""Which messages are there, and where is the schema of each?

One ``.avsc`` a message under ``schemas/avro/``; its subject in the registry is made of the place the
message travels in and its full name (TopicRecordNameStrategy), so that one topic can carry several types.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from fulcrum.errors import Misconfigured
from fulcrum.saga.messages import COMMANDS, EVENTS, Command, DecisionMade, Event
from fulcrum.saga.run import WorkflowRun
from fulcrum.wire.topics import Topics

Message: TypeAlias = Event | Command | DecisionMade | WorkflowRun
MessageType: TypeAlias = type[Event] | type[Command] | type[DecisionMade] | type[WorkflowRun]

#: Every type that has a schema of its own.
MESSAGE_TYPES: tuple[MessageType, ...] = (*EVENTS, DecisionMade, *COMMANDS, WorkflowRun)


def folder(type_: MessageType) -> str:
    """events, commands or tables: the folder of the ``.avsc`` and the last part of its namespace."""
    if issubclass(type_, Command):
        return "commands"
    return "tables" if type_ is WorkflowRun else "events"


def fullname(type_: MessageType) -> str:
    """The record's Avro name with its namespace, such as ``fulcrum.events.PaymentAuthorized``."""
    return f"fulcrum.{folder(type_)}.{type_.__name__}"


def subject(namespace: str, type_: MessageType) -> str:
    """The registry subject of a message: ``<topic, queue or changelog>-<fullname>``."""
    if issubclass(type_, Command):
        place = f"{namespace}.commands.{type_.service}"
    elif issubclass(type_, WorkflowRun):
        place = Topics(namespace).changelog
    else:
        place = Topics(namespace).stream(type_.stream)
    return f"{place}-{fullname(type_)}"


@cache
def schemas_dir() -> Path:
    """The ``schemas`` folder: beside the package in a checkout, or shared data of an installation."""
    beside = Path(__file__).resolve().parents[2] / "schemas"
    shared = Path(sys.prefix) / "share" / "fulcrum" / "schemas"
    for candidate in (beside, shared):
        if (candidate / "avro").is_dir():
            return candidate
    raise Misconfigured(
        f"The Avro schemas are neither in {beside} nor in {shared}; "
        "install Fulcrum from its checkout (`pip install -e .`)"
    )


def schema_file(type_: MessageType) -> Path:
    """The ``.avsc`` of a message."""
    return schemas_dir() / "avro" / folder(type_) / f"{type_.__name__}.avsc"


def schema_text(type_: MessageType) -> str:
    """The schema as committed; Misconfigured names the file that is missing."""
    return _read(schema_file(type_))


@cache
def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise Misconfigured(f"{path} is missing: every message has its schema there") from error


def schema(type_: MessageType) -> dict[str, Any]:
    """The schema as JSON data; a copy, so that nobody changes another's."""
    data: dict[str, Any] = json.loads(schema_text(type_))
    return data
