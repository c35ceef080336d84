"""Is a message whose channel is gone left alone, so that it comes again and nothing else is disturbed?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.exceptions import ChannelInvalidStateError

from fulcrum.commands.settlement import InHand


class _Raises:
    """A message of aio_pika once its channel is closed: asked for it, it raises."""

    @property
    def channel(self) -> Any:
        raise ChannelInvalidStateError


@pytest.mark.parametrize(
    ("message", "stale"),
    [
        (SimpleNamespace(channel=SimpleNamespace(is_closed=False)), False),
        (SimpleNamespace(channel=SimpleNamespace(is_closed=True)), True),
        (_Raises(), True),
    ],
    ids=["open", "closed", "raises"],
)
def test_it_is_stale_once_its_channel_is_gone(message: Any, stale: bool) -> None:
    """Closed, whichever way the message tells it."""
    assert InHand(message, {}).stale is stale
