"""Which schemas were ever released? ``schemas/history/<record>/<n>.avsc``, appended and never edited.

Bytes written under any of them may still lie in a topic, so every schema is held against all of them. The
digests beside them (``sha256sum -c SHA256SUMS`` reads them too) betray an edit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fulcrum.wire.compatibility import Fault, Version, breaks, same_bytes
from fulcrum.wire.lint import lint
from fulcrum.wire.schemas import MESSAGE_TYPES, MessageType, fullname, schema, schema_text, schemas_dir

_DIGESTS = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class History:
    """The committed versions below one folder."""

    folder: Path

    def versions(self, name: str) -> list[Version]:
        """The versions of a record, oldest first, labelled "version 1" and so on."""
        numbers = sorted(int(path.stem) for path in (self.folder / name).glob("*.avsc"))
        return [
            Version(
                f"version {n}", json.loads((self.folder / name / f"{n}.avsc").read_text(encoding="utf-8"))
            )
            for n in numbers
        ]

    def append(self, name: str, text: str) -> Path:
        """Add the next version of a record."""
        number = len(self.versions(name)) + 1
        path = self.folder / name / f"{number}.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        with (self.folder / _DIGESTS).open("a", encoding="utf-8") as digests:
            digests.write(f"{_digest(path)}  {path.relative_to(self.folder).as_posix()}\n")
        return path

    def damage(self) -> list[Fault]:
        """Files that were edited, removed or slipped in since they were added, and holes in the numbering."""
        recorded = self._recorded()
        present = {path.relative_to(self.folder).as_posix(): path for path in self.folder.glob("*/*.avsc")}
        faults = []
        for name in sorted(recorded.keys() | present.keys()):
            record, _, file = name.partition("/")
            if name not in present:
                faults.append(Fault(record, "", f"{file} is gone; a released version stays: restore it"))
            elif name not in recorded:
                faults.append(
                    Fault(record, "", f"{file} is not in {_DIGESTS}; use `fulcrum schema snapshot`")
                )
            elif recorded[name] != _digest(present[name]):
                faults.append(Fault(record, "", f"{file} was edited; restore it and add a new version"))
        for folder in sorted(path for path in self.folder.glob("*") if path.is_dir()):
            numbers = sorted(int(path.stem) for path in folder.glob("*.avsc"))
            if numbers != list(range(1, len(numbers) + 1)):
                faults.append(Fault(folder.name, "", f"versions are {numbers}, not 1 to {len(numbers)}"))
        return faults

    def _recorded(self) -> dict[str, str]:
        path = self.folder / _DIGESTS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines if line)}


def committed() -> History:
    """The history of this checkout."""
    return History(schemas_dir() / "history")


def check(history: History) -> list[Fault]:
    """Everything that is wrong with this release's schemas, found without a registry."""
    return [*broken(history), *(_unrecorded(name) for name in _changed(history))]


def broken(history: History) -> list[Fault]:
    """What keeps this release's schemas from becoming history: damage, broken rules, incompatibility."""
    faults = history.damage()
    names = {fullname(type_) for type_ in MESSAGE_TYPES}
    for folder in sorted(path.name for path in history.folder.glob("*") if path.is_dir()):
        if folder not in names:
            faults.append(Fault(folder, "", "has a history and no message any more: nothing could read it"))
    for type_ in MESSAGE_TYPES:
        faults += lint(schema(type_), fullname(type_))
        faults += (f for v in history.versions(fullname(type_)) for f in breaks(schema(type_), v))
    return faults


def snapshot(history: History) -> list[Path]:
    """Append the schemas that differ from their newest version; documentation alone makes no version."""
    return [history.append(name, schema_text(type_)) for name, type_ in _changed(history).items()]


def _changed(history: History) -> dict[str, MessageType]:
    changed = {}
    for type_ in MESSAGE_TYPES:
        released = history.versions(fullname(type_))
        if not released or not same_bytes(schema(type_), released[-1].schema):
            changed[fullname(type_)] = type_
    return changed


def _unrecorded(name: str) -> Fault:
    return Fault(name, "", "is not in the history as it is now; run `fulcrum schema snapshot`")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
