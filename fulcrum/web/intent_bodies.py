"""What clients send to start a workflow: the intent, and what was agreed about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from fulcrum.saga.definitions import DEFAULT_DEFINITION, DEFINITIONS
from fulcrum.saga.signals import HOLDS
from fulcrum.saga.terms import OnShort, keepers, keeps_terms
from fulcrum.web.bodies import LARGEST, MOST_LINES, MOST_UNITS, Body, Moment, Reference, Sku, Tenant, one_of
from fulcrum.web.currencies import CURRENCIES

ON_SHORT = [str(each) for each in OnShort]
_DEFINITIONS = sorted(DEFINITIONS)
#: Fields that a release added, and what they hold when they say nothing.
LINE_ADDED: Mapping[str, object] = {"unit_price_minor": None, "on_short": OnShort.CANCEL_ORDER}
INTENT_ADDED: Mapping[str, object] = {"promised_at": None, "holds": ()}
HoldName = Annotated[str, one_of(HOLDS, "use one of {names}"), Field(json_schema_extra={"enum": list(HOLDS)})]


class LineBody(Body):
    """So many units of one SKU, and what is agreed about them."""

    sku: Sku
    quantity: Annotated[int, Field(ge=1, le=MOST_UNITS, description="Units.")]
    unit_price_minor: Annotated[
        int | None,
        Field(
            ge=0,
            le=LARGEST,
            description="Price of a unit in the minor unit: so much less is taken for each that is missing.",
        ),
    ] = None
    on_short: Annotated[
        str,
        one_of(ON_SHORT, "use one of {names}"),
        Field(
            description="When it cannot be packed in full: go on without what is missing (`cancel_line`, "
            "which needs a price), wait a while for goods, or undo the order.",
            json_schema_extra={"enum": list(ON_SHORT)},
        ),
    ] = str(OnShort.CANCEL_ORDER)


def _one_line_a_sku(lines: tuple[LineBody, ...]) -> tuple[LineBody, ...]:
    """Two lines of one SKU are a mistake more often than a wish, so they are refused and not added up."""
    first: dict[str, int] = {}
    for number, line in enumerate(lines):
        if first.setdefault(line.sku, number) != number:
            raise PydanticCustomError(
                "duplicate_sku",
                "lines[{first}] has it too; put the sum of both into one line",
                {"first": first[line.sku], "at": (number, "sku"), "value": line.sku},
            )
    return lines


def _each_once(holds: tuple[str, ...]) -> tuple[str, ...]:
    """In one order, so that equal sets are equal bodies."""
    if len(set(holds)) != len(holds):
        raise PydanticCustomError("duplicate_hold", "name each hold once")
    return tuple(sorted(holds))


class IntentBody(Body):
    """What is to be fulfilled: taken from stock, paid, and shipped."""

    tenant: Annotated[Tenant, Field(description="Who the intent belongs to.", examples=["acme"])]
    customer_ref: Annotated[
        Reference, Field(description="The tenant's own name for the customer; no personal data.")
    ]
    lines: Annotated[
        tuple[LineBody, ...],
        Field(min_length=1, max_length=MOST_LINES, description="What is ordered, one entry per SKU."),
        AfterValidator(_one_line_a_sku),
    ]
    amount_minor: Annotated[
        int, Field(gt=0, le=LARGEST, description="Amount to pay, in the currency's minor unit.")
    ]
    currency: Annotated[
        str,
        one_of(CURRENCIES, "use an ISO 4217 code of three capital letters that is in circulation"),
        Field(description="ISO 4217 code.", json_schema_extra={"enum": sorted(CURRENCIES)}, examples=["EUR"]),
    ]
    payment_method: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"),
        Field(description="Token of the payment method at the provider.", examples=["pay_ok"]),
    ]
    ship_to: Annotated[Reference, Field(description="The tenant's reference to the address.")]
    definition: Annotated[
        str,
        one_of(_DEFINITIONS, "use one of {names}"),
        Field(description="The workflow to run.", json_schema_extra={"enum": _DEFINITIONS}),
    ] = DEFAULT_DEFINITION
    promised_at: Annotated[
        Moment | None, Field(description="When it was promised to arrive; readers see how late it is.")
    ] = None
    holds: Annotated[
        tuple[HoldName, ...],
        Field(
            description="Why it waits from the start, until each of them is released by a signal.",
            json_schema_extra={"uniqueItems": True},
        ),
        AfterValidator(_each_once),
    ] = ()

    @property
    def agreed(self) -> list[tuple[int | None, str]]:
        """Price of a unit and what to do when it comes short, line by line."""
        return [(line.unit_price_minor, line.on_short) for line in self.lines]

    def meaning(self) -> dict[str, Any]:
        """A field that came later and says nothing is left out: keys from before have bodies without it."""
        told = super().meaning()
        for line, shown in zip(self.lines, told["lines"], strict=True):
            for name in LINE_ADDED.keys() - set(_said(line, LINE_ADDED)):
                del shown[name]
        for name in INTENT_ADDED.keys() - set(_said(self, INTENT_ADDED)):
            del told[name]
        return told

    @model_validator(mode="after")
    def _agreed(self) -> IntentBody:
        """Refuse terms that contradict each other, or that the definition would not keep."""
        _refuse_unkept(self)
        for number, line in enumerate(self.lines):
            if line.on_short == OnShort.CANCEL_LINE and line.unit_price_minor is None:
                at = ("lines", number, "unit_price_minor")
                _refuse("price_missing", "give the price of a unit, or another on_short", at, None)
        priced = sum((line.unit_price_minor or 0) * line.quantity for line in self.lines)
        if priced > self.amount_minor:
            told = f"it is less than the prices of the lines, {priced} in all; correct one of them"
            _refuse("amount", told, ("amount_minor",), self.amount_minor)
        return self


def _refuse_unkept(body: IntentBody) -> None:
    """Raise the fault of a field that the definition knows nothing of."""
    definition = DEFINITIONS[body.definition]
    if keeps_terms(definition):
        return
    told = f"{definition.name} does not keep it; leave it out" + _or_use(keepers())
    for number, line in enumerate(body.lines):
        for name in _said(line, LINE_ADDED):
            _refuse("unkept", told, ("lines", number, name), getattr(line, name))
    for name in _said(body, INTENT_ADDED):
        _refuse("unkept", told, (name,), getattr(body, name))


def _said(body: Body, added: Mapping[str, object]) -> list[str]:
    """Which of the ``added`` fields say something."""
    return [name for name, silent in added.items() if getattr(body, name) != silent]


def _or_use(names: Sequence[str]) -> str:
    return f", or use definition {' or '.join(names)}" if names else ""


def _refuse(kind: str, told: str, at: tuple[str | int, ...], value: object) -> NoReturn:
    raise PydanticCustomError(kind, "{told}", {"told": told, "at": at, "value": value})
