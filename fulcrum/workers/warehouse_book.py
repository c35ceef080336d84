"""What really happened on the simulated warehouse floor, and what happens by now? Pure.

A picker needs time, and nobody has to watch: whoever asks at a time makes happen what has happened by then,
so that a kill loses nothing but what nobody was told of. The caller names the tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fulcrum.workers.warehouse_jobs import TaskState
from fulcrum.workers.warehouse_tokens import find, takes

#: Units that fit into a parcel.
PARCEL = 10
_UNDER_WAY = frozenset({TaskState.ASSIGNED, TaskState.PICKING})
_LEAVES = {
    "offer": TaskState.ASSIGNED,
    "pick": TaskState.PICKING,
    "miss": TaskState.PICKING,
    "damage": TaskState.PICKING,
    "pick_again": TaskState.PICKING,
    "short": TaskState.SHORT,
    "pack": TaskState.PACKED,
    "hand_over": TaskState.HANDED_OVER,
    "cancel": TaskState.CANCELLED,
}

#: SKU and units.
Wanted = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something that really happened, once.

    ``kind``: offer, pick, miss (a line was tried, and nothing was there), damage, short (every line was
    tried, and some are not complete), pick_again, pack, put_back, hand_over, cancel. ``id`` counts from 1;
    ``task`` is the caller's key, ``reference`` the caller's name for the business. ``line`` counts from 0.
    An offer has ``lines`` and ``ship_to``; a cancelled task that was never offered has neither, and no
    reference.
    """

    id: int
    at: str
    kind: str
    task: str
    reference: str = ""
    line: int | None = None
    sku: str | None = None
    quantity: int | None = None
    parcels: int | None = None
    tracking_number: str | None = None
    ship_to: str | None = None
    lines: list[list[Any]] | None = None


class KeyReused(Exception):
    """The key of the task was used for another order."""


class NoSuchTask(Exception):
    """Nothing was ever offered under this key."""


@dataclass(slots=True)
class _Task:
    """What a task stands at. ``left`` are the lines of this round that were not tried yet."""

    reference: str
    ship_to: str | None
    wanted: Wanted
    offered_at: datetime
    last_at: datetime
    state: TaskState
    picked: list[int]
    damaged: list[int]
    left: list[int] = field(default_factory=list)
    parcels: int = 0

    @property
    def incomplete(self) -> list[int]:
        """The lines of which some is missing."""
        return [line for line, (_, wanted) in enumerate(self.wanted) if self.picked[line] < wanted]


