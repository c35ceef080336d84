"""What people read of attempts, and which roles can be told how much to do at once."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from fulcrum.cli import main
from fulcrum.cli.attempts import attempt_line, together, waiting_for
from fulcrum.settings import Settings

FAILED: dict[str, Any] = {
    "command_id": "c",
    "round": 1,
    "attempt": 2,
    "started_at": "2026-03-01T12:00:01.000000Z",
    "service": "payment",
    "type": "AuthorizePayment",
    "step": "authorize_payment",
    "outcome": "retried",
    "kind": "transient",
    "error_class": "Unavailable",
    "error": "provider away",
    "duration_ms": 812,
    "worker": "payment-0",
    "next_due": "2026-03-01T12:00:31.000000Z",
}
SUCCEEDED = {**FAILED, "attempt": 3, "outcome": "succeeded", "kind": None, "next_due": None}
PARKED = {**FAILED, "outcome": "parked", "next_due": None, "round": 2}
REQUESTED = {"name": "authorize_payment", "status": "requested"}


def test_failed_attempt_on_one_line() -> None:
    """Number, kind, duration, worker, error and when the next one comes."""
    assert attempt_line(FAILED) == (
        "AuthorizePayment    attempt 2 failed (transient) after 812 ms on payment-0: "
        "Unavailable: provider away, next 2026-03-01 12:00:31.000Z"
    )


def test_other_ends_of_an_attempt() -> None:
    """A success tells no error; a parked one says so, and of which round it was."""
    assert attempt_line(SUCCEEDED).endswith("attempt 3 succeeded after 812 ms on payment-0")
    assert "attempt 2 of round 2 failed" in attempt_line(PARKED)
    assert attempt_line(PARKED).endswith(", parked")


def test_attempts_stand_between_the_transitions() -> None:
    """Everything is in the order of its time."""
    before, after = ({"version": n, "at": f"2026-03-01T12:00:0{n}.500000Z"} for n in (0, 1))
    assert together([before, after], [FAILED]) == [before, FAILED, after]


def test_step_says_what_it_waits_for() -> None:
    """While it is out and its last attempt failed: the error, and the next attempt or the parked list."""
    told = waiting_for(REQUESTED, [FAILED])
    assert "provider away" in told
    assert "next attempt due 2026-03-01 12:00:31.000Z" in told
    assert "fulcrum parked list" in waiting_for(REQUESTED, [PARKED])
    assert waiting_for(REQUESTED, []) == ""
    assert waiting_for(REQUESTED, [FAILED, SUCCEEDED]) == ""
    assert waiting_for({**REQUESTED, "status": "done"}, [FAILED]) == ""
    assert waiting_for({**REQUESTED, "name": "another"}, [FAILED]) == ""


@pytest.mark.parametrize(
    ("role", "setting"), [("payment", "concurrency"), ("inventory", "inventory_batches")]
)
def test_concurrency_is_the_setting_of_the_role(
    role: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``run ROLE --concurrency N`` wins over the environment and leaves every other setting."""
    started: list[tuple[str, Settings]] = []
    monkeypatch.setattr(main, "run_role", lambda name, settings: started.append((name, settings)))
    monkeypatch.setenv(f"FULCRUM_{setting.upper()}", "2")
    monkeypatch.setenv("FULCRUM_NAMESPACE", "mine")
    for arguments in (["run", role], ["run", role, "--concurrency", "3"]):
        assert CliRunner().invoke(main.app, arguments).exit_code == 0
    assert [(name, getattr(settings, setting)) for name, settings in started] == [(role, 2), (role, 3)]
    assert started[1][1].namespace == "mine"


@pytest.mark.parametrize("role", ["intake", "agents", "all"])
def test_other_roles_refuse_a_concurrency(role: str) -> None:
    """A role that does one thing at a time says who takes it."""
    seen = CliRunner().invoke(main.app, ["run", role, "--concurrency", "3"])
    assert seen.exit_code == 2
    assert "payment and inventory" in seen.stderr.replace("\n", " ")
