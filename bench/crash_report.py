"""What came of the hits: a matrix for people, figures for programs, and why a run is no success. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.crash_load import Sent
from bench.crash_schedule import ROLES, SERVERS, Deed, Way

#: Seconds after ``kill -9`` within which the next workflow is to complete.
TARGETS = {**dict.fromkeys(ROLES, 3.0), "kafka": 10.0, "rabbitmq": 10.0}
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Hit:
    """A deed that was done (perf_counter seconds): when it began, from when on the system was left alone, and
    when the next deed was free to begin. ``error`` says why it did not work out."""

    deed: Deed
    began: float
    alone: float
    over: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds from ``alone`` to the next completion, and to the acceptance, the completion and the sight of a
    workflow that was posted after it; then to the sight of the last one that was posted before it."""

    next: float | None
    accepted: float | None
    completed: float | None
    shown: float | None
    caught_up: float | None


def seen(hit: Hit, sent: Iterable[Sent]) -> Seen:
    """What clients saw of one hit."""
    records = list(sent)
    fresh = [each for each in records if each.sent >= hit.alone]
    before = [each.shown - hit.alone for each in records if each.sent < hit.alone and each.shown is not None]

    def first(times: Iterable[float | None]) -> float | None:
        after = [at - hit.alone for at in times if at is not None and at >= hit.alone]
        return round(min(after), 3) if after else None

    done = [each for each in fresh if each.status == "completed"]
    return Seen(
        next=first(each.ended for each in records if each.status == "completed"),
        accepted=first(each.accepted for each in fresh),
        completed=first(each.ended for each in done),
        shown=first(each.shown for each in done),
        caught_up=round(max(0.0, *before), 3) if before else None,
    )


def matrix(hits: Sequence[Hit], sent: Sequence[Sent]) -> list[dict[str, Any]]:
    """One row for each target and way: how often, and the largest of each time."""
    groups: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for hit in hits:
        groups[hit.deed.target, hit.deed.name].append(seen(hit, sent))
    order = [*ROLES, "agents-2", *SERVERS]
    rows = []
    for (target, way), each in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        row: dict[str, Any] = {"target": target, "way": way, "times": len(each)}
        for name in ("next", "accepted", "completed", "shown", "caught_up"):
            values = [value for one in each if (value := getattr(one, name)) is not None]
            row[f"{name}_max_s"] = max(values, default=None)
        rows.append(row)
    return rows


def slow(hits: Sequence[Hit], sent: Sequence[Sent]) -> list[str]:
    """Kills after which the next completion took longer than its target."""
    found = []
    for number, hit in enumerate(hits, start=1):
        target = TARGETS.get(hit.deed.target)
        after = seen(hit, sent).next
        if hit.deed.way is Way.KILL and target is not None and (after is None or after > target):
            found.append(
                f"hit {number}, {hit.deed.target}: next completion after {after} s, target {target:g} s"
            )
    return found


def wrong_ends(sent: Iterable[Sent]) -> list[str]:
    """Workflows that ended, but not as their story does."""
    return [
        f"{each.workflow_id} ({each.story.name}) ended {each.status}"
        for each in sent
        if each.status is not None and each.status != each.story.status
    ]


def failed(result: Mapping[str, Any]) -> list[str]:
    """Why a run is no success; empty when it is one. Being slow is told, and fails nothing."""
    reasons = {
        "invariants are broken": result["violations"],
        "workflows did not end": result["unfinished"],
        "workflows ended otherwise than they must": result["wrong_ends"],
        "hits did not work out": result["errors"],
    }
    return [f"{len(found)} {reason}" for reason, found in reasons.items() if found]


def tell(result: Mapping[str, Any], console: Console) -> None:
    """Print the result."""
    table = Table(
        "what", "way", "times", "next", "accepted", "completed", "shown", "all", box=box.SIMPLE_HEAD
    )
    for column in table.columns:
        column.no_wrap = True
    for row in result["matrix"]:
        times = [row[f"{name}_max_s"] for name in ("next", "accepted", "completed", "shown", "caught_up")]
        shown = ["-" if value is None else f"{value:.2f}" for value in times]
        table.add_row(row["target"], row["way"], str(row["times"]), *shown)
    console.print(table)
    console.print(
        "Seconds, the largest of each: from the hit (of a server: its start; of a pause: its end) to the\n"
        "next completion; of a workflow posted after it, to its acceptance, completion and sight; to the\n"
        "sight of the last one posted before it. Some hits fall into the recovery from the one before."
    )
    for name in ("hits", "seconds", "sent", "ended", "tries"):
        console.print(f"{name}: {result[name]}")
    for what, count in result["counts"].items():
        console.print(f"{what}: at least {count}")
    for name in ("slow", "errors", "wrong_ends", "unfinished"):
        for line in result[name][:_SHOWN]:
            console.print(f"{name.replace('_', ' ')}: {line}", markup=False)
    broken = result["violations"]
    console.print(f"invariants: {'all hold' if not broken else f'{len(broken)} BROKEN'}")
    for violation in broken[:_SHOWN]:
        console.print(str(violation), markup=False)
