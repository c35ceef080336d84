"""Whether every command has a worker function."""

from __future__ import annotations

import importlib

import pytest

from fulcrum.saga import messages
from fulcrum.saga.messages import COMMANDS, StepCommand
from fulcrum.workers import handlers


def test_every_command_has_its_function() -> None:
    """Each stands in the table of its own service, and nothing else does."""
    tables = {
        "payment": handlers.PAYMENT_HANDLERS,
        "inventory": handlers.INVENTORY_HANDLERS,
        "warehouse": handlers.WAREHOUSE_HANDLERS,
        "courier": handlers.COURIER_HANDLERS,
    }

    assert {command for table in tables.values() for command in table} == set(COMMANDS)
    assert all(command in tables[command.service] for command in COMMANDS)


def test_a_command_without_a_function_fails_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that could not carry it out must not start."""

    class CountStock(StepCommand):
        service = "inventory"

    with monkeypatch.context() as patched:
        patched.setattr(messages, "COMMANDS", (*COMMANDS, CountStock))
        with pytest.raises(ImportError, match="CountStock"):
            importlib.reload(handlers)
    importlib.reload(handlers)
