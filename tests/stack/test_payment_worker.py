"""Payment commands on a real database and a real provider: one hold at most, whatever dies and repeats.

Long, because every way to die or to come twice is tried on the same worker, database and provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from deliveries import (
    CODEC,
    CORRELATION,
    authorize,
    delivery,
    new_workflow,
    outbox_rows,
    void,
)
from eventually import eventually_async
from interleaved import interleave
from paymentbench import Bench, Died, payment_service
from psycopg2.errors import CheckViolation
from sqlalchemy import text

from fulcrum.errors import Corrupt, OutcomeUnknown, Rejected, Retryable, Unavailable
from fulcrum.saga import identity
from fulcrum.saga.messages import PaymentAuthorized, PaymentDeclined, PaymentVoided, StepCommand
from fulcrum.store import inbox
from fulcrum.wire.topics import Topics
from fulcrum.workers.payment_moves import State
from fulcrum.workers.payment_relations import PAYMENTS
from fulcrum.workers.payment_worker import PaymentWorker
from fulcrum.workers.provider import Provider

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    async with payment_service(namespace) as running:
        yield running


# --- one command ----------------------------------------------------------------------------------


async def test_authorization_is_held_stored_and_told(bench: Bench) -> None:
    """One effect at the provider, one row, one event that joins on to its command."""
    command = authorize(new_workflow())
    await bench.handle(command)
    assert bench.effects(command.workflow_id) == ["authorize"]
    row = await bench.row(command.workflow_id)
    (event,) = await bench.told(command.workflow_id)
    assert (row["state"], row["sequence"]) == (State.AUTHORIZED, 1)
    assert event == PaymentAuthorized(
        event_id=identity.event_id(command.command_id, "PaymentAuthorized"),
        workflow_id=command.workflow_id,
        sequence=1,
        occurred_at=row["settled_at"],
        command_id=command.command_id,
        authorization_id=row["authorization_id"],
        amount_minor=4200,
        currency="EUR",
    )


async def test_answer_leaves_for_its_stream_with_the_commands_headers(bench: Bench) -> None:
    """Topic, cause, correlation and trace are those of the command."""
    command = authorize(new_workflow())
    await bench.handle(command)
    (row,) = await outbox_rows(bench.db, PAYMENTS, command.workflow_id)
    assert row["topic"] == Topics(bench.settings.namespace).stream("payments")
    headers = row["headers"]
    assert headers["ce_type"] == "PaymentAuthorized"
    assert headers["ce_source"] == "payment"
    assert headers["fulcrum-causation-id"] == command.command_id
    assert headers["fulcrum-correlation-id"] == CORRELATION
    assert headers["traceparent"].split("-")[1] == delivery(command).headers["traceparent"].split("-")[1]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("pay_declined", "card_declined"),
        ("pay_insufficient", "insufficient_funds"),
        ("4111111111111111", "invalid_payment_method"),
    ],
)
async def test_refused_card_is_declined_and_no_error(bench: Bench, token: str, reason: str) -> None:
    """A business refusal is an event with the provider's code."""
    command = authorize(new_workflow(), token)
    await bench.handle(command)
    (event,) = await bench.told(command.workflow_id)
    assert isinstance(event, PaymentDeclined)
    assert event.reason == reason
    assert bench.effects(command.workflow_id) == ["decline"]


async def test_void_gives_up_the_hold(bench: Bench) -> None:
    """The provider holds nothing, and the saga is told which authorization it was."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))
    await bench.handle(void(workflow))
    authorized, voided = await bench.told(workflow)
    assert isinstance(authorized, PaymentAuthorized)
    assert isinstance(voided, PaymentVoided)
    assert (voided.sequence, voided.authorization_id) == (2, authorized.authorization_id)
    assert bench.effects(workflow) == ["authorize", "void"]


async def test_second_attempt_after_a_refusal_is_a_new_request(bench: Bench) -> None:
    """Another logical attempt may succeed, and counts on."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow, "pay_declined"))
    await bench.handle(authorize(workflow, "pay_ok", attempt=2))
    assert [(type(e), e.sequence) for e in await bench.told(workflow)] == [
        (PaymentDeclined, 1),
        (PaymentAuthorized, 2),
    ]
    assert bench.effects(workflow) == ["decline", "authorize"]


