"""How much money is taken for what was packed? Integers in the currency's minor unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

from fulcrum.saga.messages import Line, LineTerms


def captured(
    amount_minor: int, ordered: Sequence[Line], terms: Sequence[LineTerms], packed: Sequence[Line]
) -> int:
    """The intent's amount less the price of every unit that was ordered and is not packed; never negative.

    ``terms`` are those of the ordered lines, in their order; a unit without terms has no price of its own.
    """
    left = Counter[str]()
    for line in packed:
        left[line.sku] += line.quantity
    amount = amount_minor
    for line, agreed in zip_longest(ordered, terms[: len(ordered)]):
        here = min(line.quantity, left[line.sku])
        left[line.sku] -= here
        if agreed is not None:
            amount -= agreed.unit_minor * (line.quantity - here)
    return max(amount, 0)
