"""``fulcrum config``: which settings there are, what they are here, and where they come from."""

from __future__ import annotations

import json
import os
import re
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fulcrum.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True)

_SECRET = re.compile(r"(?<=://)([^:/@]+):[^@/]+@")


def describe(settings: Settings) -> list[dict[str, Any]]:
    """Every setting with its variable, value (passwords hidden), source and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        variable = f"FULCRUM_{name.upper()}"
        value = getattr(settings, name)
        shown = _SECRET.sub(r"\1:***@", value) if isinstance(value, str) else value
        rows.append(
            {
                "variable": variable,
                "value": shown if isinstance(shown, str | int | float | None) else str(shown),
                "source": "environment" if variable in os.environ else "default",
                "meaning": field.description,
            }
        )
    return rows


@app.command("show")
def show(
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Print every setting."""
    rows = describe(load_settings())
    if output == "json":
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("variable", "value", "source", "meaning")
    for row in rows:
        table.add_row(row["variable"], str(row["value"]), row["source"], row["meaning"])
    Console().print(table)
