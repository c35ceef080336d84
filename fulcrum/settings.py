"""Every setting: name, type, default and meaning. Read once at start and passed on.

A setting is given by the environment variable ``FULCRUM_<NAME>``. ``fulcrum config show`` prints them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fulcrum.errors import Misconfigured


class Settings(BaseSettings):
    """Addresses, names and limits of one process."""

    model_config = SettingsConfigDict(env_prefix="FULCRUM_", frozen=True, extra="ignore")

    namespace: str = Field(
        "fulcrum",
        pattern=r"^[a-z][a-z0-9_-]{0,40}$",
        description="Prefix of every topic, consumer group, queue, registry subject and Redis key.",
    )
    instance: str = Field(
        "0",
        pattern=r"^[a-z0-9_-]{1,40}$",
        description="Name of this process among those of its role; keeps its place over a restart.",
    )
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma-separated.")
    rabbitmq_url: str = Field("amqp://guest:guest@127.0.0.1:5672/", description="RabbitMQ, with vhost.")
    rabbitmq_management_url: str | None = Field(
        None, description="RabbitMQ's management API, for what AMQP does not tell; none: that is left out."
    )
    postgres_dsn: str = Field("postgresql://fulcrum@127.0.0.1:5432/fulcrum", description="Postgres database.")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis, used as a cache only.")
    registry_url: str = Field(
        "http://127.0.0.1:8081/apis/ccompat/v7", description="Schema registry, Confluent-compatible API."
    )
    psp_url: str = Field("http://127.0.0.1:8090", description="Payment provider.")
    psp_timeout: float = Field(2.0, gt=0, description="Seconds to wait for the payment provider.")
    psp_concurrency: int = Field(
        16,
        ge=1,
        le=500,
        description="Calls of the payment provider in progress at once, per process. Commands in progress "
        "(concurrency) should be twice as many, so that none of the calls waits for Postgres.",
    )
    psp_breaker_failures: int = Field(
        10,
        ge=1,
        description="Calls of the payment provider that fail or are not answered, one after another, until "
        "it is left alone; commands wait in their retry queues meanwhile.",
    )
    psp_breaker_seconds: float = Field(
        10.0,
        gt=0,
        description="Seconds for which the payment provider is left alone, before one call tries it again.",
    )
    payment_sweep_after: float = Field(
        30.0,
        gt=0,
        description="Seconds after which a payment command whose provider call has no recorded outcome is "
        "finished by the sweeper. Keep it above the time that a living command may take.",
    )
    payment_sweep_interval: float = Field(
        5.0, gt=0, description="Seconds between looks for payment commands that have no recorded outcome."
    )
    psp_log: Path | None = Field(
        None, description="File in which the payment simulator keeps its effects; none: in memory."
    )
    warehouse_url: str = Field("http://127.0.0.1:8091", description="Warehouse floor.")
    warehouse_timeout: float = Field(2.0, gt=0, description="Seconds to wait for the warehouse floor.")
    warehouse_concurrency: int = Field(
        16, ge=1, le=500, description="Calls of the warehouse floor in progress at once, per process."
    )
    warehouse_breaker_failures: int = Field(
        10,
        ge=1,
        description="Calls of the warehouse floor that fail or are not answered, one after another, until "
        "it is left alone; pack jobs wait meanwhile.",
    )
    warehouse_breaker_seconds: float = Field(
        10.0,
        gt=0,
        description="Seconds for which the warehouse floor is left alone, before one call tries it again.",
    )
    warehouse_poll_interval: float = Field(
        1.0, gt=0, description="Seconds between looks at a pack job that the warehouse floor is at."
    )
    warehouse_sweep_after: float = Field(
        10.0,
        gt=0,
        description="Seconds after which a pack job that was taken up, and whose next state was not stored, "
        "is taken up again. Keep it above the time that a living call may take.",
    )
    backorder_wait: float = Field(
        259200.0, gt=0, description="Seconds for which an order that may wait for goods waits in all."
    )
    backorder_retry: float = Field(
        60.0, gt=0, description="Seconds after which an order that waits for goods is picked again."
    )
    warehouse_log: Path | None = Field(
        None, description="File in which the warehouse simulator keeps its effects; none: in memory."
    )
    warehouse_pace: float = Field(
        0.1,
        gt=0,
        description="Seconds that the warehouse simulator takes for a line; a slow one takes 30 times as "
        "long, and goods that come later come after 30 times as long.",
    )
    courier_url: str = Field("http://127.0.0.1:8092", description="Courier.")
    courier_timeout: float = Field(2.0, gt=0, description="Seconds to wait for the courier.")
    courier_concurrency: int = Field(
        16, ge=1, le=500, description="Calls of the courier in progress at once, per process."
    )
    courier_breaker_failures: int = Field(
        10,
        ge=1,
        description="Calls of the courier that fail or are not answered, one after another, until it is left "
        "alone; commands wait in their retry queues meanwhile.",
    )
    courier_breaker_seconds: float = Field(
        10.0, gt=0, description="Seconds for which the courier is left alone, before one call tries it again."
    )
    courier_sweep_after: float = Field(
        30.0,
        gt=0,
        description="Seconds after which a courier command whose call has no recorded outcome is finished by "
        "the sweeper. Keep it above the time that a living command may take.",
    )
    courier_sweep_interval: float = Field(
        5.0, gt=0, description="Seconds between looks for courier commands that have no recorded outcome."
    )
    courier_poll: float = Field(
        900.0,
        gt=0,
        description="Seconds without news of a shipment under way after which the courier is asked about it.",
    )
    courier_poll_interval: float = Field(
        5.0, gt=0, description="Seconds between looks for shipments that nothing was heard of."
    )
    webhook_secret: str = Field(
        "",
        description="Secret by which the courier signs its webhooks; several, comma-separated, while it is "
        "changed: each is accepted. None: every webhook is refused, and only the poller brings news.",
    )
    webhook_tolerance: float = Field(
        300.0, gt=0, description="Seconds by which the time of a webhook's signature may differ from ours."
    )
    courier_log: Path | None = Field(
        None, description="File in which the courier simulator keeps its effects; none: in memory."
    )
    courier_pace: float = Field(
        1.0, ge=0.01, description="Seconds after which the courier simulator moves a shipment on."
    )
    courier_webhook_url: str = Field(
        "http://127.0.0.1:8085/webhooks/courier",
        description="Where the courier simulator sends its webhooks, signed with webhook_secret.",
    )
    http_host: str = Field("127.0.0.1", description="Address on which a role serves HTTP.")
    http_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which a role serves HTTP; 0: the role's default port, plus 100 for each "
        "number of its instance.",
    )
    partitions: int = Field(8, ge=1, description="Partitions of every topic; never changed once created.")
    replication: int = Field(1, ge=1, description="Replicas of every topic.")
    retry_limit: int | None = Field(
        None,
        ge=0,
        le=50,
        description="Retries of every command before it is parked; none: what the policy of each says.",
    )
    batch_size: int = Field(200, ge=1, le=500, description="Inventory commands in one transaction at most.")
    inventory_batches: int = Field(
        2,
        ge=1,
        le=50,
        description="Inventory batches in hand at once; one is carried out while others are read or "
        "acknowledged.",
    )
    reservation_ttl: float = Field(
        86400.0,
        ge=0,
        description="Seconds for which stock is held for a workflow that must confirm it; 0: until it is "
        "released. What a workflow without a confirming step reserves does not lapse.",
    )
    concurrency: int = Field(
        32, ge=1, le=500, description="Payment commands in progress at once; see psp_concurrency."
    )
    retry_unit: float = Field(
        1.0, gt=0, description="Seconds that the shortest retry delay stands for; tests make it small."
    )
    run_retention: float = Field(
        604800.0, gt=0, description="Seconds for which a finished run stays in the orchestrator's table."
    )
    clock: bool = Field(
        True,
        description="Whether deadlines are acted upon. Off only to see that nothing is lost: the clock "
        "makes good what a lost message would show.",
    )
    reconcile_interval: float = Field(
        10.0, gt=0, description="Seconds between looks for accepted intents whose workflow has not started."
    )
    reconcile_grace: float = Field(
        60.0,
        gt=0,
        description="Seconds an accepted intent may take to start before it is sent again, at first.",
    )
    list_timeout: float = Field(
        2.0, gt=0, le=5, description="Seconds that Postgres may take for a page of a list or for a search."
    )
    accounts_interval: float = Field(
        5.0, gt=0, description="Seconds between looks at commands that were published and have not come back."
    )
    accounts_grace: float = Field(
        60.0,
        gt=0,
        description="Seconds after its publication in which a command that is on no queue may be in the "
        "hands of a worker; later it is missing.",
    )
    stuck_interval: float = Field(
        15.0, gt=0, description="Seconds between looks for workflows that do not move by themselves."
    )
    stuck_deadline_grace: float = Field(
        10.0, ge=0, description="Seconds after a step's deadline in which its timer may still come."
    )
    stuck_queue_grace: float = Field(
        10.0, ge=0, description="Seconds for which a command may lie on a queue that nobody reads."
    )
    stuck_answer_grace: float = Field(
        30.0, ge=0, description="Seconds in which the event of a command that was carried out must arrive."
    )
    stuck_outbox_grace: float = Field(
        30.0, ge=0, description="Seconds for which an event may wait in the outbox of its service."
    )
    stuck_lag_grace: float = Field(
        30.0,
        ge=0,
        description="Seconds for which a consumer group may stand still on a partition with records.",
    )
    parked_edit: bool = Field(
        False, description="Whether a parked message may be edited and sent under a new id."
    )
    parked_retention: float = Field(
        2592000.0,
        gt=0,
        description="Seconds for which the body of a replayed or discarded message is kept; until then a "
        "discarded one can be restored.",
    )
    canary_wait: float = Field(
        60.0, gt=0, description="Seconds for which an operation waits for the outcome of its canaries."
    )
    log_format: Literal["human", "json"] = Field("json", description="Log lines for people or programs.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level kept.")

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets in ``webhook_secret``."""
        return tuple(secret for part in self.webhook_secret.split(",") if (secret := part.strip()))

    def port(self, default: int) -> int:
        """The port on which this process serves HTTP: its own, or its role's ``default``.

        An instance with a number has its own default, so that two of one role run on one machine:
        ``FULCRUM_INSTANCE=1 fulcrum run agents`` serves on 6166.
        """
        number = int(self.instance) if self.instance.isdecimal() and len(self.instance) <= 2 else 0
        return self.http_port or default + 100 * number


def load_settings(**given: object) -> Settings:
    """Settings of the environment, overridden by ``given``; Misconfigured names every fault at once."""
    try:
        return Settings.model_validate(given) if given else Settings()
    except ValidationError as error:
        faults = "; ".join(
            f"FULCRUM_{'_'.join(str(part) for part in e['loc']).upper()}={e['input']!r}: {e['msg']}"
            for e in error.errors()
        )
        raise Misconfigured(f"Settings: {faults}. `fulcrum config show` explains each.") from error
