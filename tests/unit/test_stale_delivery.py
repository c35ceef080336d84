"""Is a message whose channel is gone left alone, so that it comes again and nothing else is disturbed?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.exceptions import ChannelInvalidStateError

from fulcrum.commands.consumer import _Item


class _Forgotten:
    """A message of aio_pika once RabbitMQ was killed: asked for its channel, it raises."""

    @property
    def channel(self) -> Any:
        raise ChannelInvalidStateError


@pytest.mark.parametrize(
    ("message", "stale"),
    [
        (SimpleNamespace(channel=SimpleNamespace(is_closed=False)), False),
        (SimpleNamespace(channel=SimpleNamespace(is_closed=True)), True),
        (_Forgotten(), True),
    ],
    ids=["open", "closed", "forgotten"],
)
def test_it_is_stale_once_its_channel_is_gone(message: Any, stale: bool) -> None:
    """Closed, or closed and forgotten."""
    assert _Item(message, {}, 1).stale is stale
