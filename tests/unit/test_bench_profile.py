"""What may be asked of the profiler?"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.profile import plan_of
from fulcrum.errors import Rejected
from fulcrum.localstack.running import ROLES


def test_every_role_of_ours_is_watched_unless_some_are_named() -> None:
    """The simulators stand for the outside world."""
    assert set(plan_of([]).roles) == {role for role in ROLES if not role.endswith("-simulator")}
    named = plan_of(["--role", "agents", "--role", "payment", "--for", "5s", "--out", "graphs"])
    assert (named.roles, named.duration, named.folder) == (["agents", "payment"], 5.0, Path("graphs"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--role", "agent"], "--role 'agent' is unknown; one of"),
        (["--users", "0"], "--users 0: give 1 to 1000"),
        (["--for", "1h"], "duration '1h'"),
        (["--for", "11m"], "--for 660s"),
        (["--definition", "v3"], "--definition 'v3' is unknown; one of"),
    ],
)
def test_what_cannot_be_asked_is_named(arguments: list[str], named: str) -> None:
    """Before anything is started."""
    with pytest.raises(Rejected) as error:
        plan_of(arguments)
    assert str(error.value).startswith(named)
