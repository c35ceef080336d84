"""When does a measured projection fail its target?"""

from __future__ import annotations

from typing import Any

from bench.projection import missed


def _result(p99: float | None, missing: int = 0, **changes: Any) -> dict[str, Any]:
    figure = {"lag_ms": {"p99": p99}, "missing": missing, "target_ms": 300.0}
    return {"violations": [], "figures": {"rate": figure}, **changes}


def test_lag_within_its_target_is_no_failure() -> None:
    """The target itself is still good."""
    assert missed(_result(300.0)) == []


def test_every_reason_is_told() -> None:
    """Too late, never there, nothing measured, and a broken invariant."""
    assert missed(_result(300.1)) == ["rate: lag p99 300.1 ms, at most 300 is wanted"]
    assert missed(_result(1.0, missing=2)) == ["rate: 2 decisions never came into the read model"]
    assert missed(_result(None)) == ["rate: lag p99 None ms, at most 300 is wanted"]
    assert missed(_result(1.0, violations=[{}])) == ["invariants are broken"]
