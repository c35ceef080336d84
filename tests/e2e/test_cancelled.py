"""Can a workflow be called off while it runs, and not once it is done?"""

from __future__ import annotations

from client import Client, told, until
from endings import effects, provider_effects
from stories import COMPLETES, completes
from system import System

#: The provider takes its time, so that there is something to call off.
SLOW = completes("pay_slow_1500")


async def test_a_running_workflow_is_undone_and_says_who_wanted_it(system: System, client: Client) -> None:
    """What may have happened is undone in reverse order, and the timeline names person and reason."""
    shelf = await client.stocked(1)
    posted = await client.post(SLOW, shelf.full)
    path = f"/v1/workflows/{posted.workflow_id}/cancel"
    answer = await client.insist("POST", path, {"reason": "changed my mind"}, {"X-Actor": "ana"})
    # A void that meets the slow provider too often is parked here, and sent again after its deadline of 60 s.
    views = await client.until_final([posted], within=120)

    view = views[posted.workflow_id]
    assert answer.status == 202, answer
    assert (view["status"], view["reason"]) == ("cancelled", "cancelled: changed my mind"), told(view)
    assert "ana" in [entry["cause"]["actor"] for entry in view["timeline"]], told(view)
    assert (await client.stock(shelf.full))["reserved"] == 0

    async def nothing_held() -> bool:
        done = provider_effects(await effects(client, system.psp))[posted.workflow_id]
        return done["authorize"] == done["void"]

    await until(nothing_held, "whatever the provider held is given back")


async def test_a_completed_workflow_cannot_be_called_off(client: Client) -> None:
    """Nothing is undone any more: the answer is a conflict, and the workflow stays as it is."""
    shelf = await client.stocked(1)
    posted = await client.post(COMPLETES, shelf.full)
    await client.until_final([posted])
    path = f"/v1/workflows/{posted.workflow_id}/cancel"
    answer = await client.insist("POST", path, {"reason": "too late"})

    assert answer.status == 409, answer
    assert (await client.workflow(posted.workflow_id))["status"] == "completed"
    assert (await client.stock(shelf.full))["reserved"] == 1
