"""What an operation's body and the filters of the parked list may hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from fulcrum.web import problem
from fulcrum.web.parked_bodies import EditBody, OperationBody, ParkedQuery

BODY: dict[str, Any] = {"kind": "replay", "selection": {}, "actor": "ana", "reason": "it is back"}


def faults(model: Any, body: object) -> list[str]:
    """Pointers of the faults in ``body``."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(body))
    return [error.name for error in problem.from_body(caught.value).errors]


def test_least_body_is_accepted() -> None:
    """Kind, selection, actor and reason are enough; it is carried out, at no pace, without canaries."""
    body = OperationBody.model_validate_json(json.dumps(BODY))
    assert (body.dry_run, body.rate, body.canary, body.stop_ratio, body.limit) == (False, None, 0, None, None)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"kind": "edit"}, "#/kind"),
        ({"reason": ""}, "#/reason"),
        ({"rate": 0}, "#/rate"),
        ({"stop_ratio": 1.1}, "#/stop_ratio"),
        ({"canary": -1}, "#/canary"),
        ({"limit": 0}, "#/limit"),
        ({"selection": {"status": "lost"}}, "#/selection/status"),
        ({"selection": {"ids": ["17"]}}, "#/selection/ids/0"),
        ({"selection": {"since": "2026-03-01T00:00:00"}}, "#/selection/since"),
        ({"selection": {"since": 17}}, "#/selection/since"),
        ({"selection": {"where": "all"}}, "#/selection/where"),
    ],
)
def test_fault_is_named_by_its_pointer(changes: dict[str, Any], pointer: str) -> None:
    """Each field that cannot be used is named."""
    assert faults(OperationBody, {**BODY, **changes}) == [pointer]


def test_times_of_a_query_need_their_zone() -> None:
    """A number of seconds or a time without zone is refused; a whole one is read."""
    assert ParkedQuery.model_validate({"since": "2026-03-01T00:00:00Z"}).since == datetime(
        2026, 3, 1, tzinfo=UTC
    )
    odd = ParkedQuery.model_validate({"since": "2026-03-01T00:00:00-20:23"})
    assert odd.since == datetime(2026, 3, 1, 20, 23, tzinfo=UTC)
    assert ParkedQuery.model_validate({"since": "0001-01-01T00:00:00+10:00"}).since is not None
    for text in ("0.5", "1700000000", "2026-03-01T00:00:00", "yesterday"):
        with pytest.raises(ValidationError):
            ParkedQuery.model_validate({"until": text})


def test_patch_holds_what_can_be_kept() -> None:
    """A step needs a known act and a pointer, and no value holds NUL."""
    step = {"op": "replace", "path": "/lines/0", "value": {"a": [1, None]}}
    base = {"actor": "ana", "reason": "x"}
    EditBody.model_validate_json(json.dumps({**base, "patch": [step]}))
    assert faults(EditBody, {**base, "patch": [{**step, "value": ["a\x00"]}]}) == ["#/patch/0/value"]
    assert faults(EditBody, {**base, "patch": [{**step, "op": "move"}]}) == ["#/patch/0/op"]
    assert faults(EditBody, {**base, "patch": [{**step, "path": "lines"}]}) == ["#/patch/0/path"]
    assert faults(EditBody, {**base, "patch": []}) == ["#/patch"]
