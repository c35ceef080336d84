"""How does a message become the plain record that Avro writes, and back?

The converters are built once per type from its annotations, so that a message costs a few function
calls: tuples for arrays, aware UTC datetimes for ``timestamp-micros``, dataclasses for nested records.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import index
from typing import Any, Union, get_args, get_origin, get_type_hints

Convert = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(time: datetime) -> int:
    """Microseconds since 1970, UTC. TypeError for a time without zone: nobody knows which it means."""
    return (time - _EPOCH) // _MICROSECOND


def to_record(type_: type) -> Callable[[Any], dict[str, Any]]:
    """A function that turns a ``type_`` into a dict of what Avro takes."""
    hints = get_type_hints(type_)
    names = [field.name for field in fields(type_)]
    nested = [(name, convert) for name in names if (convert := _outgoing(hints[name])) is not None]

    def convert_message(message: Any) -> dict[str, Any]:
        record = {name: getattr(message, name) for name in names}
        for name, convert in nested:
            record[name] = convert(record[name])
        return record

    return convert_message


def from_record(type_: type) -> Callable[[dict[str, Any]], Any]:
    """A function that turns a decoded dict into a ``type_``.

    It fills the slots of a new object: a frozen dataclass's own ``__init__`` takes three times as long, and
    half of all decoding would be spent in it.
    """
    if "__slots__" not in vars(type_) or hasattr(type_, "__post_init__"):
        raise TypeError(f"{type_.__name__} must be a dataclass with slots and without __post_init__")
    hints = get_type_hints(type_)
    plain, nested = [], []
    for field in fields(type_):
        fill = getattr(type_, field.name).__set__
        convert = _incoming(hints[field.name])
        if convert is None:
            plain.append((field.name, fill))
        else:
            nested.append((field.name, fill, convert))
    create: Callable[[], Any] = partial(object.__new__, type_)

    def convert_record(record: dict[str, Any]) -> Any:
        message = create()
        for name, fill in plain:
            fill(message, record[name])
        for name, fill, convert in nested:
            fill(message, convert(record[name]))
        return message

    return convert_record


def _outgoing(hint: Any) -> Convert | None:
    """What to do to a value of this annotation; None when Avro takes it as it is."""
    if hint is datetime:
        return micros
    if hint is int:
        return index  # fastavro would cut 1.5 down to 1
    return _walk(hint, _outgoing, to_record, list)


def _incoming(hint: Any) -> Convert | None:
    return _walk(hint, _incoming, from_record, tuple)


def _walk(
    hint: Any,
    again: Callable[[Any], Convert | None],
    record: Callable[[type], Convert],
    sequence: Callable[[Any], Any],
) -> Convert | None:
    if hint in (str, int, bool, bytes, datetime):
        return None
    if is_dataclass(hint):
        return record(hint)  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _optional(hint, [a for a in arguments if a is not types.NoneType], again)
    if origin is tuple and arguments[1:] == (...,):
        item = again(arguments[0])
        return sequence if item is None else lambda values: sequence(map(item, values))
    if origin is Mapping and arguments[0] is str:
        value = again(arguments[1])
        return value and (lambda mapping: {key: value(inner) for key, inner in mapping.items()})
    raise TypeError(
        f"{hint} has no Avro form here; use str, int, bool, bytes, datetime, tuple[X, ...], Mapping[str, X], "
        "X | None or a record"
    )


def _optional(hint: Any, present: list[Any], again: Callable[[Any], Convert | None]) -> Convert | None:
    if len(present) != 1:
        raise TypeError(f"{hint} has no Avro form here; only `X | None` is a union")
    inner = again(present[0])
    return None if inner is None else lambda value: None if value is None else inner(value)
