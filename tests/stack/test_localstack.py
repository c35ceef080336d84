"""Do the real servers come up together, survive a kill with their data, and go down without a trace?

Long, because every server goes through the same life on one stack.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import aio_pika
import psycopg2
import pytest
import redis
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from eventually import eventually

from fulcrum.localstack import Stack, StackError
from fulcrum.localstack.process import all_pids, stat

Env = dict[str, str]


def processes(home: Path) -> dict[int, str]:
    """Every living process whose command line or working folder is of the stack in ``home``."""
    found = {}
    for pid in all_pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if stat(pid) and (f"{home}/" in command or folder.startswith(f"{home}/")):
            found[pid] = command
    return found


@pytest.fixture(scope="module")
def dist() -> Path:
    """Where the downloads are that every stack of this checkout shares."""
    return Stack().home.dist


@pytest.fixture(scope="module")
def alone(stack: Stack, dist: Path) -> Iterator[Env]:
    """No server is given by the environment; yields the addresses of the session's servers."""
    others = stack.env()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FULCRUM_")]:
            patch.delenv(name)
        yield others


@pytest.fixture
def folder(dist: Path) -> Iterator[Path]:
    """A folder for a stack that the servers' user can reach."""
    found = Path(tempfile.mkdtemp(prefix="fulcrum-test-"))
    found.chmod(0o755)
    yield found
    Stack(found, dist).down(lambda line: None)  # what a failed test left running
    shutil.rmtree(found, ignore_errors=True)


class Own(NamedTuple):
    """A stack that belongs to this module, and what its two first starts answered."""

    stack: Stack
    answers: list[Env]


@pytest.fixture(scope="module")
def own(alone: Env, dist: Path) -> Iterator[Own]:
    """A stack whose servers these tests may kill, brought up by two at once."""
    home = Path(tempfile.mkdtemp(prefix="fulcrum-test-"))
    home.chmod(0o755)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: Stack(home, dist).up(print), range(2)))
    yield Own(Stack(home, dist), answers)
    Stack(home, dist).wipe(print)
    shutil.rmtree(home, ignore_errors=True)


def test_two_starts_at_once_make_one_stack(own: Own) -> None:
    """Two ``up`` of one home wait for each other: one set of servers, one answer."""
    assert own.answers[0] == own.answers[1] == own.stack.env()
    assert all(row.ready for row in own.stack.status())
    mine = {pid: stat(pid) for pid in processes(own.stack.home.path)}
    leaders = {pid for pid, now in mine.items() if now and now.parent == os.getpid()}
    assert leaders == {row.pid for row in own.stack.status()}


def test_second_up_changes_nothing(own: Own) -> None:
    """``up`` of a running stack keeps every process."""
    before = [row.pid for row in own.stack.status()]
    own.stack.up(print)
    assert [row.pid for row in own.stack.status()] == before


