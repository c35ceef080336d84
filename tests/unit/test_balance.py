"""Ids that are open, set against messages that lie on queues."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fulcrum.commands.balance import Depths, Steady, missing
from fulcrum.saga.messages import SERVICES
from fulcrum.store.relations import SCHEMA_OF
from fulcrum.workers.inventory_relations import INVENTORY
from fulcrum.workers.payment_relations import PAYMENTS

_COUNTS = st.integers(0, 50)


def test_empty_queues_leave_every_overdue_command_missing() -> None:
    """Nothing lies anywhere: what has not come back is lost."""
    assert missing({"payment": 2, "inventory": 0}, Depths({"payment": 0}, 0)) == {
        "payment": 2,
        "inventory": 0,
    }


def test_a_queue_explains_as_many_commands_as_it_holds() -> None:
    """Messages of one service say nothing about the commands of another."""
    depths = Depths({"payment": 9, "inventory": 1}, 0)
    assert missing({"payment": 3, "inventory": 3}, depths) == {"payment": 0, "inventory": 2}


def test_retries_explain_each_command_once() -> None:
    """The retry queues are shared: two retries cannot be two commands of each service."""
    depths = Depths({"payment": 0, "inventory": 0}, 2)
    assert sum(missing({"payment": 2, "inventory": 2}, depths).values()) == 2


@given(payment=_COUNTS, inventory=_COUNTS, own=st.tuples(_COUNTS, _COUNTS), retry=_COUNTS)
def test_what_is_somewhere_is_never_missing(
    payment: int, inventory: int, own: tuple[int, int], retry: int
) -> None:
    """No more are missing than are overdue, and none as long as messages could be all of them."""
    late = {"payment": payment, "inventory": inventory}
    lost = missing(late, Depths({"payment": own[0], "inventory": own[1]}, retry))
    assert all(0 <= lost[service] <= late[service] for service in late)
    beyond = max(0, payment - own[0]) + max(0, inventory - own[1])
    assert sum(lost.values()) == max(0, beyond - retry)


def test_only_what_every_look_misses_counts() -> None:
    """A message on its way from one queue to the next is missed once and found again."""
    steady = Steady(3)
    seen = [steady.after({"payment": count}) for count in (1, 1, 2, 0, 2, 2, 2)]
    assert [each["payment"] for each in seen] == [0, 0, 1, 0, 0, 0, 2]


def test_every_service_has_accounts() -> None:
    """A service without an inbox to look into would lose commands unseen."""
    assert tuple(SCHEMA_OF) == SERVICES
    assert {SCHEMA_OF["payment"], SCHEMA_OF["inventory"]} == {PAYMENTS.schema, INVENTORY.schema}
