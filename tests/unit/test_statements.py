"""How a Core statement becomes SQL and parameters."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import bindparam, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from fulcrum.store import statements
from fulcrum.store.bulk import arrays, insert_rows
from fulcrum.store.relations import messaging
from fulcrum.store.statements import compiled, is_lasting, lasting

R = messaging("inventory")
ID = "8fdcbaae-26af-4143-b523-76f6c84640f4"


def test_json_and_uuid_are_bound_as_postgres_takes_them() -> None:
    """Objects become JSON text, ids keep their text, and both are cast in the statement."""
    sql, bound = compiled(insert(R.outbox).values(event_id=ID, headers={"a": "ü"}, key=b"\x00"))
    assert "::UUID" in sql
    assert "::JSONB" in sql
    assert bound["headers"] in ('{"a": "\\u00fc"}', '{"a": "ü"}')
    assert (bound["event_id"], bound["key"]) == (ID, b"\x00")


def test_list_is_expanded() -> None:
    """An IN list becomes one place a value, also when the statement was compiled for another length."""
    for ids in ([1], [1, 2, 3]):
        sql, bound = compiled(select(R.outbox.c.id).where(R.outbox.c.id.in_(ids)))
        assert "POSTCOMPILE" not in sql
        assert [value for name, value in bound.items() if name.startswith("id_1_")] == ids


def test_values_are_not_cached_with_the_text() -> None:
    """Two statements of one structure share their text and keep their own values."""
    before = len(statements._cache)
    first = compiled(update(R.outbox).where(R.outbox.c.id == 1).values(topic="one"))
    second = compiled(update(R.outbox).where(R.outbox.c.id == 2).values(topic="two"))
    assert first[0] == second[0]
    assert (sorted(map(str, first[1].values())), sorted(map(str, second[1].values()))) == (
        ["1", "one"],
        ["2", "two"],
    )
    assert len(statements._cache) == before + 1


def test_places_are_filled_by_name() -> None:
    """A statement written once takes its values at each use."""
    statement = select(R.outbox.c.id).where(R.outbox.c.topic == bindparam("wanted"))
    assert compiled(statement, {"wanted": "a"})[1] == {"wanted": "a"}
    assert compiled(statement, {"wanted": "b"})[1] == {"wanted": "b"}
    assert compiled(text("SELECT :n + 1"), {"n": 4}) == ("SELECT %(n)s + 1", {"n": 4})


def test_percent_is_no_placeholder() -> None:
    """A percent sign in a statement reaches Postgres as one."""
    sql, bound = compiled(select(R.outbox.c.id).where(R.outbox.c.topic.like("a%")))
    assert sql % {name: repr(value) for name, value in bound.items()}
    assert compiled(text("SELECT 5 % 3"))[0] % {} == "SELECT 5 % 3"


def test_any_number_of_rows_is_one_text() -> None:
    """One statement inserts one row or fifty, columns as arrays, JSON lists staying lists."""
    columns = ("message_id", "outcome")
    statement = insert_rows(R.inbox, columns, order_by=("message_id",))
    texts = set()
    for count in (1, 50):
        rows = [{"message_id": str(UUID(int=n)), "outcome": [n]} for n in range(count)]
        sql, bound = compiled(statement, arrays(columns, rows))
        texts.add(sql)
        assert bound["message_id_array"].count(",") == count - 1
        assert bound["outcome_array"].startswith('{"[0]"')
    assert len(texts) == 1


def test_lasting_statement_is_known_by_itself() -> None:
    """It fills no cache, and takes its values at each use."""
    before = len(statements._cache)
    statement = statements.lasting(select(R.outbox.c.id).where(R.outbox.c.topic == bindparam("wanted")))
    assert compiled(statement, {"wanted": "a"})[1] == {"wanted": "a"}
    assert compiled(statement, {"wanted": "b"})[1] == {"wanted": "b"}
    assert len(statements._cache) == before


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that makes up statements cannot fill the memory."""
    monkeypatch.setattr(statements, "_CACHE_LIMIT", 3)
    monkeypatch.setattr(statements, "_cache", {})
    for n in range(10):
        compiled(select(*[R.outbox.c.id] * (n + 1)))
        assert len(statements._cache) <= 3


def test_a_lasting_statement_has_its_text_and_written_values_once() -> None:
    """An IN list that is written in it is expanded, and what is given is turned into what psycopg2 takes."""
    statement = lasting(
        select(R.outbox.c.id).where(
            R.outbox.c.topic.in_(["a", "b"]), R.outbox.c.headers == bindparam("h", type_=JSONB)
        )
    )
    sql, bound = compiled(statement, {"h": {"x": 1}})

    assert "POSTCOMPILE" not in sql
    assert is_lasting(sql)
    assert sorted(map(str, bound.values())) == ["a", "b", '{"x": 1}']
    with pytest.raises(KeyError, match="h"):
        compiled(statement, {})


def test_a_lasting_statement_takes_no_list_of_any_length() -> None:
    """Each length would be another text."""
    with pytest.raises(TypeError, match="takes no IN list: ids"):
        lasting(select(R.outbox.c.id).where(R.outbox.c.id.in_(bindparam("ids", expanding=True))))
