"""One world: some workflows from the first intent until nothing is left to happen, and how they ended."""

from __future__ import annotations

from collections.abc import Sequence

from fulcrum.saga.definitions import DEFINITIONS
from fulcrum.saga.messages import EVENT_STREAMS
from fulcrum.saga.run import Status
from fulcrum.simulation import accounts, endings
from fulcrum.simulation.accounts import Accounts
from fulcrum.simulation.agents import Agents
from fulcrum.simulation.courier import CourierWorker
from fulcrum.simulation.environment import Environment, Happened
from fulcrum.simulation.faults import Faults
from fulcrum.simulation.intake import SCARCE, SKUS, Intake
from fulcrum.simulation.invariants import Invariants, Violation, journal_complete
from fulcrum.simulation.inventory import HOLDING, InventoryWorker
from fulcrum.simulation.journal import Entry
from fulcrum.simulation.logs import PARTITIONS, Log
from fulcrum.simulation.participant import Participant
from fulcrum.simulation.payment import PaymentWorker
from fulcrum.simulation.provider import Provider
from fulcrum.simulation.warehouse import WarehouseWorker

#: Steps a workflow may take on average. Far more are needed only by a world that never comes to rest.
_MOST_STEPS = 5_000
_TROUBLE = 12 * 3600.0  # seconds until faults stop
_JUMP = 7200.0


class World:
    """All parts, joined by logs and queues. Intents are for one of ``definitions``, or for any."""

    def __init__(self, seed: int, workflows: int, faults: Faults, definitions: Sequence[str] = ()) -> None:
        self.workflows = workflows
        self.env = env = Environment(seed, faults)
        self.invariants = Invariants()
        topics = {
            name: [Log(name, partition) for partition in range(PARTITIONS)]
            for name in (*EVENT_STREAMS, "decisions")
        }
        received = {sku: 2 + workflows // 50 if sku == SCARCE else 10 * workflows for sku in SKUS}
        self.intake = Intake(env, topics["intents"], definitions or tuple(DEFINITIONS))
        self.provider = Provider(env, self.invariants)
        self.payment = PaymentWorker(
            env, topics["payments"], self.invariants, self.provider, self.intake.mend
        )
        self.inventory = InventoryWorker(env, topics["inventory"], self.invariants, received)
        self.courier = CourierWorker(env, topics["courier"], self.invariants)
        self.warehouse = WarehouseWorker(env, topics["warehouse"], self.invariants, self.courier.fetched)
        self.workers: dict[str, Participant] = {
            worker.name: worker for worker in (self.payment, self.inventory, self.warehouse, self.courier)
        }
        queues = {name: worker.publish for name, worker in self.workers.items()}
        self.agents = Agents(env, topics, queues, self.invariants)
        self.intake.plan(seed, workflows)
        self._plan_trouble()

    def run(self) -> None:
        """Let everything happen and check the ends. Raises Violation."""
        if not self.env.run(_MOST_STEPS * self.workflows):
            raise Violation("liveness", f"the world is not at rest after {self.env.steps} steps", None)
        if len(self.intake.accepted) != self.workflows:
            raise Violation("liveness", "intents were not accepted", None)
        for key in self.intake.accepted:
            last = journal_complete(self.invariants.journal, key)
            self._check_end(last)
            self.env.counts[f"ended.{last.status}"] += 1

    def story(self, workflow_id: str | None) -> Sequence[Happened]:
        """What concerned the workflow, in order; everything when it is None."""
        return [
            happened
            for happened in self.env.schedule
            if workflow_id is None or happened.workflow_id in (None, workflow_id)
        ]

    def _plan_trouble(self) -> None:
        env = self.env
        for worker in self.workers.values():
            if env.strikes("silence"):
                start = env.random.uniform(0.0, 90.0)
                env.after(start, worker.fall_silent, env.random.choice((300.0, 3600.0, 6000.0, 12000.0)))
        if env.strikes("clock"):
            for _ in range(env.random.randint(1, 3)):
                start = 10 ** env.random.uniform(0.0, 4.0)
                env.after(start, self.agents.clock.jump, env.random.uniform(-_JUMP, _JUMP))
            env.after(_TROUBLE, self.agents.clock.jump, 0.0)
        env.after(_TROUBLE, env.calm)

    def _check_end(self, last: Entry) -> None:
        key = last.workflow_id
        waits = any(_waits_for(last, worker) for worker in self.workers.values())
        entries = list(self.invariants.journal[key].values())
        self.env.counts.update(endings.check(last, entries, self._held(last), waits))
        known = Accounts(
            self.provider.held.get(key, 0),
            self.provider.taken[key],
            self.provider.kept[key],
            self.inventory.reservations.get(key),
            self.warehouse.jobs.get(key),
            shipment.state if (shipment := self.courier.shipments.get(key)) is not None else None,
        )
        accounts.check(last, self.intake.accepted[key], known)

    def _held(self, last: Entry) -> endings.Held:
        """What the world has of each step; of goods that left, the reservation of a completed run."""
        key = last.workflow_id
        reservation, job = self.inventory.reservations.get(key), self.warehouse.jobs.get(key)
        shipment = self.courier.shipments.get(key)
        stock = reservation.state if reservation is not None else None
        packed = job.state if job is not None else None
        parcel = shipment.state if shipment is not None else None
        left = stock == "consumed"
        return {
            "authorize_payment": self.provider.held.get(key, 0) > 0 or self.provider.kept[key] > 0,
            "reserve_stock": stock in HOLDING or (left and last.status == Status.COMPLETED),
            "confirm_stock": stock == "confirmed",
            "pack_order": packed in ("packed", "handed_over"),
            "capture_payment": self.provider.kept[key] > 0,
            "create_delivery": parcel in ("requested", "in_transit", "delivered"),
            "hand_over": packed == "handed_over",
            "consume_stock": left,
            "deliver": parcel == "delivered",
        }


def _waits_for(last: Entry, worker: Participant) -> bool:
    undoing = {step.undo_command_id for step in last.steps if step.undo_command_id}
    return any(command in undoing for command in worker.parked)
