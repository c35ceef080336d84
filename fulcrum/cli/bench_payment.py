"""``fulcrum bench payment``: is the payment worker limited by the provider's latency alone?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from fulcrum.cli.measured import measured
from fulcrum.errors import Rejected

_MOST = 500


def payment(
    calls: Annotated[str, typer.Option(help="Calls in progress, one run each.")] = "8,16,32,64",
    latency: Annotated[str, typer.Option(help="How long the provider takes, such as 100ms.")] = "100ms",
    duration: Annotated[str, typer.Option("--for", help="How long each run counts, such as 15s.")] = "15s",
    warmup: Annotated[str, typer.Option(help="How long before a run counts anything.")] = "3s",
    commands: Annotated[int, typer.Option(min=1, max=8, help="Commands in progress for each call.")] = 2,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure the payment worker against the ceiling of calls in progress / latency.

    One worker process, RabbitMQ, Postgres and Kafka, and a provider that answers after the latency. What
    was started is stopped, and what was named is removed at the end. Exit code 1 when anything was lost or
    doubled.
    """
    from bench.alone import alone
    from bench.figures import bounded, seconds
    from bench.payment import Plan, measure

    plan = Plan(_calls(calls, commands), seconds(latency), seconds(duration), seconds(warmup), commands)
    bounded(plan.duration, plan.warmup, None)

    def measuring(console: Console) -> dict[str, Any]:
        with alone(console.print) as own:
            own.prepare(console.print)
            result = uvloop.run(measure(plan, own, console.print))
            own.keep = bool(result["violations"])
            return result

    measured("bench payment", json_output, measuring, _tell, _failed)


def _calls(text: str, commands: int) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) * commands <= _MOST for part in parts):
        raise Rejected(
            f"--calls {text!r}: give whole numbers such as 8,16; times --commands they may be {_MOST} at most"
        )
    return tuple(int(part) for part in parts)


def _tell(result: dict[str, Any], console: Console) -> None:
    strain = result["strain"]
    console.print(
        f"latency {result['latency_ms']:g} ms, {result['seconds']:g} s a run, "
        f"{result['conditions']['cores']} cores, "
        f"load average {strain['before']['load_average']} to {strain['after']['load_average']}, "
        f"calibration {strain['before']['calibration_s']} s to {strain['after']['calibration_s']} s"
    )


def _failed(result: dict[str, Any]) -> Sequence[str]:
    violations: Sequence[str] = result["violations"]
    return violations
