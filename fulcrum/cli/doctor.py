"""``fulcrum doctor``: does everything hold that must hold, on the system at work?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from fulcrum.cli.client import console, note, show_json
from fulcrum.doctor.findings import Finding, State
from fulcrum.doctor.live import examine
from fulcrum.doctor.live_postgres import Scope
from fulcrum.settings import load_settings

_BROKEN, _CANNOT_LOOK = 10, 7
_STYLES = {
    State.HOLDS: "green",
    State.BROKEN: "bold red",
    State.ATTENTION: "yellow",
    State.SKIPPED: "dim",
    State.UNKNOWN: "magenta",
}


def doctor(
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds for which something may be in flight and does not count.")
    ] = 60.0,
    sample: Annotated[
        int, typer.Option(min=1, max=20_000, help="How many workflows are looked at by each check.")
    ] = 1000,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check the invariants of the running system without loading it.

    Exit code 0: all hold. 10: at least one is broken. 7: none is broken as far as could be seen, but a check
    could not be carried out. What waits for a person (parked messages, runs that need attention) is shown
    and changes no exit code.
    """
    settings = load_settings()
    began = time.monotonic()
    findings = asyncio.run(examine(settings, Scope(grace, sample)))
    took = time.monotonic() - began
    states = {finding.state for finding in findings}
    if json_output:
        show_json(_report(findings, grace, sample, took))
    else:
        _tell(findings, took)
    if State.BROKEN in states:
        note("doctor: broken: " + ", ".join(_named(findings, State.BROKEN)))
        raise typer.Exit(_BROKEN)
    if State.UNKNOWN in states:
        note("doctor: could not look: " + ", ".join(_named(findings, State.UNKNOWN)))
        raise typer.Exit(_CANNOT_LOOK)


def _named(findings: Sequence[Finding], state: State) -> list[str]:
    return [finding.check for finding in findings if finding.state is state]


def _report(findings: Sequence[Finding], grace: float, sample: int, took: float) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "grace_s": grace,
        "sample": sample,
        "took_s": round(took, 3),
        **{str(state): sum(finding.state is state for finding in findings) for state in State},
        "checks": [finding.as_dict() for finding in findings],
    }


def _tell(findings: Sequence[Finding], took: float) -> None:
    table = Table("", "check", "looked at", "found", box=box.SIMPLE_HEAD, pad_edge=False)
    for finding in findings:
        style = _STYLES[finding.state]
        causes = "; ".join(f"{count} {cause}" for cause, count in finding.causes.most_common())
        table.add_row(
            f"{finding.invariant}",
            finding.check,
            str(finding.looked_at),
            f"[{style}]{finding.state}[/]  {escape(causes or finding.note)}",
        )
    out = console()
    out.print(table)
    for finding in findings:
        for fault in finding.examples:
            out.print(f"{finding.check}: {fault.subject}: {fault.detail}", markup=False)
    out.print(f"{len(findings)} checks in {took:.1f} s")