def test_two_stacks_run_beside_each_other(own: Own, alone: Env) -> None:
    """Another stack on this machine serves as well, and shares no address with this one."""
    other, mine = alone, own.stack.env()
    assert set(mine.values()).isdisjoint(other.values())
    with psycopg2.connect(other["FULCRUM_POSTGRES_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    kafka = AdminClient({"bootstrap.servers": other["FULCRUM_KAFKA_BOOTSTRAP"]})
    assert kafka.list_topics(timeout=10).brokers


def test_command_line_shows_the_stack(own: Own) -> None:
    """``stack env`` prints what a shell can evaluate; ``stack status`` names every server and succeeds."""
    home = own.stack.home
    script = 'eval "$("$0" -m fulcrum stack env)"; echo "$FULCRUM_REGISTRY_URL"; "$0" -m fulcrum stack status'
    shown = subprocess.run(
        ["bash", "-ec", script, sys.executable],
        env={**os.environ, "FULCRUM_HOME": str(home.path), "FULCRUM_DIST": str(home.dist)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(own.stack.env()["FULCRUM_REGISTRY_URL"] + "\n")
    for row in own.stack.status():
        assert row.name in shown.stdout
        assert str(row.pid) in shown.stdout


def test_servers_run_as_no_root(own: Own) -> None:
    """No server runs as root, whoever starts it."""
    assert all(os.stat(f"/proc/{pid}").st_uid != 0 for pid in processes(own.stack.home.path))


def keep_in_kafka(env: Env, data: Path) -> None:
    """A record, acknowledged by the broker."""
    admin = AdminClient({"bootstrap.servers": env["FULCRUM_KAFKA_BOOTSTRAP"]})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(10)
    failures: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": env["FULCRUM_KAFKA_BOOTSTRAP"], "acks": "all"})
    producer.produce("kept", b"it", on_delivery=lambda error, _: failures.append(error))
    producer.flush(10)
    assert failures == [None]


def find_in_kafka(env: Env) -> bytes | None:
    """The record."""
    consumer = Consumer({"bootstrap.servers": env["FULCRUM_KAFKA_BOOTSTRAP"], "group.id": "finder"})
    consumer.assign([TopicPartition("kept", 0, 0)])
    try:
        message = consumer.poll(10)
        return message.value() if message else None
    finally:
        consumer.close()


def keep_in_rabbitmq(env: Env, data: Path) -> None:
    """A message in a quorum queue, confirmed by the broker.

    RabbitMQ 3.10 writes the name of a new quorum queue to its disk about a second later; a broker killed
    before that loses the queue, though not the messages of older ones.
    """
    (names,) = data.glob("mnesia/*/quorum/*/names.dets")

    async def publish() -> None:
        async with await aio_pika.connect(env["FULCRUM_RABBITMQ_URL"]) as connection:
            channel = await connection.channel(publisher_confirms=True)
            await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
            message = aio_pika.Message(b"it", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, "kept")

    asyncio.run(publish())
    eventually(lambda: b"kept" in names.read_bytes(), within=15, state=names.stat)


def find_in_rabbitmq(env: Env) -> bytes | None:
    """The message."""

    async def get() -> bytes | None:
        async with await aio_pika.connect(env["FULCRUM_RABBITMQ_URL"]) as connection:
            queue = await (await connection.channel()).get_queue("kept")
            message = await queue.get(fail=False)
            return message.body if message else None

    return asyncio.run(get())


def keep_in_postgres(env: Env, data: Path) -> None:
    """A committed row."""
    with psycopg2.connect(env["FULCRUM_POSTGRES_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (what text)")
        cursor.execute("INSERT INTO kept VALUES ('it')")


def find_in_postgres(env: Env) -> bytes | None:
    """The row."""
    with psycopg2.connect(env["FULCRUM_POSTGRES_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT what FROM kept")
        row = cursor.fetchone()
        return row[0].encode() if row else None


def keep_in_registry(env: Env, data: Path) -> None:
    """A registered schema."""
    client = SchemaRegistryClient({"url": env["FULCRUM_REGISTRY_URL"]})
    client.register_schema("kept", Schema('{"type": "record", "name": "It", "fields": []}', "AVRO"))


def find_in_registry(env: Env) -> bytes | None:
    """The schema, under the rule that the stack sets for all."""
    client = SchemaRegistryClient({"url": env["FULCRUM_REGISTRY_URL"]})
    assert client.get_compatibility() == "FULL_TRANSITIVE"
    return b"it" if "It" in str(client.get_latest_version("kept").schema.schema_str) else None


def nothing(env: Env, data: Path) -> None:
    """Redis is a cache: nothing has to survive."""


def find_redis(env: Env) -> bytes | None:
    """Whether it serves again."""
    with redis.Redis.from_url(env["FULCRUM_REDIS_URL"]) as client:
        client.set("kept", "it")
        answer: bytes = client.get("kept")
        return answer


@pytest.mark.parametrize(
    ("name", "keep", "find"),
    [
        ("kafka", keep_in_kafka, find_in_kafka),
        ("rabbitmq", keep_in_rabbitmq, find_in_rabbitmq),
        ("postgres", keep_in_postgres, find_in_postgres),
        ("registry", keep_in_registry, find_in_registry),
        ("redis", nothing, find_redis),
    ],
)
def test_killed_server_returns_with_its_data(
    own: Own, name: str, keep: Callable[[Env, Path], None], find: Callable[[Env], bytes | None]
) -> None:
    """A server killed with ``kill -9`` leaves no process and, started again, has what it acknowledged."""
    env, server = own.stack.env(), own.stack.server(name)
    keep(env, own.stack.home.data(name))
    pid = server.pid
    server.kill(signal.SIGKILL)
    assert {row.name: row.ready for row in own.stack.status()}[name] is False
    with pytest.raises(StackError, match="does not run"):
        _ = server.pid
    server.start()
    assert server.pid != pid
    assert own.stack.env() == env
    found = eventually(lambda: find(env), within=20)
    assert found == b"it"


def test_down_leaves_no_process_and_keeps_the_data(own: Own) -> None:
    """After ``down`` nothing of the stack runs; the next ``up`` has the same addresses and data, but for a
    port that somebody else took meanwhile."""
    env = own.stack.env()
    with psycopg2.connect(env["FULCRUM_POSTGRES_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE lasting AS SELECT 'it' AS what")
    own.stack.down(print)
    assert processes(own.stack.home.path) == {}
    with socket.create_server(("127.0.0.1", own.stack.home.ports()["redis"])):
        again = own.stack.up(print)
    assert again.pop("FULCRUM_REDIS_URL") != env.pop("FULCRUM_REDIS_URL")
    assert again == env
    with psycopg2.connect(again["FULCRUM_POSTGRES_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT what FROM lasting")
        assert cursor.fetchall() == [("it",)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
@pytest.mark.usefixtures("alone")
def test_interrupted_up_leaves_nothing(folder: Path, dist: Path, number: signal.Signals) -> None:
    """``fulcrum stack up`` that is interrupted half-way stops what it has started."""
    with subprocess.Popen(
        [sys.executable, "-m", "fulcrum", "stack", "up"],
        env={**os.environ, "FULCRUM_HOME": str(folder), "FULCRUM_DIST": str(dist)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that run in the background inherit an ignored Ctrl-C; a person's shell does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as up:
        assert up.stdout is not None
        while "redis" not in up.stdout.readline():
            assert up.poll() is None
        assert processes(folder) != {}
        up.send_signal(number)
        rest = up.stdout.read()
    assert up.returncode != 0, rest
    assert "up in" not in rest
    assert processes(folder) == {}


@pytest.mark.usefixtures("alone")
def test_failed_up_shows_the_log_and_leaves_nothing(folder: Path, dist: Path) -> None:
    """A server that cannot start ends ``up`` with its last words and where the rest is; the others stop."""
    mine = Stack(folder, dist)
    mine.home.lay()
    data = mine.home.lay_data("postgres")
    (data / "PG_VERSION").write_text("9.6\n")
    mine.home.account.own(data / "PG_VERSION")
    with pytest.raises(StackError) as caught:
        mine.up(print)
    assert "postgres ended before it was ready" in str(caught.value)
    assert "could not access the server configuration file" in str(caught.value)
    assert str(folder / "logs" / "postgres.log") in str(caught.value)
    assert processes(folder) == {}


@pytest.mark.usefixtures("alone")
def test_port_that_is_taken_before_the_start_is_given_up(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody listens on it between our choice and the server's start: the stack comes up on another."""
    own.stack.down(lambda line: None)
    chosen = Stack._choose_ports
    listeners: list[socket.socket] = []

    def choose_and_lose(self: Stack, say: Callable[[str], None]) -> None:
        chosen(self, say)
        if not listeners:
            listener = socket.create_server(("127.0.0.1", self.home.ports()["redis"]))
            listeners.append(listener)

    monkeypatch.setattr(Stack, "_choose_ports", choose_and_lose)
    said: list[str] = []
    try:
        own.stack.up(said.append)
        assert own.stack.home.ports()["redis"] != listeners[0].getsockname()[1]
        assert all(server.ready for server in own.stack.status())
    finally:
        listeners[0].close()
    assert "taken by others, so choosing other ports: redis" in "\n".join(said)


def test_server_of_the_environment_is_used(own: Own, folder: Path, dist: Path) -> None:
    """A server whose address is given is not started; the rest of the stack uses it."""
    given = own.stack.env()["FULCRUM_POSTGRES_DSN"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.stack.env().items():
            if "REDIS" not in name:
                patch.setenv(name, value)
        mine = Stack(folder, dist)
        env = mine.up(print)
        assert env["FULCRUM_POSTGRES_DSN"] == given
        assert env["FULCRUM_REDIS_URL"] != own.stack.env()["FULCRUM_REDIS_URL"]
        assert [row.name for row in mine.status() if row.pid] == ["redis"]
        mine.wipe(print)
    assert own.stack.env()["FULCRUM_POSTGRES_DSN"] == given
    assert processes(folder) == {}
