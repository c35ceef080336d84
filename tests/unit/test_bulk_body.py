"""What the body of an operation on workflows may hold, and what its options on the terminal mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fulcrum.cli.definition_migrate import chosen
from fulcrum.cli.op_start import selected
from fulcrum.errors import Rejected
from fulcrum.operations.kinds import WORKFLOW_KINDS, verb_of
from fulcrum.operations.requests import Request, WorkflowFilter, asked_id
from fulcrum.web import problem
from fulcrum.web.parked_bodies import OperationBody
from fulcrum.web.workflow_bodies import WorkflowSelection

BODY: dict[str, Any] = {
    "kind": "workflow.retry",
    "selection": {"status": "needs_attention"},
    "actor": "ana",
    "reason": "it is back",
}
OPERATION, WORKFLOW = "6f0c1d9e-1111-5222-8333-444455556666", "6f0c1d9e-1111-5222-8333-444455557777"


def read(**changes: Any) -> OperationBody:
    """The body with ``changes``."""
    return OperationBody.model_validate_json(json.dumps(BODY | changes))


def faults(**changes: Any) -> list[str]:
    """Pointers of the faults in the body with ``changes``."""
    with pytest.raises(ValidationError) as caught:
        read(**changes)
    return [error.name for error in problem.from_body(caught.value).errors]


def test_selection_is_that_of_the_kind() -> None:
    """A status of workflows is none of messages, and the other way round."""
    assert read().selection == WorkflowSelection(status="needs_attention")
    assert faults(kind="replay") == ["#/selection/status"]
    assert faults(selection={"status": "parked"}) == ["#/selection/status"]
    assert faults(selection={"group": "f1"}) == ["#/selection/group"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"selection": {}}, "#/selection"),
        ({"selection": {"ids": ["17"]}}, "#/selection/ids/0"),
        ({"selection": {"older_than": -1}}, "#/selection/older_than"),
        ({"kind": "workflow.forget"}, "#/kind"),
        ({"kind": "workflow.extend"}, "#/arguments/seconds"),
        ({"kind": "workflow.pause", "arguments": {"step": "pay"}}, "#/arguments/step"),
        ({"kind": "workflow.retry", "arguments": {"seconds": 5}}, "#/arguments/seconds"),
        ({"kind": "workflow.migrate"}, "#/arguments/definition"),
        ({"kind": "workflow.migrate", "arguments": {"definition": "no.v1"}}, "#/arguments/definition"),
        ({"kind": "workflow.pause", "arguments": {"definition": "fulfillment.v1"}}, "#/arguments/definition"),
        ({"kind": "replay", "selection": {}, "arguments": {"step": "pay"}}, "#/arguments/step"),
    ],
)
def test_fault_of_a_bulk_body_is_named(changes: dict[str, Any], pointer: str) -> None:
    """Also one that only follows from the kind."""
    assert faults(**changes) == [pointer]


def test_result_is_kept_as_the_text_that_the_step_would_have_said() -> None:
    """Sorted and without blanks, so that equal results are equal requests."""
    body = read(kind="workflow.skip", arguments={"step": "pay", "result": {"b": 1, "a": "x"}})
    assert body.arguments.as_wished() == {"step": "pay", "result": '{"a":"x","b":1}'}


def test_target_of_a_migration_is_the_result_of_its_request() -> None:
    """As the saga reads it."""
    body = read(kind="workflow.migrate", arguments={"definition": "fulfillment.v2"})
    assert body.arguments.as_wished() == {"result": '{"definition":"fulfillment.v2"}'}


def test_migration_selects_what_is_under_its_source() -> None:
    """With commas or with several options; a definition of its own would contradict the source."""
    assert chosen("fulfillment.v1", ["status=running,tenant=acme", "step=reserve_stock"]) == {
        "status": "running",
        "tenant": "acme",
        "step": "reserve_stock",
        "definition": "fulfillment.v1",
    }
    assert chosen("fulfillment.v1", []) == {"definition": "fulfillment.v1"}
    with pytest.raises(Rejected, match="--from"):
        chosen("fulfillment.v1", ["definition=fulfillment.v2"])


def test_every_kind_has_its_verb() -> None:
    """Nine of them; a kind of messages has none."""
    assert [verb_of(kind) for kind in WORKFLOW_KINDS] == [
        "retry", "skip", "pause", "resume", "compensate", "extend", "terminate", "cancel", "migrate",
    ]  # fmt: skip
    assert verb_of("replay") is None


def test_operation_asks_under_one_id_for_each_workflow() -> None:
    """The same at every try, another for another operation or workflow."""
    assert asked_id(OPERATION, WORKFLOW) == asked_id(OPERATION, WORKFLOW)
    assert (
        len({asked_id(OPERATION, WORKFLOW), asked_id(WORKFLOW, WORKFLOW), asked_id(OPERATION, OPERATION)})
        == 3
    )


def test_request_without_a_selection_is_refused() -> None:
    """Whoever builds it; with ids or a filter it stands, and its selection is told as it was given."""
    with pytest.raises(Rejected, match="selection is empty"):
        Request("workflow.pause", "ana", "x", workflows=WorkflowFilter()).check()
    Request("workflow.pause", "ana", "x", ids=[WORKFLOW], workflows=WorkflowFilter()).check()
    chosen = Request("workflow.pause", "ana", "x", workflows=WorkflowFilter(step="pay", older_than=60))
    chosen.check()
    assert chosen.selection() == {"step": "pay", "older_than": 60}


def test_where_is_read_as_a_selection() -> None:
    """Ages in the unit that is given; ids as often as needed."""
    assert selected(["status=paused", "older_than=15m", "id=a", "id=b"]) == {
        "status": "paused",
        "older_than": 900,
        "ids": ["a", "b"],
    }


@pytest.mark.parametrize(
    "where", [["status"], ["colour=red"], ["older_than=soon"], ["step=a", "step=b"], ["step="]]
)
def test_where_that_selects_nothing_is_refused(where: list[str]) -> None:
    """A typing error must not select more than was meant."""
    with pytest.raises(Rejected, match="--where"):
        selected(where)