async def test_another_amount_for_what_is_held_is_rejected(bench: Bench) -> None:
    """Nothing is asked, nothing is emitted, and the command is for a person to see."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))
    for _ in range(2):
        with pytest.raises(Rejected, match="void it first"):
            await bench.handle(authorize(workflow, attempt=2, amount_minor=9900))
    assert len(await bench.told(workflow)) == 1
    assert bench.effects(workflow) == ["authorize"]


# --- repeats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["pay_ok", "pay_declined"])
async def test_duplicate_gets_the_first_answer_again(bench: Bench, token: str) -> None:
    """One effect, and the very same message out again for each copy."""
    command = authorize(new_workflow(), token)
    for _ in range(3):
        await bench.handle(command)
    assert len(bench.effects(command.workflow_id)) == 1
    first, *others = await outbox_rows(bench.db, PAYMENTS, command.workflow_id)
    assert len(others) == 2
    for other in others:
        assert {**other, "id": first["id"], "created_at": None} == {**first, "created_at": None}


async def test_duplicate_void_gives_up_once(bench: Bench) -> None:
    """The second copy asks the provider nothing."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))
    await bench.handle(void(workflow))
    worker, provider = bench.process()
    await worker.handle([delivery(void(workflow))])
    assert provider.calls == []
    assert [event.sequence for event in await bench.told(workflow)] == [1, 2, 2]


async def test_duplicate_after_a_void_still_gets_its_own_answer(bench: Bench) -> None:
    """A late copy of an answered authorization repeats what was said then, fence or not."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))
    await bench.handle(void(workflow))
    await bench.handle(authorize(workflow))
    first, _, again = await bench.told(workflow)
    assert first == again
    assert bench.effects(workflow) == ["authorize", "void"]


async def test_two_copies_at_once_have_one_effect(bench: Bench) -> None:
    """Eight processes with the same command: one hold, and one event however often it is told."""
    command = authorize(new_workflow())

    async def insist() -> None:
        worker, _ = bench.process()
        while True:
            try:
                return await worker.handle([delivery(command)])
            except Retryable:
                continue

    await asyncio.gather(*(insist() for _ in range(8)))
    events = await bench.told(command.workflow_id)
    assert len(events) == 8
    assert len(set(events)) == 1
    assert bench.effects(command.workflow_id) == ["authorize"]


async def test_same_id_with_another_body_is_refused(bench: Bench) -> None:
    """A command id stands for one body for ever."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))
    with pytest.raises(Corrupt, match="another body"):
        await bench.handle(authorize(workflow, amount_minor=1))
    assert len(await bench.told(workflow)) == 1


