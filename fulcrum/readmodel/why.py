"""What does a workflow wait for, since when, and what happens next? One sentence for every status. Pure.

Long, because every kind of waiting has its own words, and all are of one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from fulcrum.readmodel.awaited import Awaited, awaited
from fulcrum.readmodel.projection import FINAL
from fulcrum.saga.run import OPERATOR, UNDO_REFUSED, Status

#: A status that no decision gives: the intent is stored, and nothing is decided yet.
ACCEPTED = "accepted"
#: Characters of an error in the sentence; ``ops.attempts`` has the rest.
_ERROR_SHOWN = 120

_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a workflow, in the shape in which the API shows it (times as text).

    ``attempts`` are in their order; ``parked`` its messages that wait for a person; ``requests`` what
    operators asked for and nothing is decided upon yet; ``others`` how many workflows wait for the same.
    ``tries`` says how often a command of each type is tried at most. What is not known may be left out.
    """

    now: datetime
    run: _Row
    entries: Sequence[_Row] = ()
    attempts: Sequence[_Row] = ()
    parked: Sequence[_Row] = ()
    requests: Sequence[_Row] = ()
    others: int = 0
    tries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The sentence and its parts. ``waits_for`` is an event's type, or who must act; None: it is finished.

    ``next`` happens at ``due``, or whenever it happens if that is None.
    """

    sentence: str
    waits_for: str | None = None
    since: datetime | None = None
    next: str | None = None
    due: datetime | None = None
    step: str | None = None
    command: str | None = None
    others: int = 0


def why(facts: Facts) -> Why:
    """What the workflow waits for. Defined for every status; ``waits_for`` is None when it is finished."""
    told = _told(facts)
    asked = [f"{each['verb']} asked by {each['actor']} is not decided yet" for each in facts.requests]
    return replace(told, sentence="; ".join([told.sentence, *asked]))


def moment(text: Any) -> datetime | None:
    """A time of the API; None for none."""
    return None if text is None else datetime.fromisoformat(text)


def _told(facts: Facts) -> Why:
    run, waiting = facts.run, awaited(facts.run)
    status = run["status"]
    if status == ACCEPTED:
        return _accepted(facts)
    if status == Status.PAUSED:
        return _paused(facts, waiting)
    if status in FINAL:
        return _finished(facts, waiting)
    if waiting is None:
        return _nothing_awaited(facts)
    return _given_up(facts, waiting) if waiting.given_up else _waiting(facts, waiting)


# --- by status ---------------------------------------------------------------------------------------


def _accepted(facts: Facts) -> Why:
    parts = ["accepted; waiting for its first decision", *_parked(facts.parked)]
    next_ = "the orchestrator reads IntentCreated" if not facts.parked else "a person replays the message"
    since = moment(facts.run["started_at"])
    return Why(sentence="; ".join(parts), waits_for="first decision", since=since, next=next_)


def _paused(facts: Facts, waiting: Awaited | None) -> Why:
    entry = _entered(facts)
    actor = entry["cause"].get("actor") if entry and entry["cause"].get("verb") == "pause" else None
    begin = _held_for(facts.run.get("holds") or (), f"paused by {actor}" if actor else "paused")
    ends = "resumed" if begin.startswith("paused") else "released"
    if waiting is not None and waiting.state.get("held"):
        begin += f"; {waiting.commands[0]} is held back"
    elif waiting is not None:
        begin += f" while waiting on {waiting.event}"
    return Why(
        sentence=f"{begin}; nothing leaves until it is {ends}",
        waits_for="a person",
        since=_since_status(facts, entry),
        next=f"a person {ends[:-1]}s it",
        step=None if waiting is None else waiting.row.name,
        command=None if waiting is None else waiting.commands[0],
    )


def _held_for(holds: Sequence[str], paused: str) -> str:
    """Why it waits: the holds that are released by signals, and the operator's pause."""
    reasons = [hold for hold in holds if hold != OPERATOR]
    told = f"held for {', '.join(reasons)}" if reasons else paused
    return f"{told} and {paused}" if reasons and OPERATOR in holds else told


