"""``fulcrum events``: what happens on Kafka, record by record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from fulcrum.cli.client import Output, OutputOption, clock, note, show_json, show_line
from fulcrum.cli.exits import Exit
from fulcrum.commands.parker import jsonable
from fulcrum.errors import Corrupt, Rejected, Unavailable
from fulcrum.settings import Settings, load_settings
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.topics import STREAMS, Topics

app = typer.Typer(no_args_is_help=True)

_WITHIN = 5.0
_POLL = 0.2


@app.callback()
def events() -> None:
    """The events on Kafka."""


@app.command("tail")
def tail(
    stream: Annotated[
        list[str] | None, typer.Option(help=f"Only this stream: {', '.join(STREAMS)}. May be repeated.")
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Only this type, such as StockReserved.")
    ] = None,
    workflow: Annotated[str | None, typer.Option(help="Only this workflow.")] = None,
    from_: Annotated[
        str, typer.Option("--from", help="end, beginning, or a time such as 2026-03-01T12:00:00Z.")
    ] = "end",
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    follow: Annotated[
        bool, typer.Option(help="Wait for more; --no-follow ends with what is there now.")
    ] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print events as they arrive, with their place in Kafka.

    It reads beside every consumer group and moves none. ndjson has the whole event; json is a list of them,
    and needs --count or --no-follow.
    """
    unknown = sorted(set(stream or ()) - set(STREAMS))
    if unknown:
        raise Rejected(f"--stream {unknown[0]!r} is unknown; one of {', '.join(STREAMS)}")
    if output is Output.JSON and follow and count is None:
        raise Rejected("-o json is one document: add --count or --no-follow, or use -o ndjson")
    settings = load_settings()
    codec = asyncio.run(open_codec(settings))
    found: list[dict[str, Any]] = []
    seen = 0
    try:
        for message in _read(settings, stream or STREAMS, from_, follow):
            row = _row(message, codec)
            if (type_ and row["type"] != type_) or (workflow and row["workflow_id"] != workflow):
                continue
            seen += 1
            if output is Output.TABLE:
                typer.echo(_line(row))
            elif output is Output.NDJSON:
                show_line(row)
            else:
                found.append(row)
            if seen == count:
                break
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    if output is Output.JSON:
        show_json(found)
    elif not seen:
        note("no such event")


def _read(settings: Settings, streams: Sequence[str], start: str, follow: bool) -> Iterator[Message]:
    """The records of ``streams`` from ``start``, those of one partition in order."""
    topics = [Topics(settings.namespace).stream(name) for name in streams]
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": f"{settings.namespace}-tail",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    try:
        known = consumer.list_topics(timeout=_WITHIN).topics
        places = [(name, number) for name in topics if name in known for number in known[name].partitions]
        begins = _begins(consumer, places, start)
        # What is there now is read even while more arrives, and no more without --follow.
        ends = {
            place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=_WITHIN) for place in places
        }
        left = {place for place in places if _first(begins[place], ends[place]) < ends[place][1]}
        consumer.assign([TopicPartition(*place, _first(begins[place], ends[place])) for place in places])
        deadline = time.monotonic() + _WITHIN
        while follow or left:
            message = consumer.poll(_POLL)
            if message is None or message.error():
                if not follow and time.monotonic() > deadline:
                    raise Unavailable(f"Kafka gave no more of {len(left)} partitions within {_WITHIN:g} s")
                continue
            deadline = time.monotonic() + _WITHIN
            place = (str(message.topic()), int(message.partition() or 0))
            offset = int(message.offset() or 0)
            if offset + 1 >= ends[place][1]:
                left.discard(place)
            if follow or offset < ends[place][1]:
                yield message
    except KafkaException as error:
        raise Unavailable(
            f"Kafka at {settings.kafka_bootstrap} does not answer ({error.args[0].str()}); "
            "check FULCRUM_KAFKA_BOOTSTRAP"
        ) from error
    finally:
        consumer.close()


def _begins(
    consumer: Consumer, places: Sequence[tuple[str, int]], start: str
) -> Mapping[tuple[str, int], int]:
    if start in ("beginning", "end"):
        return dict.fromkeys(places, OFFSET_BEGINNING if start == "beginning" else OFFSET_END)
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        raise Rejected(
            f"--from {start!r}: give end, beginning, or a time such as 2026-03-01T12:00:00Z"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    asked = [TopicPartition(*place, int(moment.timestamp() * 1000)) for place in places]
    answer = consumer.offsets_for_times(asked, timeout=_WITHIN)
    return {(each.topic, each.partition): each.offset if each.offset >= 0 else OFFSET_END for each in answer}


def _first(begin: int, ends: tuple[int, int]) -> int:
    """``begin`` as an offset."""
    low, high = ends
    return low if begin == OFFSET_BEGINNING else high if begin == OFFSET_END else begin


def _row(message: Message, codec: Codec) -> dict[str, Any]:
    """What is shown of a record; one that cannot be read says why instead of its event."""
    headers = {name: _text(value) for name, value in dict(message.headers() or []).items()}
    event, error = None, None
    try:
        event = jsonable(asyncio.run(codec.read(message.value() or b"")))
    except Corrupt as fault:
        error = str(fault)
    return {
        "at": _moment(message.timestamp()[1]),
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "type": headers.get("ce_type", "unknown"),
        "workflow_id": _text(message.key() or b""),
        "event": event,
        "error": error,
    }


def _line(row: Mapping[str, Any]) -> str:
    place = f"{row['topic']}/{row['partition']}@{row['offset']}"
    told = f"  UNREADABLE: {row['error']}" if row["error"] else ""
    return f"{clock(row['at'])}  {place:<28}  {row['type']:<18}  {row['workflow_id']}{told}"


def _moment(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
