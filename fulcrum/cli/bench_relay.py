"""``fulcrum bench relay``: how fast the outbox is emptied, whatever lies in it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from fulcrum.cli.measured import measured
from fulcrum.errors import Rejected

_MOST_ROWS, _MOST_SIZES = 5_000_000, 6


def relay(
    backlog: Annotated[
        str, typer.Option(help="Rows that wait behind those that are measured; several, comma-separated.")
    ] = "0,10000,1000000",
    messages: Annotated[
        int, typer.Option(min=1_000, max=200_000, help="How many messages a round measures.")
    ] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, max=10, help="Rounds for each size.")] = 3,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure the outbox relay alone: messages a second at each backlog, and the time of a single one.

    On a database and topics of its own, which are removed. Exit code 1 when a message was lost or came out of
    its key's order.
    """
    from bench.alone import alone
    from bench.relay import Plan, failed, measure

    plan = Plan(sizes_of(backlog), messages, rounds)

    def measuring(console: Console) -> dict[str, Any]:
        with alone(console.print) as own:
            own.prepare(console.print)
            return uvloop.run(measure(plan, own.settings()))

    measured("bench relay", json_output, measuring, _tell, failed)


def sizes_of(given: str) -> tuple[int, ...]:
    """The sizes in ``0,10000``. Rejected names what is no size, or too many or too large."""
    parts = given.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise Rejected(f"--backlog {given!r}: give numbers of rows, comma-separated, such as 0,10000")
    sizes = tuple(int(part) for part in parts)
    if len(sizes) > _MOST_SIZES or max(sizes) > _MOST_ROWS:
        raise Rejected(f"--backlog {given!r}: give at most {_MOST_SIZES} sizes up to {_MOST_ROWS} rows each")
    return sizes


def _tell(result: dict[str, Any], console: Console) -> None:
    found, before = result["conditions"], result["before"]
    console.print(
        f"\n{found['cores']} cores, Python {found['python']}, load average {before['load_average']}; "
        f"Postgres fsync {found['postgres']['fsync']}, {found['settings']['partitions']} partitions, acks all"
    )
    table = Table("backlog, rows", "messages/s", "each round", "CPU µs a message", "repeated", "faults")
    for size in result["sizes"]:
        rounds = "  ".join(str(rate) for rate in size["rounds_per_s"])
        values = (size["backlog"], size["messages_per_s"], rounds, size["cpu_us_a_message"])
        table.add_row(*map(str, (*values, size["repeated"], size["faults"])))
    console.print(table)
    console.print(f"spread between the sizes: {result['spread_percent']} %")
    for name, values in result["commit_to_kafka_ms"].items():
        shares = "  ".join(f"{share} {value}" for share, value in values.items())
        console.print(f"commit to Kafka, ms, a row of {name}: {shares}", markup=False)
