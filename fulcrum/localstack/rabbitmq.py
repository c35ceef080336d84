"""How does RabbitMQ run here? One node with its own cookie, port mapper and folders, none of Debian's."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import threading
import urllib.request

from fulcrum.localstack.install import rabbitmq_program
from fulcrum.localstack.server import Server

# A quorum queue's log is held in memory until the segment it belongs to is written: a small one keeps a
# node on a laptop small.
_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {prometheus}
log.console = true
log.console.level = warning
log.connection.level = error
log.file = false
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 67108864
"""

# After a kill the queues may begin to dead-letter before their exchanges are bound again. What finds no way
# then is tried again after this time, which is three minutes unless one says otherwise.
_ERLANG = (
    "-kernel inet_dist_use_interface {127,0,0,1} -rabbit dead_letter_worker_publisher_confirm_timeout 5000"
)


class Epmd(Server):
    """Erlang's port mapper for this node alone; otherwise the first node of the machine would start one for
    all, and it would outlive them."""

    name = "epmd"
    programs = ("epmd",)
    port_names = ("epmd",)
    stop_grace = 2.0

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [shutil.which("epmd") or "epmd", "-address", "127.0.0.1", "-port", str(self.port)], {}

    def probe(self) -> None:
        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()


class RabbitMQ(Server):
    """A RabbitMQ node with the management and Prometheus plugins; user and password ``guest``."""

    name = "rabbitmq"
    programs = ("beam.smp", "erl_child_setup", "inet_gethost")
    port_names = ("rabbitmq", "rabbitmq-management", "rabbitmq-prometheus", "rabbitmq-distribution")
    needs = ("epmd",)
    variable = "FULCRUM_RABBITMQ_URL"
    # 3.10 stops its message stores at once, then waits five seconds for a statistics process. Past this grace
    # it is killed, which durable queues bear.
    stop_grace = 2.0

    @property
    def address(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def management(self) -> str:
        return f"http://127.0.0.1:{self.ports['rabbitmq-management']}"

    def variables(self) -> dict[str, str]:
        return {"FULCRUM_RABBITMQ_URL": self.address, "FULCRUM_RABBITMQ_MANAGEMENT_URL": self.management}

    def prepare(self, cancelled: threading.Event) -> None:
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            self.write(cookie.name, secrets.token_hex(20), mode=0o400)
        self.write("enabled_plugins", "[rabbitmq_management,rabbitmq_prometheus].\n")
        self.write(
            "rabbitmq.conf",
            _CONFIG.format(
                amqp=self.port,
                management=self.ports["rabbitmq-management"],
                prometheus=self.ports["rabbitmq-prometheus"],
            ),
        )

    def command(self) -> tuple[list[str], dict[str, str]]:
        folder = self.folder
        return [str(rabbitmq_program())], {
            # Makes the start script become the node instead of watching over it.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "fulcrum@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.ports["rabbitmq-distribution"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_LOGS": "-",
        }

    def probe(self) -> None:
        """The broker greets on AMQP, and the management API answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            if not connection.recv(1):
                raise ConnectionError("no greeting on the AMQP port")
        request = urllib.request.Request(f"{self.management}/api/whoami")  # noqa: S310
        request.add_header("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            json.load(answer)