# --- death ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["pay_ok", "pay_declined"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_death_around_the_providers_call_has_one_effect(bench: Bench, moment: str, token: str) -> None:
    """Claimed and not asked, or asked and not told: the next process looks first, and ends it."""
    command = authorize(new_workflow(), token)
    worker, provider = bench.process()
    getattr(provider, moment).add("authorize")
    with pytest.raises(Died):
        await worker.handle([delivery(command)])
    assert await bench.told(command.workflow_id) == []
    assert (await bench.row(command.workflow_id))["state"] == State.AUTHORIZING
    worker, provider = bench.process()
    await worker.handle([delivery(command)])
    assert provider.calls == (["outcome_of", "authorize"] if moment == "before" else ["outcome_of"])
    assert len(bench.effects(command.workflow_id)) == 1
    assert [event.sequence for event in await bench.told(command.workflow_id)] == [1]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_death_around_the_void_gives_up_once(bench: Bench, moment: str) -> None:
    """A void that died is looked up, and asked for again only when the provider did not hear it."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))
    worker, provider = bench.process()
    getattr(provider, moment).add("void")
    with pytest.raises(Died):
        await worker.handle([delivery(void(workflow))])
    assert (await bench.row(workflow))["state"] == State.VOIDING
    worker, provider = bench.process()
    await worker.handle([delivery(void(workflow))])
    assert provider.calls == (["outcome_of", "void"] if moment == "before" else ["outcome_of"])
    assert bench.effects(workflow) == ["authorize", "void"]
    assert [type(event) for event in await bench.told(workflow)] == [PaymentAuthorized, PaymentVoided]


async def test_death_at_every_call_in_turn_still_ends(bench: Bench) -> None:
    """A process that dies at each step of the way holds the amount once and answers once."""
    command = authorize(new_workflow())
    for moment, call in [("after", "authorize"), ("before", "outcome_of"), ("after", "outcome_of")]:
        worker, provider = bench.process()
        getattr(provider, moment).add(call)
        with pytest.raises(Died):
            await worker.handle([delivery(command)])
    await bench.handle(command)
    assert bench.effects(command.workflow_id) == ["authorize"]
    assert len(await bench.told(command.workflow_id)) == 1


# --- a provider that is late, lost or broken ------------------------------------------------------


async def test_silence_that_acted_is_found_out(bench: Bench) -> None:
    """``pay_timeout_ok``: no answer, but the hold is there; the retry finds it and holds no second one."""
    command = authorize(new_workflow(), "pay_timeout_ok")
    await bench.not_told(command)
    worker, provider = bench.process()
    await worker.handle([delivery(command)])
    assert provider.calls == ["outcome_of"]
    assert bench.effects(command.workflow_id) == ["authorize"]
    assert isinstance((await bench.told(command.workflow_id))[0], PaymentAuthorized)


async def test_silence_that_did_nothing_is_found_out(bench: Bench) -> None:
    """``pay_timeout_no``: no answer and no hold; the retry looks, and then asks again."""
    command = authorize(new_workflow(), "pay_timeout_no")
    await bench.not_told(command)
    worker, provider = bench.process()
    await worker.handle([delivery(command)])
    assert provider.calls == ["outcome_of", "authorize"]
    assert bench.effects(command.workflow_id) == ["authorize"]


async def test_provider_that_stumbles_twice_is_retried(bench: Bench) -> None:
    """``pay_flaky_2``: two tries fail as Unavailable, the third one holds."""
    command = authorize(new_workflow(), "pay_flaky_2")
    for _ in range(2):
        with pytest.raises(Unavailable, match="503"):
            await bench.handle(command)
        assert bench.effects(command.workflow_id) == []
    await bench.handle(command)
    assert bench.effects(command.workflow_id) == ["authorize"]
    assert len(await bench.told(command.workflow_id)) == 1


async def test_provider_still_at_it_is_asked_later(bench: Bench) -> None:
    """A slow request that outlived our patience is no reason to send another one."""
    command = authorize(new_workflow(), "pay_slow_2500")
    await bench.not_told(command)
    worker, provider = bench.process()
    with pytest.raises(OutcomeUnknown, match="operation_in_progress"):
        await worker.handle([delivery(command)])
    assert provider.calls == ["outcome_of"]

    async def handled() -> bool:
        await worker.handle([delivery(command)])
        return True

    await eventually_async(handled, within=20)
    assert "authorize" not in provider.calls
    assert bench.effects(command.workflow_id) == ["authorize"]


async def test_provider_that_cannot_be_reached_is_unavailable(bench: Bench) -> None:
    """The error names the address; the command goes through once the provider is there."""
    command = authorize(new_workflow())
    settings = bench.settings.model_copy(update={"psp_url": "http://127.0.0.1:1"})
    provider = Provider(settings)
    worker = PaymentWorker(bench.db, CODEC, Topics(settings.namespace), provider)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 "):
        await worker.handle([delivery(command)])
    await provider.close()
    await bench.handle(command)
    assert bench.effects(command.workflow_id) == ["authorize"]


async def test_new_attempt_waits_while_the_first_is_open(bench: Bench) -> None:
    """The newer command leaves no trace until the older one has its outcome."""
    workflow = new_workflow()
    await bench.not_told(authorize(workflow, "pay_timeout_no"))
    with pytest.raises(Retryable, match="attempt 1"):
        await bench.handle(authorize(workflow, attempt=2))
    await bench.handle(authorize(workflow, "pay_timeout_no"))
    await bench.handle(authorize(workflow, attempt=2))
    assert bench.effects(workflow) == ["authorize"]
    first, second = await bench.told(workflow)
    assert isinstance(first, PaymentAuthorized)
    assert isinstance(second, PaymentAuthorized)
    assert first.authorization_id == second.authorization_id
    assert (first.sequence, second.sequence) == (1, 2)


# --- the fence ------------------------------------------------------------------------------------


async def test_void_first_leaves_a_fence(bench: Bench) -> None:
    """A void that overtakes its authorization is answered, and the authorization holds nothing."""
    workflow = new_workflow()
    worker, provider = bench.process()
    await worker.handle([delivery(void(workflow)), delivery(authorize(workflow))])
    assert provider.calls == []
    voided, declined = await bench.told(workflow)
    assert isinstance(voided, PaymentVoided)
    assert isinstance(declined, PaymentDeclined)
    assert (voided.authorization_id, declined.reason, declined.sequence) == (None, "fenced", 2)


async def test_void_of_an_unknown_outcome_gives_up_what_it_finds(bench: Bench) -> None:
    """After a silence that acted, the void finds the hold, gives it up, and the copy is fenced."""
    workflow = new_workflow()
    command = authorize(workflow, "pay_timeout_ok")
    await bench.not_told(command)
    await bench.handle(void(workflow))
    await bench.handle(command)
    assert bench.effects(workflow) == ["authorize", "void"]
    voided, declined = await bench.told(workflow)
    assert isinstance(voided, PaymentVoided)
    assert voided.authorization_id is not None
    assert isinstance(declined, PaymentDeclined)
    assert declined.reason == "fenced"


async def test_hold_that_arrives_after_the_void_is_given_up(bench: Bench) -> None:
    """The request was on its way while the void was answered: what it holds is voided, then declined."""
    workflow = new_workflow()
    worker, provider = bench.process()
    provider.held.add("authorize")
    late = asyncio.create_task(worker.handle([delivery(authorize(workflow))]))
    await eventually_async(lambda: _true(provider.arrived == 1), within=20)
    await bench.handle(void(workflow))
    assert bench.effects(workflow) == []
    provider.let_go.set()
    await late
    assert bench.effects(workflow) == ["authorize", "void"]
    voided, declined = await bench.told(workflow)
    assert isinstance(voided, PaymentVoided)
    assert isinstance(declined, PaymentDeclined)
    assert (voided.sequence, declined.sequence) == (1, 2)


async def test_copies_on_both_sides_of_a_void_tell_one_answer(bench: Bench) -> None:
    """Two copies of an authorization that both end behind the fence: one event, one number."""
    workflow = new_workflow()
    first, first_provider = bench.process()
    first_provider.held.add("authorize")
    late = asyncio.create_task(first.handle([delivery(authorize(workflow))]))
    await eventually_async(lambda: _true(first_provider.arrived == 1), within=20)
    await bench.handle(void(workflow))
    await bench.handle(authorize(workflow))
    first_provider.let_go.set()
    await late
    assert bench.effects(workflow) == ["authorize", "void"]
    voided, declined, again = await bench.told(workflow)
    assert isinstance(voided, PaymentVoided)
    assert declined == again
    assert (await bench.row(workflow))["sequence"] == 2


async def test_copy_that_is_overtaken_by_the_next_attempt_tells_one_answer(bench: Bench) -> None:
    """A copy that learns of the refusal after the next attempt began repeats the refusal."""
    workflow = new_workflow()
    command = authorize(workflow, "pay_declined")
    slow, provider = bench.process()
    provider.held.add("authorize")
    late = asyncio.create_task(slow.handle([delivery(command)]))
    await eventually_async(lambda: _true(provider.arrived == 1), within=20)
    await bench.handle(command)
    await bench.handle(authorize(workflow, attempt=2))
    provider.let_go.set()
    await late
    refused, held, again = await bench.told(workflow)
    assert isinstance(refused, PaymentDeclined)
    assert isinstance(held, PaymentAuthorized)
    assert again == refused


async def test_hold_made_after_its_answer_is_given_up_by_the_next_copy(bench: Bench) -> None:
    """A process that stalled asks although a copy was answered, and dies: its message comes once more."""
    workflow = new_workflow()
    stalled, provider = bench.process()
    provider.held.add("authorize")
    provider.after.add("authorize")
    late = asyncio.create_task(stalled.handle([delivery(authorize(workflow))]))
    await eventually_async(lambda: _true(provider.arrived == 1), within=5)
    await bench.handle(void(workflow))
    await bench.handle(authorize(workflow))
    provider.let_go.set()
    with pytest.raises(Died):
        await late
    assert bench.effects(workflow) == ["authorize"]
    await bench.handle(authorize(workflow))
    assert bench.effects(workflow) == ["authorize", "void"]
    voided, declined, again = await bench.told(workflow)
    assert isinstance(voided, PaymentVoided)
    assert declined == again


async def test_payment_that_two_processes_begin_is_begun_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authorization and its void find no row and both want to make it; one of them decides again."""
    workflow = new_workflow()
    hold, undo = bench.handle(authorize(workflow)), bench.handle(void(workflow))
    await interleave(monkeypatch, bench.db, (inbox, "record"), hold, lambda: undo)
    assert [type(event) for event in await bench.told(workflow)] == [PaymentVoided, PaymentDeclined]
    assert bench.effects(workflow) == []


