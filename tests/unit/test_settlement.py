"""What a message that failed becomes: where its copy goes, with which headers, and what is kept of it."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fulcrum.commands.attempts import AttemptLog
from fulcrum.commands.delivery import ALONE, ATTEMPT, GIVEN_UP, REASON, Delivery
from fulcrum.commands.publisher import Outgoing
from fulcrum.commands.settlement import InHand, Settlement
from fulcrum.errors import Corrupt, Rejected, Unavailable
from fulcrum.saga.messages import Line, ReserveStock
from fulcrum.settings import Settings

ID = "8fdcbaae-26af-4143-b523-76f6c84640f4"
WORKFLOW = "ddc54db6-5f87-4667-bbd5-411e72ce9c5e"
COMMAND = ReserveStock(
    command_id=ID,
    workflow_id=WORKFLOW,
    step="reserve_stock",
    attempt=1,
    issued_at=datetime(2026, 3, 1, tzinfo=UTC),
    lines=(Line("tea", 1),),
)


class Story:
    """What happened, in order: rows kept, copies sent, messages acknowledged."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, Any]] = []
        self.refusals = 0
        self.stopping = False

    def of(self, act: str) -> list[Any]:
        return [told for name, told in self.acts if name == act]

    async def keep(self, attempts: list[dict[str, Any]]) -> None:
        self.acts.append(("keep", attempts))

    async def send(self, exchange: str, key: str, outgoing: Outgoing) -> None:
        if self.refusals:
            self.refusals -= 1
            self.acts.append(("refused", exchange))
            raise Unavailable("queue full")
        self.acts.append(("send", (exchange, key, outgoing)))

    async def ack(self) -> None:
        self.acts.append(("ack", None))

    async def pause(self, error: Exception, tries: int) -> bool:
        self.acts.append(("pause", tries))
        return not self.stopping


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.5)


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def settlement(story: Story, monkeypatch: pytest.MonkeyPatch) -> Settlement:
    found = Settlement(Settings(), "inventory", cast(AttemptLog, story), story.pause)
    monkeypatch.setattr(found._publisher, "send", story.send)
    return found


