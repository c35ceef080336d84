"""The history of schemas: nothing released is edited, and whatever would break a reader is explained.

Long, because every way to break a reader is a case of one table.
"""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import fastavro.utils
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fulcrum.cli.schema import app
from fulcrum.wire import history
from fulcrum.wire.compatibility import Version, breaks, same_bytes
from fulcrum.wire.history import History, committed
from fulcrum.wire.schemas import MESSAGE_TYPES, fullname, schema_text

ASKED = "fulcrum.commands.AuthorizePayment"


def test_this_release_stands_beside_every_released_one() -> None:
    """`fulcrum schema check --offline` has nothing to say about this checkout."""
    result = CliRunner().invoke(app, ["check", "--offline"])
    assert result.exit_code == 0, result.output
    assert f"{len(MESSAGE_TYPES)} schemas are fine against the history" in result.stdout


# --- the files ------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> History:
    """A copy of the committed history that a test may damage."""
    shutil.copytree(committed().folder, tmp_path / "history")
    return History(tmp_path / "history")


def test_the_committed_history_is_undamaged() -> None:
    """No released schema was edited, removed or slipped in."""
    assert committed().damage() == []


def test_an_edited_version_is_noticed(copied: History) -> None:
    """Even a change of layout alone betrays that somebody touched a released file."""
    path = copied.folder / ASKED / "1.avsc"
    path.write_text(path.read_text() + " ")
    assert [str(f) for f in copied.damage()] == [
        f"{ASKED}: 1.avsc was edited; restore it and add a new version"
    ]


def test_a_removed_version_is_noticed(copied: History) -> None:
    """Bytes under a version that is gone could no longer be proven readable."""
    (copied.folder / ASKED / "1.avsc").unlink()
    assert f"{ASKED}: 1.avsc is gone; a released version stays: restore it" in map(str, copied.damage())


def test_a_version_that_was_written_by_hand_is_noticed(copied: History) -> None:
    """A version enters the history by `fulcrum schema snapshot` only, and its numbers have no holes."""
    shutil.copy(copied.folder / ASKED / "1.avsc", copied.folder / ASKED / "3.avsc")
    assert [str(f) for f in copied.damage()] == [
        f"{ASKED}: 3.avsc is not in SHA256SUMS; use `fulcrum schema snapshot`",
        f"{ASKED}: versions are [1, 3], not 1 to 2",
    ]


def test_a_history_without_a_message_is_noticed(copied: History) -> None:
    """Who removes a message leaves bytes that nothing can read."""
    copied.append("fulcrum.events.PaymentLost", schema_text(MESSAGE_TYPES[1]))
    faults = [str(f) for f in history.check(copied)]
    assert faults == [
        "fulcrum.events.PaymentLost: has a history and no message any more: nothing could read it"
    ]


def test_a_snapshot_records_every_message_once(tmp_path: Path) -> None:
    """An empty history takes version 1 of each message, a second snapshot adds nothing."""
    empty = History(tmp_path)
    assert [f.why.partition(";")[0] for f in history.check(empty)] == [
        "is not in the history as it is now"
    ] * len(MESSAGE_TYPES)
    assert len(history.snapshot(empty)) == len(MESSAGE_TYPES)
    assert history.snapshot(empty) == []
    assert history.check(empty) == []


