"""How does the schema registry run here? Apicurio on this stack's Postgres, Confluent's API in front."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from fulcrum.localstack.home import Home
from fulcrum.localstack.install import registry_app
from fulcrum.localstack.java import SMALL, archived_classes, java
from fulcrum.localstack.postgres import create_database
from fulcrum.localstack.server import Server

#: A new version must be readable by every older reader and read every older record, not only the newest.
COMPATIBILITY = "FULL_TRANSITIVE"


class Registry(Server):
    """An Apicurio registry whose schemas live in the database ``registry`` of a Postgres server."""

    name = "registry"
    programs = ("java",)
    port_names = ("registry", "registry-management")
    needs = ("postgres",)
    variable = "FULCRUM_REGISTRY_URL"

    def __init__(self, home: Home, ports: Mapping[str, int], postgres_dsn: str) -> None:
        super().__init__(home, ports)
        self._postgres = urlsplit(postgres_dsn)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def command(self) -> tuple[list[str], dict[str, str]]:
        create_database(self._postgres.geturl(), "registry")
        where = self._postgres
        argv = [
            java(self.home),
            *SMALL,
            *archived_classes(self.home, "registry"),
            "-Xms64m",
            "-Xmx192m",
            f"-Djava.io.tmpdir={self.folder}",
            "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
            "-jar",
            str(registry_app(self.home) / "quarkus-run.jar"),
        ]
        return argv, {
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
            "QUARKUS_LOG_CONSOLE_FORMAT": "%d{HH:mm:ss.SSS} %-5p [%c{1.}] %s%e%n",
            "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
            "QUARKUS_MANAGEMENT_PORT": str(self.ports["registry-management"]),
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "postgresql",
            "APICURIO_STORAGE_SNAPSHOT_LOCATION": str(self.folder),
            "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{where.hostname}:{where.port or 5432}/registry",
            "APICURIO_DATASOURCE_USERNAME": where.username or "fulcrum",
            "APICURIO_DATASOURCE_PASSWORD": where.password or "",
            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "2",
            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "2",
            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
            "APICURIO_USAGE_TELEMETRY_ENABLED": "false",
        }

    def probe(self) -> None:
        self._call("GET", "/subjects", None)

    def settle(self) -> None:
        """The rule for every subject that has none of its own; a fresh registry accepts anything."""
        self._call("PUT", "/config", {"compatibility": COMPATIBILITY})

    def _call(self, method: str, path: str, body: dict[str, str] | None) -> None:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.address + path, data=data, method=method)  # noqa: S310
        request.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            json.load(answer)
