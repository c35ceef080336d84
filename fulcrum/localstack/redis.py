"""How does Redis run here? As a cache: it keeps nothing on disk."""

from __future__ import annotations

import shutil
import socket
import threading

from fulcrum.localstack.server import Server

_CONFIG = """\
bind 127.0.0.1
port {port}
dir {folder}
daemonize no
save ""
appendonly no
databases 64
"""


class Redis(Server):
    """A Redis 7 server on the loopback address."""

    name = "redis"
    programs = ("redis-server",)
    port_names = ("redis",)
    variable = "FULCRUM_REDIS_URL"

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self, cancelled: threading.Event) -> None:
        self.write("redis.conf", _CONFIG.format(port=self.port, folder=self.folder))

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [shutil.which("redis-server") or "redis-server", str(self.folder / "redis.conf")], {}

    def probe(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            answer = connection.recv(64)
        if answer != b"+PONG\r\n":
            raise ConnectionError(f"PING was answered {answer!r}")
