"""Queries of payments on a real database and a real provider: what became of an answer that is late.

Long, because every moment for a late question is tried on the same worker and provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

import pytest
import pytest_asyncio
from deliveries import authorize, delivery, new_workflow, outbox_rows, query, void
from eventually import eventually_async
from interleaved import interleave
from paymentbench import Bench, Died, Faulty, payment_service

from fulcrum.errors import OutcomeUnknown, Retryable
from fulcrum.saga import identity
from fulcrum.saga.messages import Answer, PaymentAuthorized, PaymentNotFound, StepCommand
from fulcrum.store import inbox
from fulcrum.workers.payment_moves import State
from fulcrum.workers.payment_relations import PAYMENTS
from fulcrum.workers.payment_worker import SERVICE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(namespace: Mapping[str, str]) -> AsyncIterator[Bench]:
    """The service of this module."""
    async with payment_service(namespace) as running:
        yield running


def kinds(events: Sequence[Answer]) -> list[tuple[str, int]]:
    """What was told, and under which number."""
    return [(type(event).__name__, event.sequence) for event in events]


async def arrived(provider: Faulty) -> bool:
    """A call is held back."""
    return provider.arrived == 1


@pytest.mark.parametrize(
    ("token", "kind"), [("pay_ok", "PaymentAuthorized"), ("pay_declined", "PaymentDeclined")]
)
async def test_query_of_a_recorded_outcome_repeats_it_and_asks_nobody(
    bench: Bench, token: str, kind: str
) -> None:
    """The very message that answered the authorization goes out again, for each copy of the query."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow, token))
    worker, provider = bench.process()
    await worker.handle([delivery(query(workflow))] * 2)
    assert provider.calls == []
    first, *others = await outbox_rows(bench.db, PAYMENTS, workflow)
    assert len(others) == 2
    for other in others:
        assert {**other, "id": first["id"], "created_at": None} == {**first, "created_at": None}
    assert kinds(await bench.told(workflow)) == [(kind, 1)] * 3


async def test_query_finds_what_a_silence_did(bench: Bench) -> None:
    """``pay_timeout_ok``: the answer is the authorization's own, and a late copy of it only repeats that."""
    workflow = new_workflow()
    command = authorize(workflow, "pay_timeout_ok")
    await bench.not_told(command)
    await bench.handle(query(workflow))
    worker, provider = bench.process()
    await worker.handle([delivery(command), delivery(query(workflow)), delivery(query(workflow, number=2))])
    assert provider.calls == []
    answer, *repeats = await bench.told(workflow)
    assert isinstance(answer, PaymentAuthorized)
    assert (answer.command_id, answer.sequence) == (command.command_id, 1)
    assert answer.event_id == identity.event_id(command.command_id, "PaymentAuthorized")
    assert repeats == [answer] * 3
    assert (await bench.row(workflow))["state"] == State.AUTHORIZED
    assert bench.effects(workflow) == ["authorize"]


async def test_query_of_a_silence_that_did_nothing_lets_the_command_come_again(bench: Bench) -> None:
    """``pay_timeout_no``: nobody heard of it, so it is sent again, looks again, and is asked for once."""
    workflow = new_workflow()
    command = authorize(workflow, "pay_timeout_no")
    await bench.not_told(command)
    await bench.handle(query(workflow))
    assert (await bench.row(workflow))["state"] == State.AUTHORIZING
    worker, provider = bench.process()
    await worker.handle([delivery(command)])
    assert provider.calls == ["outcome_of", "authorize"]
    await bench.handle(query(workflow))
    await bench.handle(query(workflow, number=2))
    unheard, held, *repeats = await bench.told(workflow)
    assert unheard == PaymentNotFound(
        event_id=identity.event_id(query(workflow).command_id, "PaymentNotFound"),
        workflow_id=workflow,
        sequence=1,
        occurred_at=unheard.occurred_at,
        command_id=query(workflow).command_id,
        asked_command_id=command.command_id,
    )
    assert isinstance(held, PaymentAuthorized)
    assert held.sequence == 2
    assert repeats == [unheard, held]
    assert bench.effects(workflow) == ["authorize"]


