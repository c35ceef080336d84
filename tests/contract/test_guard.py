"""Does upstream still have the shape that the guard overrides?

Each function that the guard replaces, or whose order of calls it relies on, is pinned by a digest of
its source. When one changes, read it again, adapt ``fulcrum/agents/guard.py``, and pin anew.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch
from aiokafka.protocol.fetch import FetchRequest
from faust.app.base import App
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver

from fulcrum.agents.pins import WRITTEN_FOR, refuse_other_versions
from fulcrum.errors import Misconfigured

PINNED: dict[str, tuple[Callable[..., Any], str]] = {
    "Consumer.pause_partitions": (Consumer.pause_partitions, "27a1c94bdacd54de"),
    "Consumer.resume_partitions": (Consumer.resume_partitions, "afe6b7c02a41d63c"),
    "Consumer.perform_seek": (Consumer.perform_seek, "0e8c130ff4b0afd8"),
    "Consumer.resume_flow": (Consumer.resume_flow, "db59630f25b5819b"),
    "Consumer._wait_next_records": (Consumer._wait_next_records, "6218e1969a636b3f"),
    "Consumer.getmany": (Consumer.getmany, "4b168d84882a70d6"),
    "Consumer._getmany": (ThreadDelegateConsumer._getmany, "f9d47aa9010b5ff2"),
    "Consumer.seek_wait": (ThreadDelegateConsumer.seek_wait, "e9db5bbc4ceb2543"),
    "Thread.getmany": (driver.AIOKafkaConsumerThread.getmany, "26fc5fc9f3b667e1"),
    "Thread._fetch_records": (driver.AIOKafkaConsumerThread._fetch_records, "39a2c6c79fc1455a"),
    "Thread._seek_wait": (driver.AIOKafkaConsumerThread._seek_wait, "9d221e816d940467"),
    "Fetcher.fetched_records": (Fetcher.fetched_records, "be4348896b9b66af"),
    "Fetcher._proc_fetch_request": (Fetcher._proc_fetch_request, "59bf948fff47eed5"),
    "FetchRequest": (FetchRequest, "ef21d383f1372a25"),
    "FetchResult.getall": (FetchResult.getall, "3e717e30de5068d5"),
    "FetchResult.check_assignment": (FetchResult.check_assignment, "b5340df67e3f330f"),
    "TopicPartitionState": (TopicPartitionState, "2b83334afadf6d98"),
    "Consumer.ack": (Consumer.ack, "5fcf41cf45153475"),
    "Consumer._filter_tps_with_pending_acks": (Consumer._filter_tps_with_pending_acks, "f6f9239774234e7e"),
    "Consumer._filter_committable_offsets": (Consumer._filter_committable_offsets, "dc5e9baf5d994485"),
    "Consumer._new_offset": (Consumer._new_offset, "1d2c7ea89a7ad4f1"),
    "Consumer._should_commit": (Consumer._should_commit, "5ce941793947ad42"),
    "Consumer._commit_offsets": (Consumer._commit_offsets, "1a69799041188441"),
    "Consumer.on_partitions_revoked": (Consumer.on_partitions_revoked, "d04b7ae72c6fc206"),
    "Consumer._drain_messages": (Consumer._drain_messages, "44a2500309e83c63"),
    "Recovery.on_recovery_completed": (Recovery.on_recovery_completed, "6ef567acf072e46d"),
    "Recovery._restart_recovery": (Recovery._restart_recovery.fun, "6bd8a8558a2dffe4"),
    "Recovery._resume_streams": (Recovery._resume_streams, "d986a6710c1aca98"),
    "App._on_partitions_revoked": (App._on_partitions_revoked, "d5c895bbe57dc73a"),
    "App._on_partitions_assigned": (App._on_partitions_assigned, "de932b7927db85b3"),
    "App._new_transport": (App._new_transport, "42db531312dd776f"),
    "PartitionAssignor.on_assignment": (PartitionAssignor.on_assignment, "72f34bf053d696b5"),
    "PartitionAssignor.metadata": (PartitionAssignor.metadata, "6d7f0ebcd61e8b4d"),
    "GroupCoordinator.request_rejoin": (GroupCoordinator.request_rejoin, "f70a261c91c38cb5"),
    "Consumer._new_consumer_thread": (driver.Consumer._new_consumer_thread, "0870ec53dea75083"),
    "Thread._create_worker_consumer": (
        driver.AIOKafkaConsumerThread._create_worker_consumer,
        "c2701bfc3e6f6cad",
    ),
    "TableManager.on_start": (TableManager.on_start, "365dd25fbc0e0684"),
    "MessageAccumulator.drain_by_nodes": (MessageAccumulator.drain_by_nodes, "fc995afbfc5718e2"),
    "MessageBatch.remaining_linger": (MessageBatch.remaining_linger, "6f296891237ba250"),
    "Producer._new_producer": (driver.Producer._new_producer, "e72355c3430ed02f"),
    "App._new_consumer": (App._new_consumer, "bff6ccd646b71ea9"),
    "Producer._settings_extra": (driver.Producer._settings_extra, "a4c7bc41b6382223"),
}


def digest(function: Callable[..., Any]) -> str:
    """A short digest of the function's source."""
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", PINNED)
def test_upstream_is_what_the_guard_was_written_for(name: str) -> None:
    """A changed function upstream must be read before it is overridden again."""
    function, pinned = PINNED[name]

    assert digest(function) == pinned, f"{name} changed upstream: review fulcrum/agents/guard.py"


def test_setup_cfg_pins_what_the_guard_was_written_for() -> None:
    """The guard reaches into private parts of exactly these versions, so no other may be installed."""
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    required = setup["options"]["install_requires"].splitlines()
    pins = {line.split("==")[0].split("[")[0]: line.split("==")[1] for line in required if "==" in line}
    assert WRITTEN_FOR.items() <= pins.items()
    refuse_other_versions()


@pytest.mark.parametrize(("package", "found"), [("aiokafka", "0.13.0"), ("no-such-package", "missing")])
def test_the_agents_do_not_start_on_another_version(
    monkeypatch: pytest.MonkeyPatch, package: str, found: str
) -> None:
    """An override that no longer fits would lose events in silence; the error says what to install."""
    monkeypatch.setattr("fulcrum.agents.pins.WRITTEN_FOR", {**WRITTEN_FOR, package: "9.9"})
    monkeypatch.setattr("fulcrum.agents.pins._installed", {**WRITTEN_FOR, package: found}.__getitem__)
    with pytest.raises(Misconfigured, match=rf"^{package} is {found}, but .*pip install .*{package}==9.9"):
        refuse_other_versions()
