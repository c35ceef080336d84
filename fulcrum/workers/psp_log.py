"""Where does the simulated provider keep what happened, so that a kill makes it forget nothing?"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import structlog

from fulcrum.errors import Misconfigured
from fulcrum.workers.psp_book import Effect

log = structlog.get_logger()


class EffectLog:
    """A file with one JSON object a line, or nothing when ``path`` is None.

    A line is handed to the kernel in one write before the request is answered: it survives the death of
    the process, though not that of the machine.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def open(self) -> list[Effect]:
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
                f"psp_log {self._path} cannot be used: {error.strerror}; set FULCRUM_PSP_LOG to another file"
            ) from error
        whole, _, torn = data.rpartition(b"\n")
        if torn:  # the kill came in the middle of a write, so that request was never answered
            os.ftruncate(self._file.fileno(), len(data) - len(torn))
            log.warning("psp.log_torn", path=str(self._path), bytes=len(torn))
        return [self._effect(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def append(self, effect: Effect) -> None:
        """Keep ``effect``. Raises OSError when the disk does not take it."""
        if self._file is not None:
            self._file.write(json.dumps(asdict(effect)).encode() + b"\n")

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _effect(self, number: int, line: bytes) -> Effect:
        try:
            return Effect(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise Misconfigured(
                f"psp_log {self._path}, line {number} is no effect ({error}); "
                "move the file away, or set FULCRUM_PSP_LOG to another one"
            ) from error
