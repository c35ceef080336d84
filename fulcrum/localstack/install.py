"""What must be on the machine before a server can start, and how does it get there?

Debian's packages (RabbitMQ, Postgres, Redis, Maven) come by ``scripts/bootstrap.sh``; this module only names
what is missing. Kafka and the registry come from Maven Central, once, into the home's ``dist``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from fulcrum.localstack import process
from fulcrum.localstack.home import Home, Say
from fulcrum.localstack.java import install_java
from fulcrum.localstack.process import StackError

KAFKA = "4.4.0"
REGISTRY = "3.3.3"

_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fulcrum</groupId>
  <artifactId>localstack</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
    <dependency>
      <groupId>io.apicurio</groupId>
      <artifactId>apicurio-registry-app</artifactId>
      <version>{REGISTRY}</version>
      <type>tar.gz</type>
      <classifier>all</classifier>
      <exclusions>
        <exclusion>
          <groupId>*</groupId>
          <artifactId>*</artifactId>
        </exclusion>
      </exclusions>
    </dependency>
  </dependencies>
</project>
"""


def kafka_jars(home: Home) -> Path:
    """The folder of Kafka's jars."""
    return home.dist / f"kafka-{KAFKA}"


def registry_app(home: Home) -> Path:
    """The folder of the unpacked registry."""
    return home.dist / f"registry-{REGISTRY}"


def postgres_programs() -> Path | None:
    """The folder with ``postgres`` and ``initdb``: Debian's newest, else where the path leads."""
    found = sorted(
        (p for p in Path("/usr/lib/postgresql").glob("*/bin") if (p / "postgres").exists()),
        key=lambda p: float(p.parent.name),
    )
    if found:
        return found[-1]
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def rabbitmq_program() -> Path | None:
    """The start script itself; the one on the path insists on the user ``rabbitmq``."""
    script = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return script if script.exists() else None


def install(home: Home, servers: Collection[str], say: Say, cancelled: threading.Event) -> None:
    """Get what ``servers`` (names) need, once. StackError names the Debian packages that are missing."""
    java_needed = bool({"kafka", "registry"} & set(servers))
    downloads = java_needed and not (kafka_jars(home).exists() and registry_app(home).exists())
    lacking = [
        package
        for package, needed, there in (
            ("postgresql", "postgres" in servers, postgres_programs()),
            ("rabbitmq-server", "rabbitmq" in servers, rabbitmq_program() and shutil.which("epmd")),
            ("redis-server", "redis" in servers, shutil.which("redis-server")),
            ("maven", downloads, shutil.which("mvn")),
        )
        if needed and not there
    ]
    if lacking:
        raise StackError(
            f"not installed: {', '.join(lacking)}; run scripts/bootstrap.sh in the checkout, or "
            f"apt-get install --no-install-recommends {' '.join(lacking)}"
        )
    if not java_needed:
        return
    home.dist.mkdir(parents=True, exist_ok=True)
    if home.account.dedicated:
        home.dist.chmod(0o755)
    with _alone(home.dist / "lock", cancelled):
        install_java(home, say)
        if not (kafka_jars(home).exists() and registry_app(home).exists()):
            _download(home, say, cancelled)


def _download(home: Home, say: Say, cancelled: threading.Event) -> None:
    began = time.monotonic()
    say(f"kafka      fetching Kafka {KAFKA} and the Apicurio registry {REGISTRY} with Maven (200 MB, once)")
    repository = Path.home() / ".m2"
    repository.mkdir(exist_ok=True)
    # Maven's own folder of downloads does not bear two writers, and two checkouts share it.
    with (
        _alone(repository / "fulcrum.lock", cancelled),
        tempfile.TemporaryDirectory(dir=home.dist, prefix="new-") as folder,
    ):
        draft = Path(folder)
        draft.chmod(0o755)
        (draft / "pom.xml").write_text(_POM)
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={draft / 'jars'}"]
        log = home.log("install")
        log.write_text("")
        process.run(
            "Maven",
            ["mvn", "--batch-mode", "--no-transfer-progress", "--file", str(draft / "pom.xml"), *goal],
            log=log,
            cancelled=cancelled,
        )
        archive = next((draft / "jars").glob("apicurio-registry-app-*.tar.gz"))
        (draft / "registry").mkdir()
        process.run(
            "Unpacking the registry",
            ["tar", "--extract", "--no-same-owner", "--file", str(archive)],
            log=log,
            cancelled=cancelled,
            folder=draft / "registry",
        )
        archive.unlink()
        for made, final in (("registry", registry_app(home)), ("jars", kafka_jars(home))):
            _readable(draft / made)
            if not final.exists():
                (draft / made).rename(final)
    say(f"kafka      fetched Kafka and the registry ({time.monotonic() - began:.0f} s)")


def _readable(folder: Path) -> None:
    """The servers' user reads what this user wrote."""
    for parent, _, files in os.walk(folder):
        os.chmod(parent, 0o755)  # noqa: S103
        for name in files:
            os.chmod(os.path.join(parent, name), 0o644)


@contextmanager
def _alone(lock: Path, cancelled: threading.Event) -> Iterator[None]:
    """Hold ``lock``, waiting for whoever holds it."""
    with lock.open("a") as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if cancelled.wait(0.2):
                    raise process.Cancelled("installation given up") from None
        yield
