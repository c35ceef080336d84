"""What do the options of ``fulcrum wf start`` add to the intent in the file?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from fulcrum.errors import Rejected

Price = Annotated[
    list[str] | None,
    typer.Option(metavar="SKU=MINOR", help="Price of a unit in the minor unit, as often as needed."),
]
OnShort = Annotated[
    str | None,
    typer.Option(
        help="What to do about lines that cannot be packed in full: cancel_line, wait or cancel_order."
    ),
]
PromisedAt = Annotated[
    str | None, typer.Option(help="When it was promised to arrive, such as 2026-03-01T12:00:00Z.")
]
Holds = Annotated[
    list[str] | None,
    typer.Option("--hold", help="Hold it from the start: address, fraud or operator; as often as needed."),
]
DefinitionName = Annotated[str | None, typer.Option(help="The workflow to run, such as fulfillment.v2.")]


@dataclass(frozen=True, slots=True)
class Agreed:
    """What was given beside the file; None and nothing leave the file as it is."""

    definition: str | None = None
    prices: Sequence[str] = ()
    on_short: str | None = None
    promised_at: str | None = None
    holds: Sequence[str] = ()

    def added_to(self, intent: object) -> object:
        """The intent with it; Rejected for a price of what is not ordered."""
        given = {"definition": self.definition, "promised_at": self.promised_at, "holds": list(self.holds)}
        said = {name: value for name, value in given.items() if value}
        if not (said or self.prices or self.on_short):
            return intent
        if not isinstance(intent, dict):
            raise Rejected("--file: the intent is no JSON object, so nothing can be added to it")
        lines = intent.get("lines")
        if (self.prices or self.on_short) and isinstance(lines, list):
            said["lines"] = self._lines(lines)
        return {**intent, **said}

    def _lines(self, lines: list[Any]) -> list[Any]:
        prices = dict(_price(each) for each in self.prices)
        ordered = {line.get("sku") for line in lines if isinstance(line, dict)}
        if unknown := sorted(prices.keys() - ordered):
            raise Rejected(f"--price {unknown[0]}={prices[unknown[0]]}: no line of the intent has that SKU")
        common = {} if self.on_short is None else {"on_short": self.on_short}
        return [
            {**common, **line, **_priced(line, prices)} if isinstance(line, dict) else line for line in lines
        ]


def _priced(line: dict[str, Any], prices: dict[str, int]) -> dict[str, int]:
    sku = line.get("sku")
    return {"unit_price_minor": prices[sku]} if sku in prices else {}


def _price(given: str) -> tuple[str, int]:
    sku, _, minor = given.rpartition("=")
    if not sku or not (minor.isascii() and minor.isdigit()):
        raise Rejected(f"--price {given!r} is no price; write SKU=MINOR, such as tea-01=499")
    return sku, int(minor)
