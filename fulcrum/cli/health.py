"""``fulcrum health``: one line for each server and role, with whether it answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from fulcrum.cli.client import Output, OutputOption, console, note, show_rows
from fulcrum.cli.exits import Exit
from fulcrum.doctor.reach import SERVERS, Reached, reach, role_addresses
from fulcrum.errors import Rejected
from fulcrum.settings import load_settings

#: The list of roles that ``--roles`` and FULCRUM_ROLES give.
ROLES_VARIABLE = "FULCRUM_ROLES"


def health(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these servers and roles.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live/--ready", help="Whether it is there, or whether it can do its work.")
    ] = False,
    roles: Annotated[
        str | None,
        typer.Option(
            envvar=ROLES_VARIABLE,
            help="Where the roles are, such as intake=http://h:8080,agents=http://h:6066; without it on this "
            "machine, on their default ports.",
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say of each server and role whether it is ready; exit code 7 when one is not.

    A role that is not ready names the check that fails.
    """
    settings = load_settings()
    where = addresses(roles) if roles else role_addresses(settings, os.environ.get("FULCRUM_API"))
    if unknown := sorted(set(names or ()) - {*SERVERS, *where}):
        raise Rejected(f"{unknown[0]!r} is no server or role here; one of {', '.join((*SERVERS, *where))}")
    found = asyncio.run(reach(settings, where, live, names or ()))
    if output is Output.TABLE:
        _tell(found)
    else:
        show_rows([each.as_dict() for each in found], {}, output)
    if away := [each.name for each in found if not each.ok]:
        note(f"health: not well: {', '.join(away)}")
        raise typer.Exit(Exit.UNREACHABLE)


def addresses(given: str) -> dict[str, str]:
    """Role by name from ``name=url,...``."""
    found = {}
    for part in given.split(","):
        name, _, url = part.strip().partition("=")
        if not name or not url.startswith(("http://", "https://")):
            raise Rejected(f"--roles {part!r} is no role; give name=http://host:port, comma-separated")
        found[name] = url
    return found


def _tell(found: Sequence[Reached]) -> None:
    out = console()
    for each in found:
        mark = Text("[+]", style="green") if each.ok else Text("[-]", style="bold red")
        line = f" {each.name:<14} {each.address:<28} {each.took_ms:>5} ms  {each.told}"
        out.print(mark + Text(line), soft_wrap=True)