def _finished(facts: Facts, waiting: Awaited | None) -> Why:
    status = facts.run["status"]
    if waiting is not None:  # an effect that came after the end
        told = _waiting(facts, waiting)
        return replace(told, sentence=f"{status}; a late effect: {told.sentence}")
    standing = [step["name"] for step in facts.run["steps"] if step.get("left_standing")]
    stands = [f"{', '.join(standing)} may stand"] if standing else []
    return Why(
        sentence="; ".join([status, *stands, "nothing is awaited"]), since=moment(facts.run["finished_at"])
    )


def _nothing_awaited(facts: Facts) -> Why:
    """A run that is not finished and waits for no answer: only a person moves it."""
    passed_over = [step["name"] for step in facts.run["steps"] if step.get("passed_over")]
    sentence = "no answer is awaited and nothing is scheduled; a person must look"
    if facts.run["status"] == Status.NEEDS_ATTENTION and passed_over:
        sentence = f"{', '.join(passed_over)} was passed over and may stand; a person must settle it"
    return Why(
        sentence="; ".join([sentence, *_parked(facts.parked)]),
        waits_for="a person",
        since=_since_status(facts, _entered(facts)),
        next="a person compensates or terminates it",
    )


def _given_up(facts: Facts, waiting: Awaited) -> Why:
    undo, last = waiting.commands[0], _last_attempt(facts, waiting)
    refused = (waiting.state.get("reason") or "").removeprefix(f"{UNDO_REFUSED}: ")
    parts = [
        f"{undo} was refused: {refused}"
        if refused != waiting.state.get("reason")
        else f"{undo} was not answered within {waiting.state['late']} deadlines",
        *_parked(_mine(facts.parked, waiting)),
        *_error(last),
        f"only {waiting.event} or a person moves it",
    ]
    return Why(
        sentence="; ".join(parts),
        waits_for="a person",
        since=_since_status(facts, _entered(facts)),
        next="a person mends the cause and retries",
        step=waiting.row.name,
        command=undo,
    )


def _waiting(facts: Facts, waiting: Awaited) -> Why:
    last = _last_attempt(facts, waiting)
    parked = _mine(facts.parked, waiting)
    retry_due = moment(last["next_due"]) if last is not None and not parked else None
    deadline = moment(waiting.state["deadline_at"])
    undoing = f"undoing {waiting.row.name}: " if waiting.undoing else ""
    parts = [f"{undoing}waiting on {waiting.event}", *_progress(waiting, facts.now), *_parked(parked)]
    happens: list[tuple[datetime, str]] = []
    if last is not None and retry_due is not None:
        number = f"attempt {last['attempt'] + 1}"
        most = facts.tries.get(last["type"])
        of_most = f" of {most}" if most else ""
        parts.append(f"{number}{of_most} {_due(retry_due, facts.now)}")
        happens.append((retry_due, f"{number} of {last['type']}"))
    if deadline is not None:
        happens.append((deadline, _at_deadline(waiting)))
        if retry_due is None:
            parts.append(f"answer {_due(deadline, facts.now)}")
    if not happens and not parked:
        parts.append("no deadline runs")
    parts += _error(last) if not parked else ()
    parts += _counted(int(waiting.state.get("late") or 0), "deadline", "passed")
    parts += _intercept(facts.run)
    if facts.others:
        verb = "waits" if facts.others == 1 else "wait"
        parts += _counted(facts.others, "other", f"{verb} for the same")
    due, next_ = min((each for each in happens if each[0] >= facts.now), default=(None, None))
    if parked and next_ is None:
        next_ = "a person replays or discards the message"
    elif next_ is None and happens:
        due, next_ = max(happens)
    return Why(
        sentence="; ".join(parts),
        waits_for=waiting.event,
        since=_since_asked(facts, waiting),
        next=next_,
        due=due,
        step=waiting.row.name,
        command=waiting.commands[0] if last is None else last["type"],
        others=facts.others,
    )


# --- parts of the sentence ----------------------------------------------------------------------------


