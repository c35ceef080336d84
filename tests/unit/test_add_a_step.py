"""A step is added as ``docs/how-to/add-a-step.md`` says, and runs: its code is taken from that page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fulfilment import FORWARD, Fulfilment
from intents import intent_created
from plausible import START

from fulcrum.agents import journal
from fulcrum.readmodel.awaited import awaited
from fulcrum.readmodel.projection import project_run
from fulcrum.saga import definitions, messages
from fulcrum.saga.decide import Decision
from fulcrum.saga.definitions import DEFINITIONS, Definition
from fulcrum.saga.describe import matrix
from fulcrum.saga.fingerprint import of_steps, unpublished
from fulcrum.saga.graph import mermaid
from fulcrum.saga.messages import ParcelDelivered, PaymentAuthorized, PaymentReversed
from fulcrum.saga.migrate import common
from fulcrum.saga.published import PUBLISHED
from fulcrum.saga.run import Status, StepStatus
from fulcrum.saga.verbs import MIGRATE
from fulcrum.wire.lint import lint
from fulcrum.workers import payment_answers, payment_moves
from fulcrum.workers.payment_moves import Payment, Reply, State

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-step.md"
V3 = "fulfillment.v3"
#: What stands on the page, by the file that it goes into.
BLOCKS: dict[str, str] = dict(
    re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
)


def added(file: str, place: str) -> str:
    """What the page adds to ``file`` at ``place``."""
    hunks = re.split(r"^@@ (\w+) @@\n", BLOCKS[file], flags=re.M)[1:]
    lines = dict(zip(hunks[::2], hunks[1::2], strict=True))[place].splitlines()
    return "\n".join(line[1:] for line in lines if line.startswith("+"))


def carried_out(code: str, *modules: Any) -> dict[str, Any]:
    """The names in ``code``, which sees what the modules see."""
    names = {name: value for module in modules for name, value in vars(module).items()}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


MESSAGES = MappingProxyType(carried_out(added("fulcrum/saga/messages.py", "events"), messages))
ROWS = MappingProxyType(
    carried_out(
        f"{added('fulcrum/saga/definitions.py', 'rows')}\n"
        f"(NEW,) = {added('fulcrum/saga/definitions.py', 'DEFINITIONS').lstrip()}",
        messages,
        definitions,
        type("new", (), dict(MESSAGES)),
    )
)
NEW: Definition = ROWS["NEW"]
CHECK = ROWS["CHECK_FRAUD"]


@pytest.fixture(autouse=True)
def defined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition is there, as if the page's change had been made."""
    monkeypatch.setitem(DEFINITIONS, V3, NEW)


def check_fraud() -> Callable[..., tuple[Payment, Reply]]:
    """The worker's function."""
    code = added("fulcrum/workers/payment_fraud.py", "module")
    names = carried_out(code, payment_moves, payment_answers, type("new", (), dict(MESSAGES)))
    found: Callable[..., tuple[Payment, Reply]] = names["check_fraud"]
    return found


def checked(run: Fulfilment, customer: str) -> Decision:
    """The worker carries out the command that left last, and its answer comes back."""
    payment = Payment(workflow_id=run.run.workflow_id, state=State.AUTHORIZED, sequence=1, requested_at=START)
    assert run.asked.customer_ref == customer
    after, move = check_fraud()(payment, run.asked, None, run.now)
    assert (after.sequence, move.event.sequence) == (2, 2)
    return run.feed(move.event)


def test_the_new_step_runs_between_its_neighbours() -> None:
    """It is asked for with the intent's field, answered by the worker, and the run goes on to its end."""
    run = Fulfilment(V3)
    run.answer(PaymentAuthorized)
    assert run.names[-1] == "CheckFraud"
    checked(run, "customer-7")
    assert run.step("check_fraud").status == StepStatus.DONE
    for kind in FORWARD[1:]:
        run.answer(kind)
    run.answer(ParcelDelivered)
    assert run.run.status == Status.COMPLETED
    assert [step.status for step in run.run.steps] == ["done"] * 9


def test_its_refusal_undoes_what_came_before() -> None:
    """The money is given back; the check itself leaves nothing to undo."""
    run = Fulfilment(V3, customer_ref="customer-who-never-pays")
    run.answer(PaymentAuthorized)
    checked(run, "customer-who-never-pays")
    assert (run.run.status, run.names[-1]) == (Status.COMPENSATING, "ReversePayment")
    run.answer(PaymentReversed)
    assert (run.run.status, run.run.reason) == (Status.CANCELLED, "check_fraud: known_for_not_paying")


def test_readers_see_it_without_a_change_of_theirs() -> None:
    """In the journal, in the read model, in what is waited for, in the table of events and in the graph."""
    run = Fulfilment(V3)
    decision = run.answer(PaymentAuthorized)
    place: dict[str, Any] = {"topic": "t", "partition": 0, "offset": 0}
    row = project_run(journal.record(decision, intent_created(), lambda command: b"", **place))
    assert (row["step"], row["definition"]) == ("check_fraud", V3)
    waiting = awaited(dict(row))
    assert waiting is not None
    assert waiting.event == "FraudCleared"
    cells = matrix(NEW, CHECK)[Status.RUNNING, StepStatus.REQUESTED]
    assert cells["FraudCleared"] == "send ReserveStock"
    assert cells["FraudSuspected"] == "compensating, send ReversePayment"
    assert "authorize_payment -->|PaymentAuthorized| check_fraud" in mermaid(NEW)


def test_new_version_is_to_be_published_and_leaves_the_others_alone() -> None:
    """The rows that both have say the same."""
    assert unpublished(DEFINITIONS, PUBLISHED) == [V3]
    rows = dict(of_steps(NEW))
    del rows["check_fraud"]
    assert rows == PUBLISHED["fulfillment.v2"]


def test_run_before_the_first_difference_is_moved_to_it() -> None:
    """One that waits for its authorisation is checked then; one that is past it stays where it is."""
    assert common(DEFINITIONS["fulfillment.v2"], NEW) == ("authorize_payment",)
    run = Fulfilment("fulfillment.v2")
    assert run.ask(MIGRATE, result=json.dumps({"definition": V3})).ignored is None
    run.answer(PaymentAuthorized, to=run.sent[0])
    assert (run.run.definition, run.names[-1]) == (V3, "CheckFraud")
    late = Fulfilment("fulfillment.v2")
    late.answer(PaymentAuthorized)
    assert late.ask(MIGRATE, result=json.dumps({"definition": V3})).ignored == "past_the_difference"


@pytest.mark.parametrize("file", [name for name in BLOCKS if name.endswith(".avsc")])
def test_schemas_on_the_page_keep_the_rules(file: str) -> None:
    """They have the fields of their message, in their order, and a ``doc`` on each."""
    schema = json.loads(BLOCKS[file])
    folder, name = Path(file).parent.name, Path(file).stem
    assert lint(schema, f"fulcrum.{folder}.{name}") == []
    assert [field["name"] for field in schema["fields"]] == [each.name for each in fields(MESSAGES[name])]