async def test_query_before_its_authorization_leaves_a_number_and_no_fence(bench: Bench) -> None:
    """The provider is not asked, and the authorization counts on and holds the amount."""
    workflow = new_workflow()
    worker, provider = bench.process()
    await worker.handle([delivery(query(workflow)), delivery(query(workflow, number=2))])
    assert provider.calls == []
    assert (await bench.row(workflow))["state"] == State.NOT_ASKED
    await worker.handle([delivery(authorize(workflow))])
    assert provider.calls == ["authorize"]
    assert kinds(await bench.told(workflow)) == [
        ("PaymentNotFound", 1),
        ("PaymentNotFound", 2),
        ("PaymentAuthorized", 3),
    ]


async def test_void_after_a_query_alone_leaves_a_fence(bench: Bench) -> None:
    """Nothing was ever asked for, and nothing will be."""
    workflow = new_workflow()
    worker, provider = bench.process()
    await worker.handle([delivery(c) for c in (query(workflow), void(workflow), authorize(workflow))])
    assert provider.calls == []
    assert kinds(await bench.told(workflow)) == [
        ("PaymentNotFound", 1),
        ("PaymentVoided", 2),
        ("PaymentDeclined", 3),
    ]


async def test_query_behind_a_void_moves_nothing(bench: Bench) -> None:
    """What was answered is repeated; what was not is not found, and its copy is fenced."""
    answered, silent = new_workflow(), new_workflow()
    await bench.handle(authorize(answered))
    await bench.not_told(authorize(silent, "pay_timeout_ok"))
    worker, provider = bench.process()
    for workflow in (answered, silent):
        await bench.handle(void(workflow))
        await worker.handle([delivery(query(workflow))])
        assert (await bench.row(workflow))["state"] == State.VOIDED
        assert bench.effects(workflow) == ["authorize", "void"]
    await bench.handle(authorize(silent, "pay_timeout_ok"))
    assert provider.calls == []
    assert kinds(await bench.told(answered)) == [
        ("PaymentAuthorized", 1),
        ("PaymentVoided", 2),
        ("PaymentAuthorized", 1),
    ]
    assert kinds(await bench.told(silent)) == [
        ("PaymentVoided", 1),
        ("PaymentNotFound", 2),
        ("PaymentDeclined", 3),
    ]


async def test_query_of_an_attempt_that_was_superseded_repeats_its_refusal(bench: Bench) -> None:
    """The row knows of the newer attempt only; the answer to the older one is kept with its command."""
    workflow = new_workflow()
    await bench.handle(authorize(workflow, "pay_declined"))
    await bench.handle(authorize(workflow, attempt=2))
    await bench.handle(query(workflow, attempt=1))
    await bench.handle(query(workflow, attempt=2))
    refused, held, *repeats = await bench.told(workflow)
    assert repeats == [refused, held]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_query_that_dies_is_asked_again(bench: Bench, moment: str) -> None:
    """Claimed and not answered: the next process looks up again, and ends it."""
    workflow = new_workflow()
    await bench.not_told(authorize(workflow, "pay_timeout_ok"))
    worker, provider = bench.process()
    getattr(provider, moment).add("outcome_of")
    with pytest.raises(Died):
        await worker.handle([delivery(query(workflow))])
    assert await bench.told(workflow) == []
    worker, provider = bench.process()
    await worker.handle([delivery(query(workflow))])
    assert provider.calls == ["outcome_of"]
    assert [event.sequence for event in await bench.told(workflow)] == [1]
    assert bench.effects(workflow) == ["authorize"]


async def test_query_while_the_authorization_is_still_on_its_way(bench: Bench) -> None:
    """The provider has not heard of it yet; what it then holds is told, and the copies hold nothing more."""
    workflow = new_workflow()
    slow, provider = bench.process()
    provider.held.add("authorize")
    late = asyncio.create_task(slow.handle([delivery(authorize(workflow))]))
    await eventually_async(lambda: arrived(provider), within=20)
    await bench.handle(query(workflow))
    await bench.handle(authorize(workflow))
    provider.let_go.set()
    await late
    unheard, held, again = await bench.told(workflow)
    assert isinstance(unheard, PaymentNotFound)
    assert isinstance(held, PaymentAuthorized)
    assert (unheard.sequence, held.sequence) == (1, 2)
    assert again == held
    assert bench.effects(workflow) == ["authorize"]