async def test_payment_moves_one_command_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two voids of what is voided: each answer has a number of its own."""
    workflow = new_workflow()
    await bench.handle(void(workflow))
    second, third = (bench.handle(void(workflow, attempt)) for attempt in (2, 3))
    await interleave(monkeypatch, bench.db, (inbox, "record"), second, lambda: third)
    assert [event.sequence for event in await bench.told(workflow)] == [1, 2, 3]


# --- side by side in one process ------------------------------------------------------------------


async def test_copies_in_one_process_wait_for_each_other(bench: Bench) -> None:
    """None of them has to come again, and the provider is asked by the first alone."""
    command = authorize(new_workflow(), "pay_slow_50")
    worker, provider = bench.process()
    await asyncio.gather(*(worker.handle([delivery(command)]) for _ in range(5)))
    assert provider.calls == ["authorize"]
    assert len(set(await bench.told(command.workflow_id))) == 1


async def test_authorizations_and_their_voids_side_by_side_leave_nothing_held(bench: Bench) -> None:
    """Whoever comes first, it ends one of the two ways, and never with a hold."""
    workflows = [new_workflow() for _ in range(10)]
    worker, _ = bench.process()
    commands = [command for workflow in workflows for command in (authorize(workflow), void(workflow))]
    await asyncio.gather(*(worker.handle([delivery(command)]) for command in commands))
    for workflow in workflows:
        assert bench.effects(workflow) in ([], ["authorize", "void"])
        assert [event.sequence for event in await bench.told(workflow)] == [1, 2]


async def test_commands_side_by_side_share_transactions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, forty authorizations take eighty transactions; together they take fewer than forty."""
    commands = [authorize(new_workflow()) for _ in range(40)]
    worker, _ = bench.process()
    begun: list[object] = []
    transaction = bench.db.transaction

    def counted() -> Any:
        begun.append(None)
        return transaction()

    monkeypatch.setattr(bench.db, "transaction", counted)
    # As many at once as the provider has connections.
    free = asyncio.Semaphore(bench.settings.concurrency)

    async def handle(command: StepCommand) -> None:
        async with free:
            await worker.handle([delivery(command)])

    await asyncio.gather(*(handle(command) for command in commands))
    assert len(begun) < 40
    for command in commands:
        assert bench.effects(command.workflow_id) == ["authorize"]
        assert len(await bench.told(command.workflow_id)) == 1