def in_hand(story: Story, readable: bool = True, closed: bool = False, **headers: str) -> InHand:
    """A message of the command, as it came."""
    message = SimpleNamespace(
        body=b"body",
        headers={},
        redelivered=False,
        message_id="from-amqp",
        type="FromAmqp",
        channel=SimpleNamespace(is_closed=closed),
        ack=story.ack,
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    delivery = Delivery(COMMAND, named, ID, 1, b"body") if readable else None
    return InHand(cast(Any, message), named, delivery)


async def test_success_at_once_is_acknowledged_and_nothing_else(story: Story, settlement: Settlement) -> None:
    """The usual command costs no statement and no copy."""
    await settlement.succeeded([in_hand(story), in_hand(story)])
    assert story.acts == [("ack", None), ("ack", None)]


async def test_success_after_failures_is_kept_first(story: Story, settlement: Settlement) -> None:
    """Those of a batch that had failed before are kept together, then all are acknowledged."""
    await settlement.succeeded([in_hand(story), in_hand(story, fulcrum_attempt="3")])
    ((row,),) = story.of("keep")
    assert (row["attempt"], row["outcome"], row["kind"]) == (3, "succeeded", None)
    assert [act for act, _ in story.acts] == ["keep", "ack", "ack"]


async def test_success_after_a_replay_is_kept(story: Story, settlement: Settlement) -> None:
    """The first attempt of a second round is no first success."""
    await settlement.succeeded([in_hand(story, fulcrum_given_up="1")])
    ((row,),) = story.of("keep")
    assert (row["round"], row["attempt"]) == (2, 1)


async def test_failure_is_kept_copied_and_acknowledged(story: Story, settlement: Settlement) -> None:
    """In this order, so that a crash in between repeats an attempt and loses none."""
    await settlement.failed(in_hand(story, fulcrum_attempt="2"), Unavailable("away"))
    assert [act for act, _ in story.acts] == ["keep", "send", "ack"]
    ((exchange, key, outgoing),) = story.of("send")
    assert (exchange, key, outgoing.message_id) == ("fulcrum.retry.5s", "inventory", ID)
    assert outgoing.headers[ATTEMPT] == "3"
    assert ALONE not in outgoing.headers
    ((row,),) = story.of("keep")
    assert (row["workflow_id"], row["step"], row["worker"]) == (WORKFLOW, "reserve_stock", "inventory-0")
    assert 4 < (row["next_due"] - datetime.now(UTC)).total_seconds() <= 5


@pytest.mark.parametrize(
    ("error", "spoiled"), [(Unavailable("x"), True), (KeyError("x"), False), (KeyError("x"), True)]
)
async def test_what_spoils_batches_goes_alone(
    story: Story, settlement: Settlement, error: Exception, spoiled: bool
) -> None:
    """Its copy says so, and the consumer that gets it reads it so."""
    await settlement.failed(in_hand(story), error, spoiled)
    ((_, _, outgoing),) = story.of("send")
    again = in_hand(story)
    assert not again.alone
    again.headers.update(outgoing.headers)
    assert again.alone


@pytest.mark.parametrize(
    ("error", "reason", "kind"),
    [(Rejected("x"), "rejected", "permanent"), (Corrupt("x"), "corrupt", "poison")],
)
async def test_what_cannot_succeed_is_parked_at_once(
    story: Story, settlement: Settlement, error: Exception, reason: str, kind: str
) -> None:
    """At the first attempt, with the cause, and as the end of a round."""
    await settlement.failed(in_hand(story), error)
    ((exchange, _, outgoing),) = story.of("send")
    assert exchange == "fulcrum.parked"
    assert (outgoing.headers[REASON], outgoing.headers[GIVEN_UP]) == (reason, "1")
    ((row,),) = story.of("keep")
    assert (row["outcome"], row["kind"], row["next_due"]) == ("parked", kind, None)


async def test_last_attempt_is_parked(story: Story, settlement: Settlement) -> None:
    """After as many attempts as the command's policy allows."""
    await settlement.failed(in_hand(story, fulcrum_attempt="7"), Unavailable("away"))
    ((exchange, _, outgoing),) = story.of("send")
    assert (exchange, outgoing.headers[REASON]) == ("fulcrum.parked", "exhausted")


async def test_unreadable_message_is_known_by_what_it_says_of_itself(
    story: Story, settlement: Settlement
) -> None:
    """Without a command the id and type come from the message, and no policy is missing."""
    await settlement.failed(in_hand(story, readable=False), Corrupt("x"))
    ((_, _, outgoing),) = story.of("send")
    assert (outgoing.message_id, outgoing.type) == ("from-amqp", "FromAmqp")


async def test_refused_copy_is_sent_again_and_the_message_held(story: Story, settlement: Settlement) -> None:
    """Until its copy is safe a message is not let go; its attempt is kept once."""
    story.refusals = 2
    await settlement.failed(in_hand(story), Unavailable("away"))
    assert [act for act, _ in story.acts] == ["keep", "refused", "pause", "refused", "pause", "send", "ack"]


async def test_stop_leaves_what_cannot_be_copied(story: Story, settlement: Settlement) -> None:
    """A consumer that stops meanwhile neither acknowledges nor waits: the message is delivered again."""
    story.refusals, story.stopping = 9, True
    await settlement.failed(in_hand(story), Unavailable("away"))
    assert not story.of("ack")
    assert len(story.of("refused")) == 1


async def test_message_of_a_lost_channel_is_left_alone(story: Story, settlement: Settlement) -> None:
    """It comes again anyway, so this attempt counts for nothing."""
    await settlement.failed(in_hand(story, closed=True), Unavailable("away"))
    assert story.acts == []
