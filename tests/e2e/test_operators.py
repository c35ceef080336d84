"""Can people take a workflow in hand while it runs, and is everything accounted for afterwards?"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from client import Answer, Client, Posted, told, until
from endings import effects, issued, provider_effects
from stories import completes
from system import System

from fulcrum.doctor.invariants import Violation, check_all

#: The provider takes its time, so that there is something to take in hand.
SLOW = completes("pay_slow_1500")
#: It takes the time of one attempt, and the next one finds what was done. Nothing is parked then, which only
#: a deadline could bring back: those of a paused or ended run do not pass.
UNANSWERED = completes("pay_timeout_ok")


async def ask(client: Client, posted: Posted, verb: str, **body: Any) -> Answer:
    """One request, repeated under its key until it is decided."""
    headers = {"X-Actor": "ana", "Idempotency-Key": str(uuid4())}
    path = f"/v1/workflows/{posted.workflow_id}/{verb}"
    last: Answer | None = None

    async def decided() -> bool:
        nonlocal last
        last = await client.insist("POST", path, {"reason": "a test", **body}, headers)
        assert last.status in (200, 202), last
        return last.status == 200

    await until(decided, f"{verb} is decided")
    assert last is not None
    return last


async def step_is(client: Client, posted: Posted, step: str, *statuses: str) -> dict[str, Any]:
    """The workflow once its step is at one of ``statuses``."""

    async def there() -> dict[str, Any] | None:
        view = await client.workflow(posted.workflow_id)
        seen = {each["name"]: each["status"] for each in view["steps"]}
        return view if seen[step] in statuses else None

    view: dict[str, Any] = await until(there, f"{step} is {statuses}")
    return view


async def assert_accounted(system: System, posted: Posted, known: list[Violation]) -> None:
    """The doctor finds nothing about the workflow, once everything has arrived."""

    async def sound() -> bool:
        found = [v for v in await check_all(system.env) if v not in known]
        return not [violation for violation in found if posted.workflow_id in str(violation)]

    await until(sound, "nothing is wrong with the workflow", within=60)


async def test_a_paused_workflow_takes_answers_and_goes_on_when_resumed(
    system: System, client: Client, known: list[Violation]
) -> None:
    """The payment is authorised meanwhile, and no stock is asked for until the resume."""
    shelf = await client.stocked(1)
    posted = await client.post(UNANSWERED, shelf.full)
    paused = await ask(client, posted, "pause")
    assert (paused.json["outcome"], paused.json["status"]) == ("accepted", "paused"), paused
    view = await step_is(client, posted, "authorize_payment", "done")
    assert (view["status"], issued(view)) == ("paused", ["AuthorizePayment"]), told(view)
    assert (await client.stock(shelf.full))["reserved"] == 0
    resumed = await ask(client, posted, "resume")
    assert [command["type"] for command in resumed.json["commands"]] == ["ReserveStock"], resumed
    view = (await client.until_final([posted]))[posted.workflow_id]
    assert (view["status"], (await client.stock(shelf.full))["reserved"]) == ("completed", 1), told(view)
    assert [entry["cause"]["actor"] for entry in view["timeline"] if "verb" in entry["cause"]] == [
        "ana",
        "ana",
    ]
    await assert_accounted(system, posted, known)


async def test_a_terminated_workflow_shows_what_it_left_standing(
    system: System, client: Client, known: list[Violation]
) -> None:
    """The rehearsal says it before; the late answer is noted, and nothing is undone."""
    shelf = await client.stocked(1)
    posted = await client.post(UNANSWERED, shelf.full)
    rehearsed = await ask(client, posted, "terminate", dry_run=True)
    ended = await ask(client, posted, "terminate")
    assert (ended.json["outcome"], ended.json["status"]) == ("accepted", "terminated"), ended
    assert rehearsed.json["standing"] == ended.json["standing"] == ["authorize_payment"], rehearsed
    view = await step_is(client, posted, "authorize_payment", "done")
    assert view["status"] == "terminated", told(view)
    assert [step.get("left_standing", False) for step in view["steps"]] == [True, False], told(view)
    done = provider_effects(await effects(client, system.psp))[posted.workflow_id]
    assert (done["authorize"], done["void"]) == (1, 0)
    refused = await ask(client, posted, "retry")
    assert (refused.json["outcome"], refused.json["refused"]) == ("refused", "already_final"), refused
    await assert_accounted(system, posted, known)


async def test_a_skipped_step_lets_the_workflow_complete_and_its_late_answer_counts(
    system: System, client: Client, known: list[Violation]
) -> None:
    """Stock is reserved at once; the payment's answer comes after the end and makes the step done."""
    shelf = await client.stocked(1)
    posted = await client.post(UNANSWERED, shelf.full)
    skipped = await ask(client, posted, "skip", step="authorize_payment", result={"authorization_id": "till"})
    assert skipped.json["outcome"] == "accepted", skipped
    await client.until_final([posted])
    view = await step_is(client, posted, "authorize_payment", "done")
    assert (view["status"], view["steps"][0]["skipped_by"]) == ("completed", "ana"), told(view)
    await assert_accounted(system, posted, known)