async def test_one_that_is_refused_does_not_harm_those_beside_it(bench: Bench) -> None:
    """They share its transaction, which fails, and then go without it."""
    command = authorize(new_workflow())
    others = [authorize(new_workflow()) for _ in range(4)]
    worker, _ = bench.process()
    await worker.handle([delivery(command)])
    forged = authorize(command.workflow_id, amount_minor=1)
    results = await asyncio.gather(
        *(worker.handle([delivery(each)]) for each in (forged, *others)), return_exceptions=True
    )
    assert [type(result) for result in results] == [Corrupt, *[type(None)] * 4]
    assert (await bench.row(command.workflow_id))["amount_minor"] == command.amount_minor


# --- what the database refuses --------------------------------------------------------------------


async def test_answer_that_is_no_longer_kept_is_not_invented(bench: Bench) -> None:
    """The inbox was pruned: the row still knows that the command took effect, so a person must look."""
    command = authorize(new_workflow())
    await bench.handle(command)
    kept = PAYMENTS.inbox
    await bench.db.execute(kept.delete().where(kept.c.message_id == command.command_id))
    with pytest.raises(Rejected, match="no longer kept"):
        await bench.handle(command)
    assert bench.effects(command.workflow_id) == ["authorize"]


@pytest.mark.parametrize(
    "change",
    [
        "state = 'paid'",
        "state = 'declined'",
        "state = 'voided'",
        "state = 'not_asked'",
        "state = 'authorizing', authorization_id = NULL, expires_at = now()",
        "authorization_id = NULL",
        "amount_minor = 0",
        "sequence = 0",
        "captured_minor = amount_minor + 1",
        "captured_minor = 5, refunded_minor = 6",
    ],
)
async def test_row_cannot_contradict_itself(bench: Bench, change: str) -> None:
    """Whatever the code believes: no hold without an id, no money beyond the amount."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow))
    with pytest.raises(CheckViolation):
        await bench.db.execute(
            text(f"UPDATE payments.payments SET {change} WHERE workflow_id = '{workflow}'")
        )


async def _true(value: bool) -> bool:
    return value
