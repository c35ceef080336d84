"""``fulcrum stock``: what there is, what arrives, and whether the books agree."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import typer
from sqlalchemy import Connection

from fulcrum.cli.client import Client, Output, OutputOption, note, segment, show_json, show_line, show_rows
from fulcrum.cli.exits import Exit
from fulcrum.settings import load_settings
from fulcrum.store.plain import connected
from fulcrum.workers import stock_books

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {name: name for name in ("sku", "available", "reserved", "consumed", "received")}

_LEDGER_COLUMNS = {
    "sku": "sku",
    "at": "at",
    "kind": "kind",
    "available": "available",
    "reserved": "reserved",
    "consumed": "consumed",
    "workflow_id": "workflow",
    "reference": "reference",
    "command_id": "command",
}
_DRIFT_COLUMNS = {
    "sku": "sku",
    "figure": "figure",
    "stock": "stock",
    "source": "against",
    "counted": "adds up to",
    "difference": "difference",
}
#: Seconds that a question to Postgres may take.
_WITHIN = 60

Sku = Annotated[str, typer.Argument(help="Stock keeping unit.")]


@app.command("show")
def show(
    skus: Annotated[list[str], typer.Argument(metavar="SKU...", help="Stock keeping units.")],
    ledger: Annotated[
        bool, typer.Option("--ledger", help="What moved it, newest first; asks Postgres itself.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="With --ledger, entries of each SKU.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how many units there are and where they went."""
    if ledger:
        with _books() as connection:
            found = [entry for sku in skus for entry in stock_books.entries(connection, sku, limit)]
        show_rows([_plain(entry) for entry in found], _LEDGER_COLUMNS, output)
        if not found:
            note(f"the ledger has nothing of {', '.join(skus)}")
        return
    client = Client()
    rows = [client.get(f"/v1/stock/{segment(sku)}") for sku in skus]
    if output is Output.JSON and len(rows) == 1:
        show_json(rows[0])
    else:
        show_rows(rows, _COLUMNS, output)


@app.command("check")
def check(
    skus: Annotated[
        list[str] | None, typer.Argument(metavar="[SKU]...", help="Only these; all if none is given.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare the stock with the sums of its ledger and of its reservations; exit code 10 when they differ.

    It asks Postgres itself and reads whole relations when no SKU is given.
    """
    with _books() as connection:
        looked_at, found = stock_books.drifts(connection, skus or ())
    if found or output is not Output.TABLE:
        rows = [{**asdict(each), "difference": each.difference} for each in found]
        show_rows(rows, _DRIFT_COLUMNS, output)
    else:
        typer.echo(f"{looked_at} SKUs equal their ledger and their reservations.")
    if found:
        note(f"stock: {len({each.sku for each in found})} of {looked_at} SKUs drift")
        raise typer.Exit(Exit.FOUND)


@app.command("receive")
def receive(
    sku: Sku,
    quantity: Annotated[int, typer.Argument(help="Units that arrived.")],
    reference: Annotated[str, typer.Option(help="Your name for the delivery of goods.")],
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating a key adds nothing; without one a new one is made.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(help="Who says so; the user of this terminal if not given.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add goods that arrived."""
    key = idempotency_key or str(uuid4())
    body = {"quantity": quantity, "reference": reference}
    reply = Client().post(f"/v1/stock/{segment(sku)}/receipts", body, key, actor or getpass.getuser())
    if idempotency_key is None:
        note(f"idempotency key {key}")
    if output is Output.TABLE:
        typer.echo(f"{quantity} {sku} on their way into stock")
    elif output is Output.JSON:
        show_json(reply.body)
    else:
        show_line(reply.body)


@contextmanager
def _books() -> Iterator[Connection]:
    """A connection that can write nothing and gives up in time."""
    parameters = {"default_transaction_read_only": "on", "statement_timeout": f"{_WITHIN}s"}
    with connected(load_settings().postgres_dsn, "fulcrum-stock", parameters) as connection:
        yield connection


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        if isinstance(value, datetime)
        else value
        for name, value in entry.items()
    }