async def test_a_step_gets_more_time(client: Client) -> None:
    """Its new deadline is shown at once."""
    shelf = await client.stocked(1)
    posted = await client.post(SLOW, shelf.full)
    before = await step_is(client, posted, "authorize_payment", "requested")
    extended = await ask(client, posted, "extend", seconds=600)
    assert extended.json["outcome"] == "accepted", extended
    after = await client.workflow(posted.workflow_id)
    assert after["steps"][0]["deadline_at"] > before["steps"][0]["deadline_at"], told(after)
    await client.until_final([posted])


async def test_a_workflow_is_retried_and_undone_on_request(
    system: System, client: Client, known: list[Violation]
) -> None:
    """A query instead of a second hold, and then everything is given back."""
    shelf = await client.stocked(1)
    posted = await client.post(SLOW, shelf.full)
    retried = await ask(client, posted, "retry")
    assert [command["type"] for command in retried.json["commands"]] == ["QueryPayment"], retried
    undone = await ask(client, posted, "compensate")
    assert undone.json["status"] == "compensating", undone
    # A void that meets the slow provider too often is parked here, and sent again after its deadline of 60 s.
    view = (await client.until_final([posted], within=120))[posted.workflow_id]
    assert (view["status"], view["reason"]) == ("cancelled", "compensation forced: a test"), told(view)
    assert (await client.stock(shelf.full))["reserved"] == 0

    async def nothing_held() -> bool:
        done = provider_effects(await effects(client, system.psp))[posted.workflow_id]
        return done["authorize"] == done["void"] <= 1

    await until(nothing_held, "whatever the provider held is given back")
    await assert_accounted(system, posted, known)


@pytest.mark.parametrize("verb", ["pause", "compensate"])
async def test_a_request_that_is_repeated_has_no_second_effect(client: Client, verb: str) -> None:
    """Ten at once under one key are one event of the timeline, and all tell the same."""
    shelf = await client.stocked(1)
    posted = await client.post(SLOW, shelf.full)
    headers = {"Idempotency-Key": str(uuid4())}
    path = f"/v1/workflows/{posted.workflow_id}/{verb}"
    for _ in range(10):
        answer = await client.insist("POST", path, {"reason": "a test"}, headers)
        assert answer.status in (200, 202), answer

    async def decided() -> list[Any]:
        view = await client.workflow(posted.workflow_id)
        return [entry for entry in view["timeline"] if entry["cause"].get("verb")]

    assert len(await until(decided, f"{verb} is in the timeline")) == 1
    final = await client.insist("POST", path, {"reason": "a test"}, headers)
    assert (final.status, final.json["outcome"]) == (200, "accepted"), final
