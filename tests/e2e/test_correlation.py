"""Can one request be followed through every message and log line that it caused?"""

from __future__ import annotations

from uuid import uuid4

from client import Client, until
from stories import COMPLETES
from system import System

_WITHIN = 30.0
_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_a_request_is_joined_to_all_that_it_caused(system: System, client: Client) -> None:
    """Correlation id and trace go from HTTP to events, decisions, the timeline and the workers' log lines."""
    shelf = await client.stocked(1)
    topics = [*system.events, system.decisions]
    since = system.kafka.ends(topics)
    mine = f"correlation-{uuid4().hex[:8]}"
    headers = {"X-Correlation-Id": mine, "traceparent": f"00-{_TRACE}-00f067aa0ba902b7-01"}

    posted = await client.post(COMPLETES, shelf.full, headers=headers)
    shown = (await client.until_final([posted], _WITHIN))[posted.workflow_id]
    assert [entry["cause"]["trace_id"] for entry in shown["timeline"]] == [_TRACE] * 3
    assert [(entry["answered"] or {}).get("type") for entry in shown["timeline"]] == [
        None,
        "AuthorizePayment",
        "ReserveStock",
    ]

    key = posted.workflow_id.encode()
    records = [record for record in system.kafka.read(topics, since) if record.key == key]
    assert len(records) == 6  # three events, three decisions
    for record in records:
        assert record.header("fulcrum-correlation-id") == mine, record
        assert (record.header("traceparent") or "").split("-")[1] == _TRACE, record
    for role, step in (("payment", "authorize_payment"), ("inventory", "reserve_stock")):
        line = await until(lambda role=role: _handled(system, role, posted.workflow_id), f"{role} logged it")
        assert line["correlation_id"] == mine
        assert line["traceparent"].split("-")[1] == _TRACE
        assert line["step"] == step
        assert line["message_id"]


def _handled(system: System, role: str, workflow_id: str) -> dict[str, str] | None:
    """The role's log line about the command of that workflow."""
    lines = system.log_lines(role)
    return next(
        (li for li in lines if li["event"] == "command.handled" and li.get("workflow_id") == workflow_id),
        None,
    )
