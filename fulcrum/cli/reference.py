"""``fulcrum reference``: every command with its arguments and options, as the page docs/reference/cli.md."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from fulcrum.cli.exits import MEANINGS

_HEAD = """# The command line

Made by `fulcrum reference > docs/reference/cli.md`; a test compares. `fulcrum COMMAND --help` says the same.

* `FULCRUM_API` is the address of the API, `http://127.0.0.1:8080` if not set. Commands that ask the servers
  themselves (`health`, `doctor`, `lag`, `queue`, `events`, `projection`, `stock check`) take their addresses
  from the settings.
* Output is for people unless `-o json` (one document) or `-o ndjson` (a line each) is given. Data goes to
  standard output, everything else to standard error, where an error is a line of JSON if JSON was asked for.
  No colour where the output is no terminal, or with `NO_COLOR` set.
* Nothing is asked where no terminal is.
"""


def reference() -> None:
    """Print docs/reference/cli.md: every command with its arguments, options and exit codes."""
    typer.echo(page(), nl=False)


def page() -> str:
    """The page as Markdown."""
    from fulcrum.cli.main import whole

    lines = [_HEAD, "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code:d} | {meaning} |" for code, meaning in MEANINGS.items()]
    lines.append("")
    for name, command in leaves(typer.main.get_command(whole())):
        lines += _section(name, command)
    return "\n".join(lines)


def leaves(root: Any, name: str = "fulcrum") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name, by name; groups are gone through."""
    inner: dict[str, Any] = getattr(root, "commands", {})
    if not inner or root.invoke_without_command:
        yield name, root
    for word in sorted(inner):
        yield from leaves(inner[word], f"{name} {word}")


def _section(name: str, command: Any) -> list[str]:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"## {name}", "", f"`{usage}`", "", inspect.cleandoc(command.help or "").strip(), ""]
    records = [
        each.get_help_record(context)
        for kind in ("argument", "option")
        for each in command.params
        if each.param_type_name == kind and not each.hidden
    ]
    if records:
        lines += ["| | |", "|---|---|"]
        lines += [f"| `{_cell(names)}` | {_cell(about)} |" for names, about in records]
        lines.append("")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
