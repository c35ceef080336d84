"""Does the reference page show the commands as they are?"""

from __future__ import annotations

from pathlib import Path

from fulcrum.cli.reference import page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_page_of_the_command_line_is_fresh() -> None:
    """Commands, options and exit codes in the docs are those of the program."""
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "stale: run `fulcrum reference > docs/reference/cli.md`"
    )
