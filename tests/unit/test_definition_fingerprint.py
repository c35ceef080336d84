"""Is a definition still what was published? Whatever a row says to a run is in its fingerprint."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from fulcrum.cli.definition import app
from fulcrum.errors import Misconfigured
from fulcrum.saga import published
from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.fingerprint import changed, of_definition, of_step, of_steps, said, unpublished
from fulcrum.saga.messages import ConfirmStock, PaymentDeclined, StockConfirmed
from fulcrum.saga.run import WorkflowRun
from fulcrum.saga.step import Definition, Fill, Kind, Step

V1 = DEFINITIONS["fulfillment.v1"]
ROW = V1.steps[0]


def price(run: WorkflowRun) -> int:
    """A function that fills a field."""
    return run.intent.amount_minor


#: Another value for each column of a row.
OTHER: dict[str, Any] = {
    "name": "pay",
    "do": ConfirmStock,
    "done": StockConfirmed,
    "refused": StockConfirmed,
    "undo": None,
    "undone": None,
    "deadline": timedelta(seconds=61),
    "kind": Kind.PIVOT,
    "query": None,
    "not_found": None,
    "patience": 11,
    "lapsed": StockConfirmed,
    "keeps": "reserve_stock",
    "renewed": True,
    "progress": StockConfirmed,
    "undo_refused": PaymentDeclined,
    "intercepts": True,
    "yields": ("lines",),
    "fills": {"amount_minor": Fill("reserve_stock", "lines", of=price)},
}


def test_every_column_is_known_here() -> None:
    """A new one needs its line above, or a reason why no run goes by it."""
    assert {each.name for each in fields(Step)} == OTHER.keys() | {"milestone"}


@pytest.mark.parametrize("column", sorted(OTHER))
def test_whatever_a_row_says_to_a_run_counts(column: str) -> None:
    """Another value is another fingerprint, of the row and of the definition."""
    other = replace(ROW, **{column: OTHER[column]})
    assert of_step(other) != of_step(ROW)
    assert of_definition(replace(V1, steps=(other, *V1.steps[1:]))) != of_definition(V1)


def test_what_a_row_says_only_to_readers_does_not_count() -> None:
    """A milestone may get another name."""
    assert of_step(replace(ROW, milestone="charged")) == of_step(ROW)


def test_what_stays_at_its_default_is_not_said() -> None:
    """So that a new column changes no fingerprint from before."""
    assert said(ROW).keys() >= {"do", "deadline", "query"}
    assert not said(ROW).keys() & {"lapsed", "keeps", "patience", "kind"}


def test_function_is_told_by_its_name() -> None:
    """One without a name of its own could be changed unseen, so it is refused."""
    assert said(price).endswith("test_definition_fingerprint.price")
    nameless: Callable[[Any], int] = lambda run: 1  # noqa: E731 - that is what is tested
    with pytest.raises(TypeError, match="is no name"):
        said(Fill("a", "b", of=nameless))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (replace(V1, steps=(replace(ROW, patience=3), V1.steps[1])), "differs in step authorize_payment"),
        (replace(V1, steps=V1.steps[:1]), "has lost step reserve_stock"),
        (replace(V1, steps=(*V1.steps, replace(ROW, name="again"))), "has a new step again"),
        (replace(V1, steps=tuple(reversed(V1.steps))), "has its steps in another order"),
    ],
)
def test_change_of_what_is_published_names_the_step_and_the_remedy(now: Definition, told: str) -> None:
    """Add a version: live runs would change their rules."""
    (fault,) = changed({V1.name: now}, {V1.name: of_steps(V1)})
    assert fault.startswith(f"fulfillment.v1 is published and {told}; ")
    assert "add a version" in fault


def test_definition_that_is_gone_is_told() -> None:
    """Runs may be under way in it. What is new is no change."""
    assert changed({}, {V1.name: of_steps(V1)})[0].startswith("fulfillment.v1 is published and gone")
    assert changed(DEFINITIONS, {}) == []
    assert unpublished({V1.name: V1}, {}) == [V1.name]


def test_agents_do_not_start_with_a_changed_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """With those of this checkout they do."""
    published.require_published()
    monkeypatch.setitem(DEFINITIONS, V1.name, replace(V1, steps=V1.steps[:1]))
    with pytest.raises(Misconfigured, match="add a version"):
        published.require_published()


def test_every_definition_is_published_as_it_is() -> None:
    """A release adds what ``fulcrum definition check`` prints; nothing that was added ever changes."""
    assert changed(DEFINITIONS, published.PUBLISHED) == []
    assert unpublished(DEFINITIONS, published.PUBLISHED) == []


def test_check_prints_what_a_release_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 10, and lines that can be copied as they are."""
    monkeypatch.setitem(DEFINITIONS, "tea.v1", Definition("tea.v1", (ROW,)))
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 10
    assert "tea.v1 is not published" in result.stdout
    assert ast.literal_eval("{" + result.stderr + "}") == {"tea.v1": {ROW.name: of_step(ROW)}}


def test_check_is_content_with_what_is_there() -> None:
    """Nothing on standard output."""
    result = CliRunner().invoke(app, ["check"])
    assert (result.exit_code, result.stdout) == (0, "")


def test_list_tells_what_is_published() -> None:
    """With the fingerprint of the whole."""
    result = CliRunner().invoke(app, ["list", "-o", "json"])
    assert result.exit_code == 0
    assert f'"fingerprint": "{of_definition(V1)}"' in result.stdout


@pytest.mark.parametrize("form", ["mermaid", "dot"])
@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_graph_has_every_command_and_answer(name: str, form: str) -> None:
    """Forward and back."""
    result = CliRunner().invoke(app, ["graph", name, "--format", form])
    assert result.exit_code == 0
    for step in DEFINITIONS[name].steps:
        for each in (step.do, step.done, step.refused, step.undo, step.undone):
            assert each is None or each.__name__ in result.stdout


def test_graph_goes_back_to_the_undo_before() -> None:
    """A refusal undoes what came before it, an undo goes on with the one before."""
    drawn = CliRunner().invoke(app, ["graph", "fulfillment.v1"]).stdout
    assert "authorize_payment -->|PaymentDeclined| cancelled" in drawn
    assert "reserve_stock -->|StockRejected| undo_authorize_payment" in drawn
    assert "undo_reserve_stock -->|StockReleased| undo_authorize_payment" in drawn


def test_graph_of_nothing_is_refused() -> None:
    """A name or a form that is not there is told with those that are."""
    with pytest.raises(Exception, match="one of mermaid, dot"):
        CliRunner().invoke(app, ["graph", "fulfillment.v1", "--format", "png"], catch_exceptions=False)
