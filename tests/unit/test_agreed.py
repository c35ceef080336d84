"""What options of ``fulcrum wf start`` add to the intent in the file."""

from __future__ import annotations

import pytest

from fulcrum.cli.agreed import Agreed
from fulcrum.errors import Rejected

INTENT = {"tenant": "acme", "lines": [{"sku": "tea", "quantity": 2, "on_short": "wait"}, {"sku": "cup"}]}


def test_nothing_given_leaves_the_file_as_it_is() -> None:
    """Whatever is in it: the API tells what is wrong."""
    for intent in (INTENT, [], "x", {"lines": 7}):
        assert Agreed().added_to(intent) is intent


def test_options_are_added() -> None:
    """A price for the line of its SKU; what to do when short for every line that does not say so itself."""
    told = Agreed("fulfillment.v2", ["tea=499"], "cancel_order", "2026-03-01T12:00:00Z", ["fraud"])
    assert told.added_to(INTENT) == {
        "tenant": "acme",
        "definition": "fulfillment.v2",
        "promised_at": "2026-03-01T12:00:00Z",
        "holds": ["fraud"],
        "lines": [
            {"sku": "tea", "quantity": 2, "on_short": "wait", "unit_price_minor": 499},
            {"sku": "cup", "on_short": "cancel_order"},
        ],
    }


@pytest.mark.parametrize("price", ["tea", "=5", "tea=", "tea=-1", "tea=4.99"])
def test_what_is_no_price_is_refused(price: str) -> None:
    """With how to write one."""
    with pytest.raises(Rejected, match="write SKU=MINOR"):
        Agreed(prices=[price]).added_to(INTENT)


def test_price_of_what_is_not_ordered_is_refused() -> None:
    """A typing error must not start an order without its price."""
    with pytest.raises(Rejected, match="no line of the intent has that SKU"):
        Agreed(prices=["teapot=5"]).added_to(INTENT)
