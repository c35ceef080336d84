"""Which processes make up Fulcrum, and how one of them is started and stopped."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import uvloop

from fulcrum.garbage import spare_imports
from fulcrum.settings import Settings
from fulcrum.telemetry.logs import configure_logging

Serve = Callable[[Settings, asyncio.Event], Awaitable[None]]


def _until_signal(serve: Serve, settings: Settings) -> None:
    """Run ``serve`` until SIGTERM or SIGINT; it then finishes what it has begun."""
    spare_imports()

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(settings, stop)

    uvloop.run(main())


# A role imports its packages when it starts: no process loads what it does not run.


def _intake(settings: Settings) -> None:
    from fulcrum.web.app import serve_intake

    _until_signal(serve_intake, settings)


def _agents(settings: Settings) -> None:
    from fulcrum.agents.app import run_worker
    from fulcrum.agents.orchestration import build_agents

    run_worker(settings, build_agents)


def _projector(settings: Settings) -> None:
    from fulcrum.agents.app import run_worker
    from fulcrum.agents.projector import build_projector

    run_worker(settings, build_projector)


def _payment(settings: Settings) -> None:
    from fulcrum.workers.service import serve_payment

    _until_signal(serve_payment, settings)


def _inventory(settings: Settings) -> None:
    from fulcrum.workers.service import serve_inventory

    _until_signal(serve_inventory, settings)


def _warehouse(settings: Settings) -> None:
    from fulcrum.workers.service import serve_warehouse

    _until_signal(serve_warehouse, settings)


def _courier(settings: Settings) -> None:
    from fulcrum.workers.service import serve_courier

    _until_signal(serve_courier, settings)


def _courier_simulator(settings: Settings) -> None:
    from fulcrum.workers.service import serve_courier_simulator

    _until_signal(serve_courier_simulator, settings)


def _psp_simulator(settings: Settings) -> None:
    from fulcrum.workers.service import serve_psp_simulator

    _until_signal(serve_psp_simulator, settings)


def _warehouse_simulator(settings: Settings) -> None:
    from fulcrum.workers.service import serve_warehouse_simulator

    _until_signal(serve_warehouse_simulator, settings)


ROLES: dict[str, Callable[[Settings], None]] = {
    "intake": _intake,
    "agents": _agents,
    "projector": _projector,
    "payment": _payment,
    "inventory": _inventory,
    "warehouse": _warehouse,
    "courier": _courier,
    "psp-simulator": _psp_simulator,
    "warehouse-simulator": _warehouse_simulator,
    "courier-simulator": _courier_simulator,
}


#: The setting that says how much a role does at once, for those that have one.
CONCURRENCY: dict[str, str] = {
    "payment": "concurrency",
    "inventory": "inventory_batches",
    "courier": "concurrency",
}


def run_role(role: str, settings: Settings) -> None:
    """Run ``role`` in this process until it is told to stop. KeyError for an unknown role."""
    start = ROLES[role]
    configure_logging(settings, role)
    start(settings)