async def test_query_that_looked_too_soon_tells_what_was_recorded_since(bench: Bench) -> None:
    """The look-up found nothing, and then the authorization was answered: that answer counts."""
    workflow = new_workflow()
    await bench.not_told(authorize(workflow, "pay_timeout_no"))
    worker, provider = bench.process()
    provider.held.add("outcome_of")
    late = asyncio.create_task(worker.handle([delivery(query(workflow))]))
    await eventually_async(lambda: arrived(provider), within=20)
    await bench.handle(authorize(workflow, "pay_timeout_no"))
    provider.let_go.set()
    await late
    held, again = await bench.told(workflow)
    assert isinstance(held, PaymentAuthorized)
    assert again == held


async def test_query_while_the_provider_is_at_it_comes_again(bench: Bench) -> None:
    """Neither found nor unheard of: nothing is told before the provider is done."""
    workflow = new_workflow()
    await bench.not_told(authorize(workflow, "pay_slow_2500"))
    with pytest.raises(OutcomeUnknown, match="operation_in_progress"):
        await bench.handle(query(workflow))
    assert await bench.told(workflow) == []

    async def answered() -> bool:
        await bench.handle(query(workflow))
        return True

    await eventually_async(answered, within=20)
    (held,) = await bench.told(workflow)
    assert held.command_id == authorize(workflow).command_id


async def test_query_and_authorization_that_both_begin_the_payment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither finds a row and both want to make it; the one that comes second decides again."""
    workflow = new_workflow()
    ask, hold = bench.handle(query(workflow)), bench.handle(authorize(workflow))
    await interleave(monkeypatch, bench.db, (inbox, "record"), ask, lambda: hold)
    held, again = await bench.told(workflow)
    assert isinstance(held, PaymentAuthorized)
    assert again == held
    assert bench.effects(workflow) == ["authorize"]


async def test_copies_of_query_and_authorization_in_many_processes_tell_one_answer(bench: Bench) -> None:
    """Four of each at once after a silence that acted: one hold, one event however often it is told."""
    workflow = new_workflow()
    command = authorize(workflow, "pay_timeout_ok")
    await bench.not_told(command)

    async def insist(each: StepCommand) -> None:
        worker, _ = bench.process()
        while True:
            try:
                return await worker.handle([delivery(each)])
            except Retryable:
                continue

    await asyncio.gather(*(insist(each) for each in [command, query(workflow)] * 4))
    events = await bench.told(workflow)
    assert len(events) == 8
    assert len(set(events)) == 1
    assert bench.effects(workflow) == ["authorize"]


@pytest.mark.parametrize("first", ["authorization", "query"])
async def test_every_command_is_kept_with_its_answer(bench: Bench, first: str) -> None:
    """Whoever of the two is answered first, both count as answered."""
    workflow = new_workflow()
    command = authorize(workflow, "pay_timeout_ok")
    await bench.not_told(command)
    if first == "authorization":
        await bench.handle(command)
    await bench.handle(query(workflow))
    async with bench.db.transaction() as tx:
        ids = {command.command_id, query(workflow).command_id}
        kept = await inbox.outcomes(tx, PAYMENTS, SERVICE, ids)
    assert kept.keys() == ids
    assert kept[command.command_id] == kept[query(workflow).command_id] is not None


# --- holds that lapse -----------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["at once", "by a copy", "by a query"])
async def test_time_at_which_a_hold_lapses_is_told(bench: Bench, asked: str) -> None:
    """``pay_expires_S``: stored and passed on, also when the answer had to be looked up."""
    workflow = new_workflow()
    command = authorize(workflow, "pay_expires_3600")
    if asked != "at once":
        worker, provider = bench.process()
        provider.after.add("authorize")
        with pytest.raises(Died):
            await worker.handle([delivery(command)])
    await bench.handle(query(workflow) if asked == "by a query" else command)
    (effect,) = bench.simulator._book.since(0, workflow)
    assert effect.expires_at is not None
    (event,) = await bench.told(workflow)
    assert isinstance(event, PaymentAuthorized)
    assert event.expires_at == datetime.fromisoformat(effect.expires_at)
    assert (await bench.row(workflow))["expires_at"] == event.expires_at
