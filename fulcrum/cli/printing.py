"""How does a workflow look on a terminal?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.text import Text

from fulcrum.cli.attempts import attempt_line, waiting_for
from fulcrum.cli.client import clock

_STYLES = {
    "completed": "green",
    "cancelled": "yellow",
    "terminated": "yellow",
    "paused": "blue",
    "needs_attention": "red",
    "compensating": "magenta",
}


def show_head(workflow: Mapping[str, Any]) -> None:
    """The workflow and where its steps stand."""
    show_parts("workflow", workflow["workflow_id"], workflow["definition"], state_of(workflow))
    show_parts("tenant", workflow["tenant"], "customer", workflow["customer_ref"])
    lines = ", ".join(f"{line['quantity']} x {line['sku']}" for line in workflow["lines"])
    show_parts("order", lines, f"for {workflow['amount_minor']} {workflow['currency']} (minor unit)")
    finished = clock(workflow["finished_at"]) if workflow["finished_at"] else "not yet"
    show_parts("started", clock(workflow["started_at"]), "finished", finished)
    if workflow["reason"]:
        show_parts("reason", workflow["reason"])
    show_parts("reached", ", ".join(_reached(workflow)))
    if promised := workflow.get("promised_at"):
        show_parts("promised", clock(promised), _lateness(workflow["late_by"]))
    if held := workflow.get("holds"):
        show_parts("held for", ", ".join(held))
    if intercept := workflow.get("intercept"):
        show_parts("stopping", f"the courier is asked to stop the parcel: {intercept}")
    for step in workflow["steps"]:
        show_parts("step", f"{step['name']:<20}", step["status"], ", ".join(_remarks(step)))
        if waiting := waiting_for(step, workflow["attempts"] or ()):
            show_parts("    ", waiting)
    if waits := workflow.get("waiting_on"):
        show_why(waits)
    show_parts("correlation", workflow["correlation_id"], f"(from {workflow['freshness']['source']})")


def _reached(workflow: Mapping[str, Any]) -> Iterator[str]:
    """The milestones up to now."""
    for milestone in workflow["milestones"]:
        if milestone["at"]:
            yield f"{milestone['name']} {clock(milestone['at'])}"


def _lateness(seconds: int | None) -> str:
    if not seconds:
        return "" if seconds is None else "in time"
    return f"late by {timedelta(seconds=seconds)}"


def show_why(told: Mapping[str, Any]) -> None:
    """What the workflow waits for, since when, and what happens next."""
    show_parts("why", told["sentence"])
    if told["since"]:
        show_parts("since", clock(told["since"]))
    if told["next"]:
        show_parts("next", told["next"], clock(told["due"]) if told["due"] else "")


def _remarks(step: Mapping[str, Any]) -> Iterator[str]:
    """What is special about a step."""
    if step["reason"]:
        yield step["reason"]
    elif step.get("late"):
        yield f"late {step['late']}x"
    if step.get("skipped_by"):
        yield f"skipped by {step['skipped_by']}"
    if step.get("held"):
        yield "its command waits for a resume"
    if step.get("passed_over"):
        yield "passed over"
    if step.get("left_standing"):
        until = f" until it lapses at {clock(step['expires_at'])}" if step.get("expires_at") else ""
        yield f"LEFT STANDING{until}"


def show_entries(entries: Iterable[Mapping[str, Any]]) -> None:
    """Transitions and attempts, each on one line."""
    for entry in entries:
        if "version" in entry:
            show_entry(entry)
        else:
            show_parts("   ", clock(entry["started_at"]), attempt_line(entry))


def show_entry(entry: Mapping[str, Any]) -> None:
    """One transition on one line."""
    issued = ", ".join(command_line(command) for command in entry["commands"])
    told = f"ignored: {entry['ignored']}" if entry["ignored"] else issued
    if asked := _asked(entry):
        told = f"{asked}; {told}"
    if took := _took(entry):
        told = f"{told} ({took})" if told else f"({took})"
    cause = entry["cause"]
    what = cause.get("verb") or cause["type"]
    show_parts(f"{entry['version']:>3}", clock(entry["at"]), f"{what:<18}", state_of(entry), told)


def _took(entry: Mapping[str, Any]) -> str:
    """How long the answer took, or else how long nothing happened."""
    if (took := entry.get("since_command_ms")) is not None:
        return f"{took:g} ms after {entry['answered']['type']}"
    if (took := entry.get("since_previous_ms")) is not None:
        return f"{took:g} ms after the one before"
    return ""


def _asked(entry: Mapping[str, Any]) -> str:
    """Who asked for it and why."""
    actor = entry["cause"].get("actor")
    if not actor:
        return ""
    # The journal did not always have the reason; that of the run is a guess that only fits what was done.
    reason = entry["cause"].get("reason") or ("" if entry["ignored"] else entry["reason"])
    return f"by {actor}, {reason}" if reason else f"by {actor}"


def command_line(command: Mapping[str, Any]) -> str:
    """A command, who gets it, and when its answer is due."""
    due = f", due {clock(command['deadline_at'])}" if command.get("deadline_at") else ""
    return f"{command['type']} to {command['service']}{due}"


def state_of(row: Mapping[str, Any]) -> Text:
    """The status in its colour."""
    return Text(f"{row['status']:<15}", style=_STYLES.get(row["status"], "cyan"))


def show_parts(*parts: str | Text) -> None:
    """One line; as Text, because what comes from outside is no markup."""
    Console(soft_wrap=True).print(Text("  ").join(Text(p) if isinstance(p, str) else p for p in parts))
