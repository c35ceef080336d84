"""``fulcrum dev``: the servers and every role in the foreground, one log, until Ctrl-C."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from itertools import cycle

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from fulcrum.cli.health import ROLES_VARIABLE
from fulcrum.cli.interrupt import interruptible
from fulcrum.localstack import ROLES, RoleProcess, Running, Stack, Supervisor, running
from fulcrum.localstack.running import start_roles, where

_PALETTE = ("magenta", "cyan", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_green")
_COLOURS = dict(zip(ROLES, cycle(_PALETTE), strict=False))
_WIDTH = max(map(len, ROLES))

#: Rich colours only a terminal, and never when NO_COLOR is set.
_console = Console(soft_wrap=True, highlight=False)


def print_log(role: str, line: str) -> None:
    """One line of a role behind its name."""
    _console.print(Text(f"{role:<{_WIDTH}} | ", style=_COLOURS.get(role, "white")) + Text(line))


def print_addresses(roles: Mapping[str, RoleProcess], env: Mapping[str, str]) -> None:
    """Where everything is."""
    table = Table("what", Column("address", overflow="fold"))
    for name, role in roles.items():
        table.add_row(name, role.url)
    table.add_row("runs (Faust)", f"{roles['agents'].url}/runs")
    for variable, value in sorted(env.items()):
        if variable.startswith("FULCRUM_"):
            table.add_row(variable, value)
    _console.print(table)


def _show(found: Running) -> None:
    print_addresses(found.supervisor.roles, found.env)


def dev() -> None:
    """Run the servers and every role in the foreground; a role that dies is started again."""
    with interruptible():
        try:
            env = {"FULCRUM_LOG_FORMAT": os.environ.get("FULCRUM_LOG_FORMAT", "human")}
            with running(Stack(), say=_console.print, env=env, log=print_log, started=_show):
                _console.print("Ready. Ctrl-C stops everything that this command started.")
                threading.Event().wait()
        except KeyboardInterrupt:
            _console.print("Stopped.")


def run_all() -> None:
    """Every role under one supervisor, on the servers that the environment names."""
    with interruptible():
        supervisor = Supervisor({}, print_log, Stack().home.path / "logs")
        try:
            roles = start_roles(supervisor)
            print_addresses(roles, {**os.environ, ROLES_VARIABLE: where(roles)})
            threading.Event().wait()
        except KeyboardInterrupt:
            _console.print("Stopping.")
        finally:
            supervisor.stop()