class Book:
    """All effects, in order. What a task stands at follows from them. ``pace``: how long a line takes."""

    def __init__(self, pace: timedelta, effects: Iterable[Effect] = ()) -> None:
        self.effects: list[Effect] = []
        self._pace = pace
        self._tasks: dict[str, _Task] = {}
        self._under_way: set[str] = set()
        for effect in effects:
            self._add(effect)

    def since(self, last: int, reference: str | None = None) -> list[Effect]:
        """The effects after number ``last``, of one reference or of all."""
        return [e for e in self.effects[last:] if reference is None or e.reference == reference]

    def proceed(self, now: datetime) -> None:
        """Let everything happen that has happened by ``now``."""
        for key in sorted(self._under_way):
            self._proceed(key, now)

    def offer(self, key: str, reference: str, ship_to: str, wanted: Wanted, now: datetime) -> None:
        """Take the task up. Raises KeyReused. A task that was cancelled before stays so."""
        task = self._tasks.get(key)
        if task is None:
            lines = [[sku, quantity] for sku, quantity in wanted]
            self._happen("offer", key, reference, now, ship_to=ship_to, lines=lines)
        elif task.wanted and (task.reference, task.ship_to, task.wanted) != (reference, ship_to, wanted):
            raise KeyReused(key)

    def pick_again(self, key: str, now: datetime) -> bool:
        """Try the missing lines once more; False when the task is not short."""
        task = self._at(key, now)
        if task.state != TaskState.SHORT:
            return task.state in _UNDER_WAY
        self._happen("pick_again", key, task.reference, now)
        return True

    def pack(self, key: str, now: datetime) -> bool:
        """Pack what is picked; False when the task is not short, or nothing is picked."""
        task = self._at(key, now)
        if task.state == TaskState.SHORT and any(task.picked):
            self._pack(key, task, now)
        return task.state == TaskState.PACKED

    def cancel(self, key: str, now: datetime) -> bool:
        """Put back what is picked, and never take the task up again; False when the courier has it."""
        task = self._tasks.get(key)
        if task is None:
            self._happen("cancel", key, "", now)
            return True
        task = self._at(key, now)
        if task.state not in (TaskState.CANCELLED, TaskState.HANDED_OVER):
            for line, units in enumerate(task.picked):
                if units:
                    self._of_line("put_back", key, task, line, units, now)
            self._happen("cancel", key, task.reference, now)
        return task.state == TaskState.CANCELLED

    def hand_over(self, key: str, tracking_number: str, now: datetime) -> bool:
        """Give the parcels to the courier; False when there are none."""
        task = self._at(key, now)
        if task.state == TaskState.PACKED:
            self._happen("hand_over", key, task.reference, now, tracking_number=tracking_number)
        return task.state == TaskState.HANDED_OVER

    def body(self, key: str, now: datetime) -> dict[str, Any]:
        """What the floor says of a task. Raises NoSuchTask."""
        task = self._at(key, now)
        state = task.state
        if state == TaskState.ASSIGNED and now >= task.offered_at + self._pace:
            state = TaskState.PICKING
        lines = [
            {"sku": sku, "quantity": wanted, "picked": task.picked[line], "damaged": task.damaged[line]}
            for line, (sku, wanted) in enumerate(task.wanted)
        ]
        return {"task_id": key, "state": state.value, "lines": lines, "parcels": task.parcels}

    def _at(self, key: str, now: datetime) -> _Task:
        if key not in self._tasks:
            raise NoSuchTask(key)
        self._proceed(key, now)
        return self._tasks[key]

    def _proceed(self, key: str, now: datetime) -> None:
        task = self._tasks[key]
        while task.state in _UNDER_WAY:
            if task.left:
                sku, wanted = task.wanted[task.left[0]]
                # Somebody has to be found who takes it up.
                first = self._pace if task.state == TaskState.ASSIGNED else timedelta(0)
                done = task.last_at + first + takes(sku, self._pace)
                if done > now:
                    return
                self._try(key, task, sku, wanted, done)
            elif task.incomplete:
                self._happen("short", key, task.reference, task.last_at)
            else:
                self._pack(key, task, task.last_at)

    def _try(self, key: str, task: _Task, sku: str, wanted: int, at: datetime) -> None:
        line = task.left[0]
        found = find(sku, wanted, at - task.offered_at, self._pace)
        breaks = found.damaged - task.damaged[line]
        if breaks > 0:
            self._of_line("damage", key, task, line, breaks, at)
        units = found.there - task.picked[line]
        self._of_line("pick" if units > 0 else "miss", key, task, line, max(units, 0), at)

    def _pack(self, key: str, task: _Task, at: datetime) -> None:
        parcels = -(-sum(task.picked) // PARCEL)
        self._happen("pack", key, task.reference, at, parcels=parcels)

    def _of_line(self, kind: str, key: str, task: _Task, line: int, units: int, at: datetime) -> None:
        sku = task.wanted[line][0]
        self._happen(kind, key, task.reference, at, line=line, sku=sku, quantity=units)

    def _happen(self, kind: str, key: str, reference: str, at: datetime, **more: Any) -> None:
        number = len(self.effects) + 1
        self._add(Effect(id=number, at=at.isoformat(), kind=kind, task=key, reference=reference, **more))

    def _add(self, effect: Effect) -> None:
        self.effects.append(effect)
        at = datetime.fromisoformat(effect.at)
        task = self._tasks.get(effect.task)
        if task is None:
            wanted = tuple((sku, quantity) for sku, quantity in effect.lines or ())
            empty = [0] * len(wanted)
            task = _Task(
                effect.reference, effect.ship_to, wanted, at, at, TaskState.ASSIGNED, empty, empty.copy()
            )
            task.left = list(range(len(wanted)))
            self._tasks[effect.task] = task
        _apply(task, effect, at)
        if task.state in _UNDER_WAY:
            self._under_way.add(effect.task)
        else:
            self._under_way.discard(effect.task)


def _apply(task: _Task, effect: Effect, at: datetime) -> None:
    line, units = effect.line, effect.quantity or 0
    task.state = _LEAVES.get(effect.kind, task.state)
    if line is not None:
        match effect.kind:
            case "pick" | "miss":
                task.picked[line] += units
                task.left.remove(line)
                task.last_at = at
            case "damage":
                task.damaged[line] += units
            case "put_back":
                task.picked[line] -= units
    elif effect.kind == "pick_again":
        task.left = task.incomplete
        task.last_at = at
    elif effect.kind == "pack":
        task.parcels = effect.parcels or 0
