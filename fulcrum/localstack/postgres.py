"""How does Postgres run here? Durable, on TCP only, trusting whoever reaches the loopback address."""

from __future__ import annotations

import shutil
import signal
import threading

import psycopg2

from fulcrum.localstack import process
from fulcrum.localstack.install import postgres_programs
from fulcrum.localstack.server import Server

_INITDB = ("--username=fulcrum", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
# fsync and synchronous_commit stay on: what is measured and crash-tested here is what would run for real.
# An outbox is written and emptied all day, so its dead rows are cleared often.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "autovacuum_naptime": "10s",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%d ",
}


class Postgres(Server):
    """A Postgres server whose superuser is ``fulcrum``, with the database ``fulcrum``."""

    name = "postgres"
    programs = ("postgres",)
    port_names = ("postgres",)
    variable = "FULCRUM_POSTGRES_DSN"
    # Fast shutdown: SIGTERM would wait until every client has left.
    stop_signal = signal.SIGINT

    @property
    def address(self) -> str:
        return self._dsn("fulcrum")

    def _dsn(self, database: str) -> str:
        return f"postgresql://fulcrum@127.0.0.1:{self.port}/{database}"

    def _program(self, name: str) -> str:
        folder = postgres_programs()
        return str(folder / name) if folder else name

    def prepare(self, cancelled: threading.Event) -> None:
        """Make the cluster once, aside, so that one broken off half-way is never taken for whole."""
        if (self.folder / "PG_VERSION").exists():
            return
        draft = self.home.data("postgres.new")
        shutil.rmtree(draft, ignore_errors=True)
        self.home.lay_data("postgres.new")
        process.run(
            "Making the Postgres cluster",
            [self._program("initdb"), *_INITDB, "--pgdata", str(draft)],
            log=self.log,
            cancelled=cancelled,
            env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": str(draft)},
            folder=draft,
            account=self.home.account,
        )
        self.folder.rmdir()
        draft.rename(self.folder)

    def command(self) -> tuple[list[str], dict[str, str]]:
        settings = {**_SETTINGS, "port": str(self.port)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [self._program("postgres"), "-D", str(self.folder), *options], {}

    def probe(self) -> None:
        psycopg2.connect(self._dsn("postgres"), connect_timeout=5).close()

    def settle(self) -> None:
        create_database(self._dsn("postgres"), "fulcrum")


def create_database(dsn: str, name: str) -> None:
    """Make the database ``name`` on the server of ``dsn`` unless it exists."""
    connection = psycopg2.connect(dsn, connect_timeout=5)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                try:
                    cursor.execute(f'CREATE DATABASE "{name}"')
                except psycopg2.errors.DuplicateDatabase:
                    return
    finally:
        connection.close()
