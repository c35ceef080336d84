"""``fulcrum completion``: what a shell must know to complete commands and options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script

_VARIABLE = "_FULCRUM_COMPLETE"
#: What the shell sets when it asks how a line may go on: the words so far.
WORDS = "_TYPER_COMPLETE_ARGS"


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
    typer.echo(get_completion_script(prog_name="fulcrum", complete_var=_VARIABLE, shell=shell.value))
