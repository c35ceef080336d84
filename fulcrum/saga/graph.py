"""How does a workflow go on from each step, and back? Its edges, as the text of a drawing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from fulcrum.saga.definitions import Definition, Step

_COMPLETED, _CANCELLED = "completed", "cancelled"


class Edge(NamedTuple):
    """From one node to another, on the answer ``label``."""

    source: str
    label: str
    target: str


def edges(definition: Definition) -> Iterator[Edge]:
    """Forward, then from each refusal to the last undo before it, then from undo to undo."""
    steps = definition.steps
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        yield Edge(step.name, step.done.__name__, following.name if following else _COMPLETED)
    for number, step in enumerate(steps):
        yield Edge(step.name, step.refused.__name__, _undo_before(steps, number))
    for number, step in enumerate(steps):
        if step.undone is not None:
            yield Edge(_undo(step), step.undone.__name__, _undo_before(steps, number))


def mermaid(definition: Definition) -> str:
    """The graph as a Mermaid flowchart."""
    lines = ["flowchart LR", *(f"    {name}[{label}]" for name, label in _acts(definition).items())]
    lines += [f"    {end}([{end}])" for end in (_COMPLETED, _CANCELLED)]
    lines += [f"    {edge.source} -->|{edge.label}| {edge.target}" for edge in edges(definition)]
    return "\n".join(lines) + "\n"


def dot(definition: Definition) -> str:
    """The graph in the language of Graphviz."""
    lines = [f'digraph "{definition.name}" {{', "    rankdir=LR;", "    node [shape=box];"]
    lines += [f'    {name} [label="{label}"];' for name, label in _acts(definition).items()]
    lines += [f"    {end} [shape=oval];" for end in (_COMPLETED, _CANCELLED)]
    lines += [f'    {edge.source} -> {edge.target} [label="{edge.label}"];' for edge in edges(definition)]
    return "\n".join([*lines, "}"]) + "\n"


#: How a graph can be written.
FORMS: Mapping[str, Callable[[Definition], str]] = {"mermaid": mermaid, "dot": dot}


def _acts(definition: Definition) -> dict[str, str]:
    """The command of each node."""
    forward = {step.name: step.do.__name__ for step in definition.steps}
    back = {_undo(step): step.undo.__name__ for step in definition.steps if step.undo is not None}
    return {**forward, **back}


def _undo_before(steps: tuple[Step, ...], number: int) -> str:
    undoing = [_undo(step) for step in steps[:number] if step.undo is not None]
    return undoing[-1] if undoing else _CANCELLED


def _undo(step: Step) -> str:
    return f"undo_{step.name}"
