"""How our client of the payment provider reads its answers, and its silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from eventually import eventually_async
from intake import free_port

from fulcrum.errors import OutcomeUnknown, Rejected, Unavailable
from fulcrum.settings import Settings
from fulcrum.workers.payment_moves import (
    Authorized,
    Captured,
    CaptureRefused,
    Declined,
    Voided,
    VoidRefused,
)
from fulcrum.workers.provider import Provider
from fulcrum.workers.psp_simulator import PspSimulator

Answers = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def client(url: str, patience: float = 20.0) -> AsyncIterator[Provider]:
    """Our client of the provider at ``url``."""
    provider = Provider(Settings(psp_url=url, psp_timeout=patience))
    try:
        yield provider
    finally:
        await provider.close()


@asynccontextmanager
async def answering(answers: Answers) -> AsyncIterator[str]:
    """The address of something that takes a request and does what ``answers`` does with it."""
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """The address of a simulator."""
    simulator = PspSimulator(Settings())
    await simulator.start(port=0)
    yield f"http://127.0.0.1:{simulator.port}"
    await simulator.stop()


async def hold(provider: Provider, token: str = "pay_ok", key: str | None = None) -> Any:
    """Ask for 12.50 EUR."""
    return await provider.authorize(key or str(uuid4()), 1250, "EUR", token, "order-1")


async def test_holds_refusals_and_voids_are_read_and_found_by_their_keys(url: str) -> None:
    """An answer now and a look-up later say the same."""
    held_key, refused_key, void_key = (str(uuid4()) for _ in range(3))
    async with client(url) as provider:
        held = await hold(provider, key=held_key)
        refused = await hold(provider, "pay_insufficient", refused_key)
        voided = await provider.void(held.authorization_id, void_key)
        found = [await provider.outcome_of(key) for key in (held_key, refused_key, void_key, str(uuid4()))]

    assert isinstance(held, Authorized)
    assert (refused, voided) == (Declined("insufficient_funds"), Voided(held.authorization_id))
    assert found == [held, refused, voided, None]


async def test_time_at_which_a_hold_lapses_is_read_and_found_by_its_key(url: str) -> None:
    """As an aware time, which an answer now and a look-up later both tell."""
    key, before = str(uuid4()), datetime.now(UTC)
    async with client(url) as provider:
        held = await hold(provider, "pay_expires_90", key)
        found = await provider.outcome_of(key)

    assert held.expires_at is not None
    assert before <= held.expires_at - timedelta(seconds=90) <= datetime.now(UTC)
    assert found == held


@pytest.mark.parametrize(("token", "acted"), [("pay_timeout_ok", True), ("pay_timeout_no", False)])
async def test_silence_is_unknown_whether_or_not_it_acted(url: str, token: str, acted: bool) -> None:
    """Only a look-up tells."""
    key = str(uuid4())
    async with client(url, patience=0.3) as provider:
        with pytest.raises(OutcomeUnknown, match="did not answer"):
            await hold(provider, token, key)
    async with client(url) as provider:
        found = await provider.outcome_of(key)

    assert isinstance(found, Authorized) == acted


async def test_what_the_provider_is_still_at_is_unknown(url: str) -> None:
    """Its key is neither found nor unheard of until it is done."""
    key = str(uuid4())
    async with client(url) as provider:
        asking = asyncio.create_task(hold(provider, "pay_slow_2000", key))

        async def at_it() -> bool:
            try:
                return await provider.outcome_of(key) is not None
            except OutcomeUnknown as error:
                return "operation_in_progress" in str(error)

        await eventually_async(at_it, within=10)
        assert not asking.done()
        held = await asking

        assert await provider.outcome_of(key) == held


async def test_a_provider_that_says_503_did_nothing(url: str) -> None:
    """Unavailable, not unknown."""
    async with client(url) as provider:
        with pytest.raises(Unavailable, match="503"):
            await hold(provider, "pay_flaky_1")


async def test_what_the_provider_does_not_understand_is_rejected(url: str) -> None:
    """Asking again would not help."""
    async with client(url) as provider:
        with pytest.raises(Rejected, match="404 no_such_authorization"):
            await provider.void("auth_0", str(uuid4()))
        with pytest.raises(Rejected, match="400 invalid_request amount_minor"):
            await provider.authorize(str(uuid4()), 0, "EUR", "pay_ok", "order-1")


async def test_a_provider_that_is_down_was_not_asked() -> None:
    """Nobody listens, so nothing can have happened."""
    async with client(f"http://127.0.0.1:{free_port()}") as provider:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await hold(provider)


async def test_a_connection_lost_after_sending_is_unknown() -> None:
    """The request was taken, and then the line went dead."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with answering(hang_up) as url, client(url) as provider:
        with pytest.raises(OutcomeUnknown):
            await hold(provider)


_LAPSES = b'{"status": "authorized", "authorization_id": "auth_1", "expires_at": %s}'


@pytest.mark.parametrize(
    ("head", "body", "error"),
    [
        (b"502 Bad Gateway", b"<h1>no</h1>", Unavailable),
        (b"429 Too Many Requests", b'{"code": "slow_down"}', OutcomeUnknown),
        (b"201 Created", b'{"status": "authorized"}', Rejected),
        (b"201 Created", b"[]", Rejected),
        (b"201 Created", _LAPSES % b'"tomorrow"', Rejected),
        (b"201 Created", _LAPSES % b'"2026-03-01T12:00:00"', Rejected),
        (b"201 Created", _LAPSES % b"1772366400", Rejected),
        (b"401 Unauthorized", b'{"code": "no_key"}', Rejected),
    ],
)
async def test_an_odd_answer_is_one_of_three(head: bytes, body: bytes, error: type[Exception]) -> None:
    """A gateway that answers for it, a limit, a body without its id or with no proper time in it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body))
        await writer.drain()
        writer.close()

    async with answering(answer) as url, client(url) as provider:
        with pytest.raises(error):
            await hold(provider)


async def test_hold_that_lapsed_is_had_anew_and_the_refusals_say_which_key(url: str) -> None:
    """An answer now and a look-up later say the same; a void of what was taken is refused, not rejected."""
    refused_key, anew_key, captured_key = (str(uuid4()) for _ in range(3))
    async with client(url) as provider:
        held = await hold(provider, "pay_expires")
        refused = await provider.capture(held.authorization_id, 1250, refused_key)
        anew = await provider.reauthorize(held.authorization_id, anew_key)
        found = [await provider.outcome_of(key) for key in (refused_key, anew_key)]
        assert isinstance(anew, Authorized)
        assert anew.authorization_id != held.authorization_id
        taken = await provider.capture(anew.authorization_id, 1250, captured_key)
        voids = [await provider.void(each.authorization_id, str(uuid4())) for each in (held, anew)]

    assert refused == CaptureRefused("authorization_expired", refused_key)
    assert found == [refused, anew]
    assert taken == Captured(anew.authorization_id, 1250)
    assert voids == [VoidRefused(held.authorization_id), VoidRefused(anew.authorization_id)]


async def test_hold_that_cannot_be_had_anew_is_declined(url: str) -> None:
    """With the provider's code."""
    async with client(url) as provider:
        held = await hold(provider, "pay_expires_for_good")
        key = str(uuid4())
        assert await provider.reauthorize(held.authorization_id, key) == Declined("card_declined")
        assert await provider.outcome_of(key) == Declined("card_declined")
