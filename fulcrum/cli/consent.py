"""Does a person agree? Asked on a terminal only: a program would wait for ever."""

from __future__ import annotations

import sys

import typer

from fulcrum.cli.client import note
from fulcrum.cli.exits import Exit


def on_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def agreed(question: str) -> None:
    """Return when the answer to ``question`` is yes; exit code 2 when it is no, or nobody can be asked."""
    if not on_terminal():
        note(f"{question} Nobody can be asked here: add --yes")
        raise typer.Exit(Exit.USAGE)
    if not typer.confirm(question, err=True):
        raise typer.Exit(Exit.USAGE)
