"""``fulcrum stock``: what there is, and what arrives."""

from __future__ import annotations

import getpass
from typing import Annotated
from uuid import uuid4

import typer

from fulcrum.cli.client import Client, Output, OutputOption, note, segment, show_json, show_line, show_rows

app = typer.Typer(no_args_is_help=True)

_COLUMNS = {name: name for name in ("sku", "available", "reserved", "consumed", "received")}

Sku = Annotated[str, typer.Argument(help="Stock keeping unit.")]


@app.command("show")
def show(
    skus: Annotated[list[str], typer.Argument(metavar="SKU...", help="Stock keeping units.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how many units there are and where they went."""
    client = Client()
    rows = [client.get(f"/v1/stock/{segment(sku)}") for sku in skus]
    if output is Output.JSON and len(rows) == 1:
        show_json(rows[0])
    else:
        show_rows(rows, _COLUMNS, output)


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