def _at_deadline(waiting: Awaited) -> str:
    """What the orchestrator does when the answer has not come by then."""
    late = int(waiting.state.get("late") or 0) + 1
    if waiting.undoing and late >= waiting.row.patience:
        return "it needs attention"
    if not waiting.undoing and waiting.row.gives_up(late):
        return "the step counts as failed and is undone"
    if waiting.undoing or waiting.row.query is None:
        return f"{waiting.commands[0]} is sent again"
    return f"{waiting.row.query.__name__} is sent"


def _progress(waiting: Awaited, now: datetime) -> Iterator[str]:
    """What the step has told of itself, such as that it waits for goods."""
    reason = waiting.state.get("reason")
    if waiting.undoing or waiting.row.progress is None or not reason:
        return
    until = moment(json.loads(waiting.state.get("result") or "{}").get("waits_until"))
    if until is None:
        yield f"{waiting.row.name} is delayed: {reason}"
    else:
        yield f"goods are short; {'waits' if until >= now else 'waited'} for them until {_clock(until, now)}"


def _intercept(run: _Row) -> Iterator[str]:
    """A cancellation that somebody has yet to answer."""
    if run.get("intercept"):
        yield f"{run['intercept']}; the parcel is to be stopped, and that is not answered yet"


def _mine(rows: Iterable[_Row], waiting: Awaited) -> list[_Row]:
    """Those of ``rows`` that hold the awaited step up: its commands, and events, which stop the whole run."""
    return [row for row in rows if row["type"] in waiting.commands or row.get("service") == "events"]


def _last_attempt(facts: Facts, waiting: Awaited) -> _Row | None:
    """The newest attempt of the awaited step, if it failed."""
    mine = [
        each
        for each in facts.attempts
        if each["step"] == waiting.row.name and each["type"] in waiting.commands
    ]
    return mine[-1] if mine and mine[-1]["outcome"] != "succeeded" else None


def _parked(rows: Sequence[_Row]) -> Iterator[str]:
    for row in rows[:1]:
        yield f"{row['type']} is parked ({row['reason']}): {_short(row['error'] or row['error_class'])}"


def _error(attempt: _Row | None) -> Iterator[str]:
    if attempt is not None:
        yield f"last error {_short(attempt['error'] or attempt['error_class'] or 'unknown')}"


def _short(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= _ERROR_SHOWN else f"{line[:_ERROR_SHOWN]}..."


def _counted(number: int, what: str, does: str) -> Iterator[str]:
    if number:
        yield f"{number} {what}{'' if number == 1 else 's'} {does}"


def _due(due: datetime, now: datetime) -> str:
    return f"{'due' if due >= now else 'was due'} {_clock(due, now)}"


def _clock(time: datetime, now: datetime) -> str:
    """To the second, in UTC; with its day unless that is today."""
    utc = time.astimezone(UTC)
    return utc.strftime("%H:%M:%SZ" if utc.date() == now.astimezone(UTC).date() else "%Y-%m-%d %H:%M:%SZ")


# --- since when ---------------------------------------------------------------------------------------


def _entered(facts: Facts) -> _Row | None:
    """The transition that led to the status; None when the timeline is not known so far back."""
    status = facts.run["status"]
    for entry in reversed(facts.entries):
        if entry["status"] == status and entry["status_before"] != status:
            return entry
    return None


def _since_status(facts: Facts, entry: _Row | None) -> datetime | None:
    return moment(facts.run["updated_at"] if entry is None else entry["at"])


def _since_asked(facts: Facts, waiting: Awaited) -> datetime | None:
    """When the command that is out left first; without a timeline, when the last other step ended."""
    issued = [
        (command["command_id"], entry["at"])
        for entry in facts.entries
        for command in entry["commands"]
        if command["step"] == waiting.row.name and command["type"] == waiting.commands[0]
    ]
    if issued:
        return moment(next(at for command_id, at in issued if command_id == issued[-1][0]))
    others = [step["finished_at"] for step in facts.run["steps"] if step is not waiting.state]
    return moment(max((at for at in others if at is not None), default=facts.run["started_at"]))
