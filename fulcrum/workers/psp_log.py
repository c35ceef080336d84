"""Where does a simulator keep what happened, so that a kill makes it forget nothing?"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import structlog

from fulcrum.errors import Misconfigured

log = structlog.get_logger()

_Effect = TypeVar("_Effect", bound=Any)


class EffectLog(Generic[_Effect]):
    """A file with one JSON object a line, or nothing when ``path`` is None.

    A line is handed to the kernel in one write before the request is answered: it survives the death of
    the process, though not that of the machine. ``kind`` is the dataclass of an effect, ``setting`` the name
    of the setting that the path is from.
    """

    def __init__(self, path: Path | None, kind: type[_Effect], setting: str = "psp_log") -> None:
        self._path = path
        self._kind = kind
        self._setting = setting
        self._file: BinaryIO | None = None

    def open(self) -> list[_Effect]:
        """The effects so far. Misconfigured names the file that cannot be used, and the line."""
        if self._path is None:
            return []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab+", buffering=0)
            self._file.seek(0)
            data = self._file.read()
        except OSError as error:
            raise Misconfigured(
                f"{self._setting} {self._path} cannot be used: {error.strerror}; "
                f"set FULCRUM_{self._setting.upper()} to another file"
            ) from error
        whole, _, torn = data.rpartition(b"\n")
        if torn:  # the kill came in the middle of a write, so that request was never answered
            os.ftruncate(self._file.fileno(), len(data) - len(torn))
            log.warning(f"{self._setting}.torn", path=str(self._path), bytes=len(torn))
        return [self._effect(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def append(self, effect: _Effect) -> None:
        """Keep ``effect``. Raises OSError when the disk does not take it."""
        if self._file is not None:
            self._file.write(json.dumps(asdict(effect)).encode() + b"\n")

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _effect(self, number: int, line: bytes) -> _Effect:
        try:
            effect: _Effect = self._kind(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise Misconfigured(
                f"{self._setting} {self._path}, line {number} is no effect ({error}); "
                f"move the file away, or set FULCRUM_{self._setting.upper()} to another one"
            ) from error
        return effect
