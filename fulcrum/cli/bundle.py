"""What does somebody need who helps from afar? All of it in one file, without a password.

What cannot be had is told in its place: a bundle is wanted most when something is broken.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import re
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import fulcrum
from fulcrum.cli.config import describe, faults_of
from fulcrum.cli.health import ROLES_VARIABLE, addresses
from fulcrum.cli.redaction import redacted
from fulcrum.commands.depth import depths
from fulcrum.doctor.live_kafka import opened, standings
from fulcrum.doctor.reach import reach, role_addresses
from fulcrum.errors import Rejected
from fulcrum.settings import Settings
from fulcrum.store import migrate

#: Bytes that are taken of the end of each log, and how many logs at most.
LOG_TAIL, MOST_LOGS = 262_144, 50


def write(file: Path, settings: Settings, report: Mapping[str, Any], logs: Iterable[Path]) -> str:
    """Write the bundle and say what is in it. Rejected when the file or a log cannot be used.

    The file is for its owner only: it has ids of customers' workflows.
    """
    tails = list(_tails(logs))
    parts: dict[str, Callable[[], Any]] = {
        "doctor.json": lambda: report,
        "health.json": lambda: _health(settings),
        "lag.json": lambda: _lag(settings),
        "queues.json": lambda: [asdict(each) for each in asyncio.run(depths(settings, tell_unacked=True))],
        "config.json": lambda: {"settings": describe(settings), "faults": faults_of(os.environ)},
        "versions.json": lambda: _versions(settings),
    }
    folder = file.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for name, collect in parts.items():
                _add(archive, f"{folder}/{name}", redacted(json.dumps(_had(collect), indent=2, default=str)))
            for name, text in tails:
                _add(archive, f"{folder}/logs/{name}", text)
    except OSError as error:
        raise Rejected(f"--bundle {file} cannot be written: {error.strerror}") from error
    return f"{file}: {', '.join(parts)} and {len(tails)} logs"


def _had(collect: Callable[[], Any]) -> Any:
    try:
        return collect()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(content))


def _health(settings: Settings) -> list[dict[str, Any]]:
    given = os.environ.get(ROLES_VARIABLE)
    roles = addresses(given) if given else role_addresses(settings, os.environ.get("FULCRUM_API"))
    return [each.as_dict() for each in asyncio.run(reach(settings, roles, live=False))]


def _lag(settings: Settings) -> list[dict[str, Any]]:
    with opened(settings) as kafka:
        return [{**asdict(each), "lag": each.lag} for each in standings(kafka)]


def _versions(settings: Settings) -> dict[str, Any]:
    """Of Fulcrum, of what it runs on, and of the database's schema."""
    return {
        "fulcrum": fulcrum.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": dict(_packages()),
        "database": _had(lambda: asdict(migrate.status(settings.postgres_dsn))),
    }


def _packages() -> Iterator[tuple[str, str]]:
    """The libraries that Fulcrum asks for, as they are installed."""
    try:
        wanted = requires("fulcrum") or []
    except PackageNotFoundError:
        wanted = []
    for requirement in wanted:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _tails(logs: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """The end of each log, without passwords. Rejected when one cannot be read."""
    files = [file for each in logs for file in (sorted(each.glob("**/*.log")) if each.is_dir() else [each])]
    # The newest tell most.
    files = sorted(files, key=lambda file: file.stat().st_mtime if file.exists() else 0)[-MOST_LOGS:]
    for number, file in enumerate(files, 1):
        try:
            with file.open("rb") as log:
                log.seek(max(0, file.stat().st_size - LOG_TAIL))
                yield f"{number:02}-{file.name}", redacted(log.read().decode(errors="replace"))
        except OSError as error:
            raise Rejected(f"--logs {file} cannot be read: {error.strerror}") from error
