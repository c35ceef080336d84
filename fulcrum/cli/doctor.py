"""``fulcrum doctor``: does everything hold that must hold, on the system at work?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from fulcrum.cli.client import Output, OutputOption, console, note, show_json, show_line
from fulcrum.cli.exits import Exit
from fulcrum.doctor.findings import Finding, State
from fulcrum.doctor.live import examine
from fulcrum.doctor.live_postgres import Scope
from fulcrum.errors import Rejected
from fulcrum.settings import load_settings

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
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tar.gz",
            help="Put the findings, health, lag, queues, settings without passwords, versions and the ends "
            "of --logs into this file, for whoever helps.",
        ),
    ] = None,
    logs: Annotated[
        list[Path] | None,
        typer.Option(help="With --bundle: a log file, or a folder of *.log. May be repeated."),
    ] = None,
    output: OutputOption = Output.TABLE,
    json_output: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """Check the invariants of the running system without loading it.

    Exit code 0: all hold. 10: at least one is broken. 7: none is broken as far as could be seen, but a check
    could not be carried out. What waits for a person (parked messages, runs that need attention) is shown
    and changes no exit code.
    """
    if logs and bundle is None:
        raise Rejected("--logs goes into a bundle: add --bundle FILE.tar.gz")
    settings = load_settings()
    began = time.monotonic()
    findings = asyncio.run(examine(settings, Scope(grace, sample)))
    took = time.monotonic() - began
    states = {finding.state for finding in findings}
    report = _report(findings, grace, sample, took)
    if json_output or output is Output.JSON:
        show_json(report)
    elif output is Output.NDJSON:
        for finding in findings:
            show_line(finding.as_dict())
    else:
        _tell(findings, took)
    if bundle is not None:
        from fulcrum.cli.bundle import write

        note(f"doctor: {write(bundle, settings, report, logs or ())}")
    if State.BROKEN in states:
        note("doctor: broken: " + ", ".join(_named(findings, State.BROKEN)))
        raise typer.Exit(Exit.FOUND)
    if State.UNKNOWN in states:
        note("doctor: could not look: " + ", ".join(_named(findings, State.UNKNOWN)))
        raise typer.Exit(Exit.UNREACHABLE)


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
