"""How does a Kafka broker run here? One process that is broker and controller, on data that survives."""

from __future__ import annotations

import shutil
import threading
import uuid
from base64 import urlsafe_b64encode

from fulcrum.localstack import process
from fulcrum.localstack.install import kafka_jars
from fulcrum.localstack.java import SMALL, archived_classes, java
from fulcrum.localstack.server import Server

# One broker, so one replica of everything. The heartbeat settings bring a killed broker back in 4.5 s: the
# default session of 9 s must pass before its new self may register. The cleaner's buffer is taken from the
# heap at start and is 128 MB by default.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=3000
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
background.threads=4
"""


class Kafka(Server):
    """A Kafka 4 broker on the loopback address."""

    name = "kafka"
    programs = ("java",)
    port_names = ("kafka", "kafka-controller")
    variable = "FULCRUM_KAFKA_BOOTSTRAP"
    # A killed broker checks the log of every partition it holds: about 8 ms of CPU each.
    within = 180.0

    def _java(self, *options: str) -> list[str]:
        return [
            java(self.home),
            *SMALL,
            *options,
            f"-Djava.io.tmpdir={self.folder / 'tmp'}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
            "-cp",
            f"{kafka_jars(self.home)}/*",
        ]

    def prepare(self, cancelled: threading.Event) -> None:
        """Write the properties; format the data folder once."""
        logs, formatted = self.folder / "logs", self.folder / "formatted"
        for folder in (logs, self.folder / "tmp"):
            folder.mkdir(exist_ok=True)
            self.home.account.own(folder)
        properties = str(
            self.write(
                "server.properties",
                _PROPERTIES.format(broker=self.port, controller=self.ports["kafka-controller"], logs=logs),
            )
        )
        if formatted.exists():
            return
        # A format that was broken off leaves half a folder, which a second one refuses.
        shutil.rmtree(logs)
        logs.mkdir()
        self.home.account.own(logs)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A", 1)
        process.run(
            "Formatting Kafka's data folder",
            [*self._java(), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties],
            log=self.log,
            cancelled=cancelled,
            env={"LANG": "C.UTF-8", "HOME": str(self.folder)},
            folder=self.folder,
            account=self.home.account,
        )
        formatted.touch()

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [
            *self._java(*archived_classes(self.home, "kafka"), "-Xms64m", "-Xmx256m"),
            "kafka.Kafka",
            str(self.folder / "server.properties"),
        ], {}

    def probe(self) -> None:
        from confluent_kafka.admin import AdminClient

        is_listening(self.port)
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        if not client.list_topics(timeout=5).brokers:
            raise ConnectionError("the broker has not joined its own cluster yet")


def is_listening(port: int) -> None:
    """Raise ConnectionError unless something accepts on ``port``; keeps a client's retries out of the log."""
    import socket

    socket.create_connection(("127.0.0.1", port), timeout=1).close()
