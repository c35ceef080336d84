"""What the API says about itself: the OpenAPI document and the kinds of problems."""

from __future__ import annotations

from fulcrum.web.answers import ProblemKind
from fulcrum.web.bodies import ProblemPath
from fulcrum.web.operation import Answer, Call
from fulcrum.web.problem import KINDS, Problem
from fulcrum.web.services import Services


async def show_problem(services: Services, call: Call, *, path: ProblemPath) -> Answer:
    """Say what a kind of problem means and what to do about it."""
    kind = KINDS.get(path.code)
    if kind is None:
        raise Problem("not-found", f"There is no problem {path.code}; it is one of {', '.join(KINDS)}.")
    return Answer(
        ProblemKind(
            code=path.code, status=kind.status, title=kind.title, remedy=kind.remedy, retryable=kind.retryable
        )
    )
