"""``fulcrum completion``: what a shell must know to complete commands and options."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

# Typer shows both only through options that write to the files of the user's shell.
from typer._completion_classes import completion_init
from typer._completion_shared import get_completion_script

#: Set by a shell that asks how a line may go on. The words so far are in one of the others.
VARIABLE = "_FULCRUM_COMPLETE"
_WORDS = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")


class Shell(StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="For which shell.")],
) -> None:
    """Print the completion script of a shell; it changes nothing.

    bash: eval "$(fulcrum completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit.
    fish: fulcrum completion fish > ~/.config/fish/completions/fulcrum.fish
    """
    typer.echo(get_completion_script(prog_name="fulcrum", complete_var=VARIABLE, shell=shell.value))


def words_to_complete(environment: Mapping[str, str]) -> list[str] | None:
    """The line so far, the program first, when a shell asks; None when a person gave a command."""
    if VARIABLE not in environment:
        return None
    completion_init()
    return next((environment[name].split() for name in _WORDS if name in environment), [])
