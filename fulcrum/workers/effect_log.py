"""Where does a simulator of the outside world keep what happened, so that a kill makes it forget nothing?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import structlog

from fulcrum.errors import Misconfigured

log = structlog.get_logger()

_Effect = TypeVar("_Effect")


class EffectLog(Generic[_Effect]):
    """A file with one JSON object a line, or nothing when ``path`` is None.

    ``setting`` is the setting that names the file, ``read`` makes an effect of the fields of a line. A line
    is handed to the kernel in one write before the request is answered: it survives the death of the process,
    though not that of the machine.
    """

    def __init__(self, path: Path | None, setting: str, read: Callable[..., _Effect]) -> None:
        self._path = path
        self._setting = setting
        self._read = read
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
            log.warning("effects.log_torn", path=str(self._path), bytes=len(torn))
        return [self._effect(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def append(self, *effects: Any) -> None:
        """Keep ``effects``, all or none. Raises OSError when the disk does not take them."""
        if self._file is not None and effects:
            self._file.write(b"".join(json.dumps(asdict(each)).encode() + b"\n" for each in effects))

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _effect(self, number: int, line: bytes) -> _Effect:
        try:
            return self._read(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise Misconfigured(
                f"{self._setting} {self._path}, line {number} is no effect ({error}); "
                f"move the file away, or set FULCRUM_{self._setting.upper()} to another one"
            ) from error
