"""``fulcrum config``: which settings there are, what they are here, and where they come from."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from fulcrum.cli.client import Output, OutputOption, note, show_rows
from fulcrum.cli.exits import Exit
from fulcrum.cli.health import ROLES_VARIABLE
from fulcrum.cli.redaction import HIDDEN, redacted
from fulcrum.crashpoint import VARIABLE as CRASH_VARIABLE
from fulcrum.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True)

_PREFIX = "FULCRUM_"
#: Variables that are read and are no settings of a process.
_BESIDE = ("FULCRUM_API", "FULCRUM_HOME", "FULCRUM_DIST", ROLES_VARIABLE, CRASH_VARIABLE)
_COLUMNS = {"variable": "variable", "value": "value", "source": "source", "meaning": "meaning"}
_FAULT_COLUMNS = {"variable": "variable", "fault": "fault", "remedy": "remedy"}


def describe(settings: Settings) -> list[dict[str, Any]]:
    """Every setting with its variable, value (passwords hidden), source and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        variable = f"{_PREFIX}{name.upper()}"
        value = getattr(settings, name)
        shown = redacted(value) if isinstance(value, str) else value
        if value and name.endswith("_secret"):
            shown = HIDDEN
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
    sources: Annotated[
        bool, typer.Option("--sources", help="Only those that are given here, and where they come from.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print every setting, without passwords."""
    rows = describe(load_settings())
    if sources:
        rows = [row for row in rows if row["source"] != "default"]
        if not rows:
            note("every setting has its default")
    show_rows(rows, _COLUMNS, output)


@app.command("check")
def check(output: OutputOption = Output.TABLE) -> None:
    """Say which settings are wrong, unknown, or do not go together; exit code 10 when one is.

    It asks no server: `fulcrum health` does.
    """
    faults = faults_of(os.environ)
    if faults or output is not Output.TABLE:
        show_rows(faults, _FAULT_COLUMNS, output)
    else:
        typer.echo(f"{len(Settings.model_fields)} settings are fine.")
    if faults:
        raise typer.Exit(Exit.FOUND)


def faults_of(environment: Mapping[str, str]) -> list[dict[str, str]]:
    """What is wrong with the settings of ``environment``, which is that of this process."""
    found = _unknown(environment)
    try:
        settings = Settings()
    except ValidationError as error:
        for each in error.errors():
            variable = _PREFIX + "_".join(str(part) for part in each["loc"]).upper()
            fault = redacted(f"{each['input']!r}: {each['msg']}")
            found.append(_fault(variable, fault, "give another value, or unset it"))
        return found
    return found + _contradictions(settings)


def _unknown(environment: Mapping[str, str]) -> list[dict[str, str]]:
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields} | {*_BESIDE}
    found = []
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            remedy = f"is {near[0]} meant?" if near else "unset it"
            found.append(_fault(name, "is no setting: nothing reads it", remedy))
    return found


def _contradictions(settings: Settings) -> list[dict[str, str]]:
    """Settings that are right by themselves and wrong together."""
    found = []
    if settings.payment_sweep_after <= settings.psp_timeout:
        found.append(
            _fault(
                "FULCRUM_PAYMENT_SWEEP_AFTER",
                f"{settings.payment_sweep_after:g} s is not longer than FULCRUM_PSP_TIMEOUT "
                f"({settings.psp_timeout:g} s): the sweeper would ask about calls in progress",
                "make it several times as long",
            )
        )
    if settings.warehouse_sweep_after <= settings.warehouse_timeout:
        found.append(
            _fault(
                "FULCRUM_WAREHOUSE_SWEEP_AFTER",
                f"{settings.warehouse_sweep_after:g} s is not longer than FULCRUM_WAREHOUSE_TIMEOUT "
                f"({settings.warehouse_timeout:g} s): jobs would be taken up while they are in progress",
                "make it several times as long",
            )
        )
    if settings.courier_sweep_after <= settings.courier_timeout:
        found.append(
            _fault(
                "FULCRUM_COURIER_SWEEP_AFTER",
                f"{settings.courier_sweep_after:g} s is not longer than FULCRUM_COURIER_TIMEOUT "
                f"({settings.courier_timeout:g} s): the sweeper would ask about calls in progress",
                "make it several times as long",
            )
        )
    if settings.concurrency < settings.psp_concurrency:
        found.append(
            _fault(
                "FULCRUM_CONCURRENCY",
                f"{settings.concurrency} is less than FULCRUM_PSP_CONCURRENCY ({settings.psp_concurrency}): "
                "so many calls are never in progress",
                "give twice as many",
            )
        )
    if settings.accounts_grace <= settings.accounts_interval:
        found.append(
            _fault(
                "FULCRUM_ACCOUNTS_GRACE",
                f"{settings.accounts_grace:g} s is not longer than FULCRUM_ACCOUNTS_INTERVAL "
                f"({settings.accounts_interval:g} s): commands at work would be called missing",
                "make it several times as long",
            )
        )
    return found


def _fault(variable: str, fault: str, remedy: str) -> dict[str, str]:
    return {"variable": variable, "fault": fault, "remedy": remedy}