def test_a_changed_schema_is_unrecorded_until_its_snapshot(
    copied: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check asks for the snapshot, which appends and leaves version 1 as it was."""
    before = (copied.folder / ASKED / "1.avsc").read_bytes()
    _release(
        monkeypatch, _with_field(_BASE, {"name": "network", "type": ["null", "string"], "default": None})
    )
    assert [str(f) for f in history.check(copied)] == [
        f"{ASKED}: is not in the history as it is now; run `fulcrum schema snapshot`"
    ]
    assert history.snapshot(copied) == [copied.folder / ASKED / "2.avsc"]
    assert (copied.folder / ASKED / "1.avsc").read_bytes() == before
    assert history.check(copied) == []


def test_documentation_alone_makes_no_version(copied: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """A better sentence writes the same bytes."""
    _release(monkeypatch, _BASE | {"doc": "The amount is held."})
    assert history.check(copied) == []
    assert history.snapshot(copied) == []


def test_a_change_is_held_against_every_version_and_not_the_last_alone(
    copied: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the newest version allows, the first may forbid."""
    network = {"name": "network", "type": "string", "default": "", "doc": "Card network."}
    copied.append(ASKED, json.dumps(_with_field(_BASE, network)))
    _release(monkeypatch, _with_field(_BASE, {k: v for k, v in network.items() if k != "default"}))
    faults = [str(f) for f in history.broken(copied)]
    assert faults == [f"{ASKED}.network: version 1 does not have it and this schema has no default for it"]


def test_the_command_names_the_fault_and_exits_with_10(
    copied: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build stops on a broken schema and says which field of which record, for people and programs."""
    monkeypatch.setattr(history, "committed", lambda: copied)
    _release(monkeypatch, _without_field(_BASE, "currency"))
    human = CliRunner().invoke(app, ["check", "--offline"])
    assert human.exit_code == 10
    why = "this schema does not have it and version 1 has no default for it"
    assert f"{ASKED}.currency: {why}\n" in human.stderr
    machine = CliRunner().invoke(app, ["check", "--offline", "-o", "json"])
    assert machine.exit_code == 10
    assert {"record": ASKED, "field": "currency", "why": why} in json.loads(machine.stdout)
    assert CliRunner().invoke(app, ["snapshot"]).exit_code == 10
    assert len(copied.versions(ASKED)) == 1


def _release(monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]) -> None:
    """Let AuthorizePayment have another schema in this release."""
    text = history.schema_text
    monkeypatch.setattr(
        history, "schema_text", lambda t: json.dumps(changed) if fullname(t) == ASKED else text(t)
    )
    monkeypatch.setattr(history, "schema", lambda t: json.loads(history.schema_text(t)))


# --- what breaks ----------------------------------------------------------------------------------

_BASE: dict[str, Any] = committed().versions(ASKED)[0].schema
_SUIT = {"type": "enum", "name": "Suit", "symbols": ["HEARTS"]}
_POINT = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "long"}]}


def _with_field(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    return schema | {"fields": [*schema["fields"], {"doc": "A field.", **field}]}


def _without_field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return schema | {"fields": [f for f in schema["fields"] if f["name"] != name]}


def _one(type_: Any, **field: Any) -> dict[str, Any]:
    """A record ``t.R`` with one field ``f``."""
    return {
        "type": "record",
        "name": "R",
        "namespace": "t",
        "fields": [{"name": "f", "type": copy.deepcopy(type_), **field}],
    }


_DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9}
_BREAKING: list[tuple[Any, Any, list[str]]] = [
    ("long", "int", ["t.R.f: this schema has int, version 1 has long"]),
    ("int", "long", ["t.R.f: this schema has long, version 1 has int"]),
    ("string", "long", ["t.R.f: this schema has long, version 1 has string"]),
    ("string", "bytes", ["t.R.f: this schema has bytes, version 1 has string"]),
    ("string", ["null", "string"], ["t.R.f: this schema may write null, which version 1 cannot read"]),
    (
        ["null", "string", "long"],
        ["null", "string"],
        ["t.R.f: version 1 may write long, which this schema cannot read"],
    ),
    (
        {"type": "int", "logicalType": "time-millis"},
        {"type": "int", "logicalType": "date"},
        ["t.R.f: logicalType must not change: this schema has date, version 1 has time-millis"],
    ),
    (
        ["null", {"type": "long", "logicalType": "timestamp-micros"}],
        ["null", "long"],
        ["t.R.f: logicalType must not change: this schema has None, version 1 has timestamp-micros"],
    ),
    (
        _DECIMAL | {"scale": 2},
        _DECIMAL | {"scale": 4},
        ["t.R.f: scale must not change: this schema has 4, version 1 has 2"],
    ),
    (
        {"type": "array", "items": "string"},
        {"type": "array", "items": "long"},
        ["t.R.f: this schema has long, version 1 has string"],
    ),
    (
        {"type": "map", "values": "string"},
        {"type": "array", "items": "string"},
        ["t.R.f: this schema has array, version 1 has map"],
    ),
    (
        {"type": "map", "values": "bytes"},
        {"type": "map", "values": "double"},
        ["t.R.f: this schema has double, version 1 has bytes"],
    ),
    (
        _SUIT,
        _SUIT | {"symbols": ["HEARTS", "SPADES"]},
        ["t.Suit: this schema may write SPADES, which version 1 does not know, and its enum has no default"],
    ),
    (
        {"type": "fixed", "name": "Hash", "size": 16},
        {"type": "fixed", "name": "Hash", "size": 20},
        ["t.Hash: size must not change: this schema has 20, version 1 has 16"],
    ),
    (
        _POINT,
        _POINT | {"namespace": "elsewhere"},
        ["t.R.f: name and namespace must not change: this schema has elsewhere.Point, version 1 has t.Point"],
    ),
    (
        {"type": "array", "items": _POINT},
        {
            "type": "array",
            "items": _POINT | {"fields": [*_POINT["fields"], {"name": "y", "type": "long"}]},  # type: ignore[misc]
        },
        ["t.Point.y: version 1 does not have it and this schema has no default for it"],
    ),
]


@pytest.mark.parametrize(("old", "new", "why"), _BREAKING, ids=lambda value: json.dumps(value)[:40])
def test_a_breaking_change_is_explained(old: Any, new: Any, why: list[str]) -> None:
    """Every kind of breaking change is found, once, and said with its record, its field and the reason."""
    assert [str(fault) for fault in breaks(_one(new), Version("version 1", _one(old)))] == why


_ENUM_WITH_ROOM = _SUIT | {"symbols": ["HEARTS", "UNKNOWN"], "default": "UNKNOWN"}
_HARMLESS: list[tuple[str, Callable[[], tuple[Any, Any]]]] = [
    ("added with a default", lambda: (_one("long"), _with_field(_one("long"), _NEW))),
    ("removed with a default", lambda: (_with_field(_one("long"), _NEW), _one("long"))),
    ("doc and alias", lambda: (_one("long"), _one("long", doc="Now said.", aliases=["g"]))),
    ("primitive written out", lambda: (_one("long"), _one({"type": "long"}))),
    ("another default", lambda: (_one("long", default=1), _one("long", default=2))),
    (
        "symbol in an enum with a default",
        lambda: (_one(_ENUM_WITH_ROOM), _one(_ENUM_WITH_ROOM | {"symbols": ["HEARTS", "SPADES", "UNKNOWN"]})),
    ),
    (
        "name in full",
        lambda: (
            _one("long"),
            {k: v for k, v in _one("long").items() if k != "namespace"} | {"name": "t.R"},
        ),
    ),
    ("order of a union", lambda: (_one(["null", "long"]), _one(["long", "null"]))),
]
_NEW = {"name": "g", "type": ["null", "string"], "default": None}


@pytest.mark.parametrize("pair", [pair for _, pair in _HARMLESS], ids=[name for name, _ in _HARMLESS])
def test_a_harmless_change_passes(pair: Callable[[], tuple[Any, Any]]) -> None:
    """What every version can read is not complained about."""
    old, new = pair()
    assert breaks(new, Version("version 1", old)) == []


def test_a_schema_that_contains_itself_is_compared() -> None:
    """Recursion ends."""
    tree = _one(["null", "R"], default=None)
    changed = _with_field(tree, {"name": "g", "type": "long"})
    assert len(breaks(changed, Version("version 1", tree))) == 1


def test_schemas_that_differ_in_documentation_write_the_same_bytes() -> None:
    """Docs and the way a name is written do not count, defaults and order do."""
    assert same_bytes(_one("long"), _one({"type": "long"}, doc="Said."))
    assert not same_bytes(_one("long"), _one("long", default=1))
    assert not same_bytes(_one(["null", "long"]), _one(["long", "null"]))


# --- the explanation against the real thing -------------------------------------------------------

_LEAVES = st.sampled_from(["string", "bytes", "int", "long", "boolean", "double"])
_TYPES = st.one_of(
    _LEAVES,
    _LEAVES.map(lambda leaf: ["null", leaf]),
    _LEAVES.map(lambda leaf: {"type": "array", "items": leaf}),
    _LEAVES.map(lambda leaf: {"type": "map", "values": leaf}),
    st.lists(st.sampled_from("ABCD"), min_size=1, unique=True).map(
        lambda symbols: {"type": "enum", "name": "E", "symbols": symbols}
    ),
)
_DEFAULTS: dict[str, Any] = {
    "string": "",
    "bytes": "",
    "int": 0,
    "long": 0,
    "boolean": False,
    "double": 0.0,
    "array": [],
    "map": {},
}


@st.composite
def _fields(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A field, with or without a default."""
    type_ = copy.deepcopy(draw(_TYPES))
    kind = "null" if isinstance(type_, list) else type_["type"] if isinstance(type_, dict) else type_
    field = {"name": name, "type": type_}
    if kind == "enum":
        type_["name"] = f"Enum_{name}"
    if draw(st.booleans()):
        field["default"] = type_["symbols"][0] if kind == "enum" else _DEFAULTS.get(kind)
    return field


@st.composite
def _releases(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two records of up to three fields; of each field the second keeps, drops, adds or changes it."""
    old: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    for name in "abc":
        field = draw(_fields(name))
        fate = draw(st.sampled_from(["keep", "keep", "drop", "add", "change"]))
        if fate != "add":
            old.append(field)
        if fate != "drop":
            new.append(draw(_fields(name)) if fate == "change" else copy.deepcopy(field))
    record = {"type": "record", "name": "R", "namespace": "t"}
    return record | {"fields": old}, record | {"fields": new}


def _reads(reader: dict[str, Any], writer: dict[str, Any]) -> bool:
    """Whether fastavro reads ten records that were written under ``writer``."""
    reader, writer = (
        fastavro.parse_schema(copy.deepcopy(reader)),
        fastavro.parse_schema(copy.deepcopy(writer)),
    )
    for record in fastavro.utils.generate_many(writer, 10):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, writer, record)
        out.seek(0)
        try:
            fastavro.schemaless_reader(out, writer, reader)
        except Exception:
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(_releases())
def test_what_is_called_compatible_is_readable(releases: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """When the check finds nothing, records of each schema are read under the other."""
    old, new = releases
    if not breaks(new, Version("version 1", old)):
        assert _reads(new, old)
        assert _reads(old, new)
