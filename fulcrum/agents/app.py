"""How is a Faust app built here? One factory for the orchestrator's and the projector's process."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import faust
import uvloop
from faust.tables import TableManager
from faust.types import TopicT
from faust.types.transports import ConsumerT, TransportT

from fulcrum.agents.assignor import ReturningAssignor
from fulcrum.agents.guard import GuardedConsumer, GuardedTransport
from fulcrum.agents.pins import refuse_other_versions
from fulcrum.garbage import spare_imports
from fulcrum.saga.published import require_published
from fulcrum.settings import Settings
from fulcrum.telemetry.health import add_health_routes
from fulcrum.telemetry.startup import patiently
from fulcrum.wire.codec import Codec, open_codec
from fulcrum.wire.topic_admin import check_topics

#: Seconds for which Kafka keeps a silent member's partitions; a restart within them needs no rebalance.
_SESSION_TIMEOUT = 15.0


class PromptTables(TableManager):
    """Faust's table manager without its first second, in which modules of agents could still be imported."""

    async def on_start(self) -> None:
        """Ours are all declared by then."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class GuardedApp(faust.App):
    """A Faust app on the guarded transport that answers health checks beside its own pages.

    ``pace`` is how many seconds are between two fetches at least.
    """

    pace = 0.0

    def _new_consumer(self) -> ConsumerT:
        consumer = super()._new_consumer()
        cast(GuardedConsumer, consumer).pace = self.pace
        return consumer

    def _new_transport(self) -> TransportT:
        return GuardedTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> TransportT:
        return GuardedTransport(self.conf.broker_producer, self)

    def on_webserver_init(self, web: Any) -> None:
        """Add /healthz, /readyz and /metrics to Faust's web server."""
        add_health_routes(web.web_app, self.checks)

    def checks(self) -> Mapping[str, bool]:
        """Ready means: tables recovered, and no rebalance under way."""
        return {"recovered": bool(self.tables.actives_ready), "assigned": not self.rebalancing}


def create_app(settings: Settings, name: str, default_port: int, pace: float = 0.0) -> GuardedApp:
    """A Faust app ``<namespace>-<name>``: at-least-once, memory tables, no standbys, static membership.

    ``pace``: see GuardedApp.
    """
    app_id = f"{settings.namespace}-{name}"
    port = settings.port(default_port)
    app = GuardedApp(
        app_id,
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap.split(",")],
        autodiscover=False,
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / f"{app_id}-{settings.instance}-{port}",
        processing_guarantee="at_least_once",
        table_standby_replicas=0,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_group_instance_id=f"{app_id}-{settings.instance}",
        PartitionAssignor=ReturningAssignor,
        TableManager=PromptTables,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=_SESSION_TIMEOUT,
        broker_heartbeat_interval=3.0,
        broker_commit_interval=0.5,
        broker_commit_every=1000,
        producer_linger=0.001,
        producer_max_batch_size=131072,
        producer_request_timeout=30.0,
        stream_recovery_delay=0.0,
        web_host=settings.http_host,
        web_bind=settings.http_host,
        web_port=port,
    )
    app.pace = pace
    return app


def bytes_topic(app: faust.App, *names: str) -> TopicT:
    """Topics whose keys and values stay bytes: decoding is ours, so that a bad record can be kept aside."""
    return app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def run_worker(settings: Settings, build: Callable[[Settings, Codec], GuardedApp]) -> NoReturn:
    """Run the app that ``build`` makes until a signal or a crash; exits the process.

    ``Misconfigured`` when a library or a topic is not what it must be for no event to be lost, or a published
    definition not what it was.
    """
    refuse_other_versions()
    require_published()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    codec = loop.run_until_complete(_prepared(settings))
    app = build(settings, codec)
    # A louder level than info would cost more: Faust then formats every debug line for its spinner.
    worker = faust.Worker(
        app, loglevel="info", quiet=True, override_logging=False, redirect_stdouts=False, loop=loop
    )
    worker.spinner = None
    spare_imports()
    worker.execute_from_commandline()


async def _prepared(settings: Settings) -> Codec:
    """The codec, once the registry answers and Kafka has the topics."""
    codec, _ = await asyncio.gather(
        patiently("registry", lambda: open_codec(settings)),
        patiently("kafka", lambda: asyncio.to_thread(check_topics, settings)),
    )
    return codec


def guarded_consumer(app: faust.App) -> GuardedConsumer:
    """The app's consumer, as what it is."""
    consumer = app.consumer
    assert isinstance(consumer, GuardedConsumer)
    return consumer
