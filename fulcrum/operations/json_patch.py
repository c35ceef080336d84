"""What does a JSON Patch (RFC 6902) make of a document? Pure; ``move`` and ``copy`` are left out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from fulcrum.errors import Rejected

OPERATIONS = ("add", "remove", "replace", "test")


def patched(document: Any, patch: Sequence[Mapping[str, Any]]) -> Any:
    """``document`` with ``patch`` applied, itself unchanged. Rejected names the step that does not fit."""
    wrapped = {"": copy.deepcopy(document)}
    for number, step in enumerate(patch):
        try:
            _apply(wrapped, step)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            told = f"{step.get('op')} at {step.get('path')!r}"
            raise Rejected(f"patch[{number}], {told}, does not fit the message: {error}") from error
    return wrapped[""]


def _apply(wrapped: dict[str, Any], step: Mapping[str, Any]) -> None:
    act, path = step["op"], step["path"]
    if act not in OPERATIONS:
        raise ValueError(f"op must be one of {', '.join(OPERATIONS)}")
    if path and not path.startswith("/"):
        raise ValueError("path must be empty or begin with /")
    names = ["", *(part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:])]
    parent: Any = wrapped
    for name in names[:-1]:
        parent = parent[_key(parent, name)]
    last = names[-1]
    if act == "add" and isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _key(parent, last, len(parent) + 1), step["value"])
        return
    key = last if act == "add" else _key(parent, last)
    if act == "remove":
        del parent[key]
    elif act == "test":
        if parent[key] != step["value"]:
            raise ValueError("the value there is another")
    else:
        parent[key] = step["value"]


def _key(parent: Any, name: str, size: int | None = None) -> Any:
    """``name`` as a key of ``parent``; it must be there."""
    if isinstance(parent, list):
        if not name.isdecimal() or int(name) >= (len(parent) if size is None else size):
            raise IndexError(f"there is no item {name!r}")
        return int(name)
    if not isinstance(parent, dict) or name not in parent:
        raise KeyError(f"there is no {name!r}")
    return name
