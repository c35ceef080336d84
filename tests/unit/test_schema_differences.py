"""Does a difference of two schemas name the field, and both values?"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fulcrum.cli import schema as schema_command
from fulcrum.errors import NotFound
from fulcrum.saga.messages import DecisionMade, PaymentAuthorized
from fulcrum.wire.differences import Difference, differences
from fulcrum.wire.schemas import MESSAGE_TYPES, fullname, schema


@pytest.mark.parametrize("type_", MESSAGE_TYPES, ids=fullname)
def test_schema_does_not_differ_from_itself(type_: Any) -> None:
    """Whatever it is made of."""
    assert differences(schema(type_), schema(type_)) == []


def test_every_kind_of_change_is_named() -> None:
    """A field that came, one that went, another type, another text; fields inside of records too."""
    before = schema(DecisionMade)
    after = copy.deepcopy(before)
    gone = after["fields"].pop(0)
    after["fields"].append({"name": "tax", "type": "long", "default": 0})
    cause = next(field for field in after["fields"] if field["name"] == "cause")
    (inner,) = _records(cause["type"])
    inner["fields"][0]["doc"] = "another text"
    found = differences(before, after)
    name = inner["fields"][0]["name"]
    assert Difference(gone["name"], "type", gone["type"], None) in found
    assert Difference("tax", "type", None, "long") in found
    assert Difference("tax", "default", None, "0") in found
    assert [each.after for each in found if each.place == f"cause.{name}"] == ["another text"]
    assert {each.place for each in found} == {gone["name"], "tax", f"cause.{name}"}


def _records(node: Any) -> list[dict[str, Any]]:
    branches = node if isinstance(node, list) else [node]
    return [each for each in branches if isinstance(each, dict) and "fields" in each]


def test_diff_of_an_incompatible_file_is_exit_code_10(tmp_path: Path) -> None:
    """The field and the reason are told; a compatible change is exit code 0."""
    changed = schema(PaymentAuthorized)
    changed["fields"].append({"name": "tax", "type": "long", "doc": "Tax."})
    file = tmp_path / "PaymentAuthorized.avsc"
    file.write_text(json.dumps(changed))
    arguments = ["diff", "PaymentAuthorized", "-f", str(file), "-o", "json"]
    seen = CliRunner().invoke(schema_command.app, arguments)
    assert seen.exit_code == 10, seen.output
    assert "tax" in seen.stderr
    assert {row["place"] for row in json.loads(seen.stdout)} == {"tax"}
    changed["fields"][-1]["default"] = 0
    file.write_text(json.dumps(changed))
    assert CliRunner().invoke(schema_command.app, arguments).exit_code == 0


def test_show_prints_the_schema_and_its_versions() -> None:
    """By short or full name; json is the schema itself; an unknown one is not found."""
    shown = CliRunner().invoke(schema_command.app, ["show", fullname(PaymentAuthorized), "-o", "json"])
    assert json.loads(shown.stdout) == schema(PaymentAuthorized)
    first = CliRunner().invoke(schema_command.app, ["show", "DecisionMade", "--version", "1"])
    assert first.exit_code == 0
    assert "workflow_id" in first.stdout
    for arguments in (["show", "Nothing"], ["show", "DecisionMade", "--version", "99"]):
        assert isinstance(CliRunner().invoke(schema_command.app, arguments).exception, NotFound)
