"""When is a statement prepared on a session, and how is it called then?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fulcrum.store.prepared import Prepared, form_of

SQL = "SELECT %(b)s, CAST(%(a)s AS UUID[]) WHERE x LIKE 'p%%' AND y = %(b)s"


@pytest.fixture(autouse=True)
def _wanted() -> Iterator[None]:
    yield
    Prepared.wanted = True


def fill(sql: str, parameters: Mapping[str, Any]) -> str:
    """As psycopg2 does it."""
    return sql % {name: f"'{value}'" for name, value in parameters.items()}


def names(sent: str) -> list[str]:
    """The name that is prepared and the one that is executed."""
    words = sent.replace("(", " ").split()
    return [words[words.index(verb) + 1] for verb in ("PREPARE", "EXECUTE") if verb in words]


def test_places_are_numbered_and_keep_their_casts() -> None:
    """A name has one number wherever it stands, and the arguments come in the order of the numbers."""
    form = form_of(SQL)

    assert form.definition == "SELECT $1, CAST($2 AS UUID[]) WHERE x LIKE 'p%' AND y = $1"
    assert form.call == "(%(b)s, CAST(%(a)s AS UUID[]))"


@pytest.mark.parametrize(
    "cast", ["::UUID", "::JSONB[]", "::TIMESTAMP WITH TIME ZONE", "::DOUBLE PRECISION", "::INTERVAL"]
)
def test_a_cast_behind_a_place_is_one_of_the_argument_too(cast: str) -> None:
    """Also one of several words."""
    form = form_of(f"SELECT %(a)s{cast} AND 1")

    assert (form.definition, form.call) == (f"SELECT $1{cast} AND 1", f"(%(a)s{cast})")


def test_a_statement_without_places_is_called_without_arguments() -> None:
    """EXECUTE takes no empty list."""
    assert form_of("SELECT 1").call == ""


def test_the_second_use_prepares_and_the_third_calls() -> None:
    """What is used once on a session is not worth it."""
    prepared = Prepared()
    given = {"a": "{}", "b": 7}

    first = prepared.text(SQL, given, fill)
    assert first == fill(SQL, given)
    second = prepared.text(SQL, given, fill)
    with prepared.within(f"BEGIN; {second}"):
        pass
    third = prepared.text(SQL, given, fill)

    assert second.startswith("PREPARE f_")
    assert "LIKE 'p%'" in second
    assert second.endswith("('7', CAST('{}' AS UUID[]))")
    assert third.startswith("EXECUTE f_")
    assert {*names(second), *names(third)} == set(names(third))


def test_what_was_not_sent_or_failed_is_prepared_under_another_name() -> None:
    """Postgres may have it under the first name, or not."""
    prepared = Prepared()
    prepared.text(SQL, {"a": "", "b": ""}, fill)
    unsent = prepared.text(SQL, {"a": "", "b": ""}, fill)
    failed = prepared.text(SQL, {"a": "", "b": ""}, fill)
    with pytest.raises(ValueError, match="gone"), prepared.within(failed):
        raise ValueError("gone")
    with prepared.within("COMMIT"):
        pass

    again = prepared.text(SQL, {"a": "", "b": ""}, fill)

    assert len({*names(unsent), *names(failed), *names(again)}) == 3


def test_texts_that_are_never_sent_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions that fail before their COMMIT leave some each time."""
    monkeypatch.setattr("fulcrum.store.prepared._MOST_UNSENT", 3)
    prepared = Prepared()
    for _ in range(20):
        prepared.text(SQL, {"a": "", "b": ""}, fill)

    assert len(prepared._sent) <= 3


def test_nothing_is_prepared_once_it_was_given_up() -> None:
    """Nor is what was prepared called any more."""
    prepared = Prepared()
    for _ in range(2):
        with prepared.within(prepared.text(SQL, {"a": "", "b": ""}, fill)):
            pass
    prepared.give_up()

    assert prepared.text(SQL, {"a": "", "b": ""}, fill) == fill(SQL, {"a": "", "b": ""})
