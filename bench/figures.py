"""What a run's raw times say: percentiles, rates, and when an open loop must send. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from fulcrum.errors import Rejected

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
SHORTEST, LONGEST, FASTEST = 1.0, 600.0, 2000.0


def seconds(text: str) -> float:
    """``30s``, ``2m`` or ``500ms`` as seconds; Rejected names what it cannot read."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text)
    if match is None:
        raise Rejected(f"duration {text!r}: give a number with ms, s or m, such as 30s")
    return float(match[1]) * _UNITS[match[2]]


def bounded(duration: float, warmup: float, rate: float | None) -> None:
    """Rejected when a run would measure nothing, or be longer or faster than a machine should bear."""
    if not SHORTEST <= duration <= LONGEST:
        raise Rejected(
            f"--for {duration:g}s: give {SHORTEST:g}s to {LONGEST:g}s, and run it several times for more"
        )
    if warmup > LONGEST:
        raise Rejected(f"--warmup {warmup:g}s: give at most {LONGEST:g}s")
    if rate is not None and not 0 < rate <= FASTEST:
        raise Rejected(f"--rate {rate:g}: give more than 0 and at most {FASTEST:g} intents a second")


def schedule(rate: float, duration: float) -> Iterator[float]:
    """When an open loop sends, in seconds from its start: evenly, whatever the answers do."""
    for number in range(math.floor(rate * duration)):
        yield number / rate


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that ``share`` (0 to 1) of ``values`` do not exceed, by nearest rank; None without values."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def milliseconds(values: Sequence[float], *shares: float) -> dict[str, float | None]:
    """Percentiles of ``values`` (seconds) in milliseconds, such as ``{"p50": 12.3}``."""
    found = {f"p{share * 100:g}": percentile(values, share) for share in shares}
    return {name: None if value is None else round(value * 1000, 1) for name, value in found.items()}
