"""Do the commands exist that runbooks and suggestions tell people to type?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from fulcrum.cli import main

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
#: From the word ``fulcrum`` to the end of the code, or of the line in a block.
_TYPED = re.compile(r"`fulcrum ([a-z][^`]*)`|^fulcrum ([a-z][^#\n]*)", re.MULTILINE)


@pytest.fixture(scope="module")
def program() -> Any:
    """The command line, with every sub-command."""
    main._load("")
    return typer.main.get_command(main.app)


def typed(text: str) -> list[list[str]]:
    """The words of each command of a page."""
    return [(inline or block).split() for inline, block in _TYPED.findall(text)]


def unknown(program: Any, words: list[str]) -> str | None:
    """What of a command does not exist: a sub-command or an option."""
    command = program
    for word in words:
        known = getattr(command, "commands", None)  # a group has some
        if known is None:
            break
        if word not in known:
            return word
        command = known[word]
    options = {name for parameter in command.params for name in parameter.opts}
    return next((word for word in words if word.startswith("-") and word not in options), None)


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_commands_of_a_page_exist(page: Path, program: Any) -> None:
    """Sub-commands and options are those of the program."""
    found = typed(page.read_text())
    assert found
    assert [(" ".join(words), unknown(program, words)) for words in found if unknown(program, words)] == []


def test_a_command_that_does_not_exist_is_seen(program: Any) -> None:
    """Both ways in which a page can be wrong."""
    assert unknown(program, ["wf", "revive"]) == "revive"
    assert unknown(program, ["events", "tail", "--partition", "3"]) == "--partition"
