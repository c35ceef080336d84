"""``fulcrum lag``: how far each consumer group is behind the end of what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from fulcrum.cli.again import EveryOption, FailAboveOption, WatchOption, shown
from fulcrum.cli.client import Output, OutputOption, note, show_rows
from fulcrum.doctor.live_kafka import Standing, opened, standings
from fulcrum.settings import load_settings

_BY_TOPIC = {name: name for name in ("group", "topic", "partitions", "lag", "trend")}
_BY_PARTITION = {name: name for name in ("group", "topic", "partition", "offset", "end", "lag")}


def lag(
    partitions: Annotated[
        bool, typer.Option("--partitions", help="Show each partition, as JSON always does.")
    ] = False,
    watch: WatchOption = False,
    every: EveryOption = 1.0,
    fail_above: FailAboveOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how many records wait for each consumer group.

    ``trend`` is the change since the last look. ``--fail-above`` compares the sum of each group.
    """
    before: dict[tuple[str, str], int] = {}
    with opened(load_settings()) as kafka:

        def look() -> bool:
            stands = standings(kafka)
            if partitions or output is not Output.TABLE:
                rows = [{**asdict(each), "lag": each.lag} for each in stands]
                show_rows(rows, _BY_PARTITION, output)
            else:
                show_rows(_by_topic(stands, before), _BY_TOPIC, output)
            over = [] if fail_above is None else _over(stands, fail_above)
            if over:
                note(f"lag above {fail_above}: {', '.join(over)}")
            return not over

        shown(look, watch, every, output)


def _by_topic(stands: Sequence[Standing], before: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
    """One row a group and topic; ``before`` holds the lag of the last look, and is brought up to this one."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for each in stands:
        place = (each.group, each.topic)
        row = rows.setdefault(place, {"group": each.group, "topic": each.topic, "partitions": 0, "lag": 0})
        row["partitions"] += 1
        row["lag"] += each.lag
    for place, row in rows.items():
        row["trend"] = f"{row['lag'] - before[place]:+d}" if place in before else None
        before[place] = row["lag"]
    return list(rows.values())


def _over(stands: Sequence[Standing], most: int) -> list[str]:
    """The groups that wait for more than ``most`` records, with how many."""
    sums: dict[str, int] = {}
    for each in stands:
        sums[each.group] = sums.get(each.group, 0) + each.lag
    return [f"{group} {behind}" for group, behind in sums.items() if behind > most]
