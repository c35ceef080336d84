"""The simulated provider over HTTP: one key, one effect, and nothing forgotten by a kill.

Long, because every test token and every failure of the one provider is tried over HTTP.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import aiohttp
import pytest
from eventually import eventually, eventually_async

from fulcrum.errors import Misconfigured
from fulcrum.localstack.home import free_port
from fulcrum.settings import Settings
from fulcrum.workers.psp_simulator import PspSimulator

_ORDER = {"amount_minor": 4200, "currency": "EUR", "token": "pay_ok", "reference": "order 1"}
Answer = tuple[int, dict[str, Any]]


class Caller:
    """Somebody who pays at the provider on ``port``."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def ask(self, method: str, path: str, key: str | None = None, body: Any = None) -> Answer:
        """Status and JSON body of one request."""
        headers = {} if key is None else {"Idempotency-Key": key}
        async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def authorize(self, key: str, **changes: Any) -> Answer:
        """Hold an amount."""
        return await self.ask("POST", "/v1/authorizations", key, {**_ORDER, **changes})

    async def held(self, key: str, token: str = "pay_ok") -> str:
        """Hold an amount; its authorization."""
        status, body = await self.authorize(key, token=token)
        assert (status, body["status"]) == (201, "authorized")
        return str(body["authorization_id"])

    async def change(
        self, what: str, authorization: str, key: str, amount_minor: int | None = None
    ) -> Answer:
        """Void, capture or refund; without an amount the whole of it."""
        body = None if amount_minor is None else {"amount_minor": amount_minor}
        return await self.ask("POST", f"/v1/authorizations/{authorization}/{what}", key, body)

    async def operation(self, key: str) -> Answer:
        """What happened under a key."""
        return await self.ask("GET", f"/v1/operations/{key}")

    async def effects(self, query: str = "") -> list[dict[str, Any]]:
        """What really happened."""
        status, body = await self.ask("GET", f"/v1/effects{query}")
        assert status == 200
        return list(body["effects"])


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    """A caller with connections of its own."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield Caller(session, port)


@asynccontextmanager
async def provider(log: Path | None = None) -> AsyncIterator[Caller]:
    """A simulator in this process, and somebody who calls it."""
    simulator = PspSimulator(Settings(psp_log=log))
    await simulator.start(0)
    try:
        async with calling(simulator.port) as caller:
            yield caller
    finally:
        await simulator.stop()


# --- one key, one effect --------------------------------------------------------------------------


async def test_authorization_is_held_once_per_key() -> None:
    """A repeat gets the same authorization, another key another one."""
    async with provider() as psp:
        first = await psp.held("key 1")
        assert await psp.held("key 1") == first
        assert await psp.held("key 2") != first
        assert [(e["id"], e["kind"], e["key"]) for e in await psp.effects()] == [
            (1, "authorize", "key 1"),
            (2, "authorize", "key 2"),
        ]


async def test_requests_at_once_under_one_key_have_one_effect() -> None:
    """Ten copies that all arrive before the first one acted hold the amount once."""
    async with provider() as psp:
        answers = await asyncio.gather(*(psp.authorize("key 1", token="pay_slow_100") for _ in range(10)))
        assert all(answer == answers[0] for answer in answers)
        assert len(await psp.effects()) == 1


async def test_refusal_is_402_with_a_code() -> None:
    """A declined card holds nothing, and stays declined under this key."""
    async with provider() as psp:
        for _ in range(2):
            assert await psp.authorize("key 1", token="pay_declined") == (
                402,
                {"status": "declined", "code": "card_declined"},
            )
        assert [effect["kind"] for effect in await psp.effects()] == ["decline"]


async def test_key_used_for_another_request_is_422() -> None:
    """The first request under a key is the one it stands for."""
    async with provider() as psp:
        await psp.held("key 1")
        assert await psp.authorize("key 1", amount_minor=1) == (422, {"code": "idempotency_key_reused"})
        assert len(await psp.effects()) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"amount_minor": "4200"}, "amount_minor: '4200'"),
        ({"amount_minor": True}, "amount_minor: True"),
        ({"amount_minor": 0}, "amount_minor: 0 is below 1"),
        ({"amount_minor": -1}, "amount_minor: -1 is below 1"),
        ({"currency": ""}, "currency: ''"),
        ({"token": None}, "token: None"),
        ({"reference": 7}, "reference: 7"),
    ],
)
async def test_bad_field_is_400_and_named(changes: dict[str, Any], named: str) -> None:
    """The error names the field and the value, and nothing happens."""
    async with provider() as psp:
        status, body = await psp.authorize("key 1", **changes)
        assert (status, body["code"]) == (400, "invalid_request")
        assert body["detail"].startswith(named)
        assert await psp.effects() == []


@pytest.mark.parametrize("key", [None, "", "k" * 256])
async def test_request_without_a_usable_key_is_400(key: str | None) -> None:
    """Nothing can be done once without a name for it."""
    async with provider() as psp:
        status, body = await psp.ask("POST", "/v1/authorizations", key, _ORDER)
        assert status == 400
        assert "Idempotency-Key" in body["detail"]
        assert await psp.effects() == []


# --- voids, captures, operations ------------------------------------------------------------------


async def test_void_gives_up_once() -> None:
    """Any number of voids under any keys are one effect."""
    async with provider() as psp:
        authorization = await psp.held("key 1")
        for key in ("void 1", "void 1", "void 2"):
            assert await psp.change("void", authorization, key) == (
                200,
                {"status": "voided", "authorization_id": authorization},
            )
        assert [effect["kind"] for effect in await psp.effects()] == ["authorize", "void"]


async def test_captured_amount_cannot_be_voided() -> None:
    """The conflict says what the authorization is."""
    async with provider() as psp:
        authorization = await psp.held("key 1")
        assert (await psp.change("capture", authorization, "capture 1"))[0] == 200
        status, body = await psp.change("void", authorization, "void 1")
        assert (status, body["code"]) == (409, "wrong_state")
        assert authorization in body["detail"]


async def test_capture_and_refunds_move_the_amount_once_per_key() -> None:
    """In parts, repeated at will; the refusals are 402 and stand under their keys."""
    async with provider() as psp:
        hold = await psp.held("key 1")
        too_much = (402, {"status": "capture_refused", "code": "amount_too_large"})
        taken = (200, {"status": "captured", "authorization_id": hold, "amount_minor": 3000})
        given = (200, {"status": "refunded", "authorization_id": hold, "amount_minor": 1000})
        failed = (402, {"status": "refund_refused", "code": "amount_too_large"})
        for _ in range(2):
            assert await psp.change("capture", hold, "capture 1", 4201) == too_much
            assert await psp.change("capture", hold, "capture 2", 3000) == taken
            assert await psp.change("refund", hold, "refund 1", 1000) == given
            assert await psp.change("refund", hold, "refund 2", 2001) == failed
        assert (await psp.change("capture", hold, "capture 3"))[1]["code"] == "already_captured"
        assert (await psp.operation("refund 1"))[1] == given[1]
        assert (await psp.operation("capture 1"))[1] == too_much[1]
        moved = [(e["kind"], e["amount_minor"]) for e in await psp.effects() if e["code"] is None]
        assert moved == [("authorize", 4200), ("capture", 3000), ("refund", 1000)]


@pytest.mark.parametrize("amount", [0, -1, True, "1", 1.5])
async def test_amount_that_is_none_is_400(amount: Any) -> None:
    """The error names the field, and nothing is taken."""
    async with provider() as psp:
        hold = await psp.held("key 1")
        status, body = await psp.change("capture", hold, "capture", amount)
        assert (status, body["code"]) == (400, "invalid_request")
        assert body["detail"].startswith("amount_minor: ")
        assert len(await psp.effects()) == 1


async def test_hold_that_lapsed_is_not_captured() -> None:
    """It says when it lapses, and then refuses."""
    async with provider() as psp:
        hold = await psp.held("key", token="pay_expires_0")
        assert await psp.change("capture", hold, "capture") == (
            402,
            {"status": "capture_refused", "code": "authorization_expired"},
        )


@pytest.mark.parametrize(("token", "acted"), [("timeout_ok", True), ("timeout_no", False)])
@pytest.mark.parametrize("act", ["capture", "refund"])
async def test_token_can_silence_a_later_act(act: str, token: str, acted: bool) -> None:
    """The hold is made at once; the act's first request is not answered, whether or not it acted."""
    async with provider() as psp:
        hold = await psp.held("key", token=f"pay_{act}_{token}")
        if act == "refund":
            assert (await psp.change("capture", hold, "capture"))[0] == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await psp.change(act, hold, "act", 100)
        assert (await psp.operation("act"))[0] == (200 if acted else 404)
        assert (await psp.change(act, hold, "act", 100))[0] == 200
        assert [effect["kind"] for effect in await psp.effects()].count(act) == 1


async def test_refund_that_fails_late_is_accepted_at_first() -> None:
    """202, then still at it, then failed, and nothing was given back."""
    async with provider() as psp:
        hold = await psp.held("key", token="pay_refund_fails_300")
        assert (await psp.change("capture", hold, "capture"))[0] == 200
        assert await psp.change("refund", hold, "refund", 100) == (202, {"status": "pending"})
        assert await psp.operation("refund") == (409, {"code": "operation_in_progress"})

        async def failed() -> bool:
            return await psp.operation("refund") == (
                200,
                {"status": "refund_refused", "code": "refund_failed"},
            )

        await eventually_async(failed, within=20)
        assert (await psp.change("refund", hold, "refund", 100))[0] == 402
        assert [effect["kind"] for effect in await psp.effects()][-1] == "refuse_refund"


async def test_unknown_authorization_is_404() -> None:
    """What was never held can neither be voided, nor captured, nor refunded."""
    async with provider() as psp:
        for what in ("void", "capture", "refund"):
            assert await psp.change(what, "auth_unknown", what) == (404, {"code": "no_such_authorization"})


async def test_operation_tells_what_happened_under_a_key() -> None:
    """Nothing yet, still at it, done: 404, 409, 200."""
    async with provider() as psp:
        assert await psp.operation("key") == (404, {"code": "no_such_operation"})
        slow = asyncio.create_task(psp.authorize("key", token="pay_slow_300"))

        async def at_it() -> bool:
            return await psp.operation("key") == (409, {"code": "operation_in_progress"})

        await eventually_async(at_it, within=20)
        _, answer = await slow
        assert await psp.operation("key") == (200, answer)
        await psp.change("void", answer["authorization_id"], "void")
        assert (await psp.operation("void"))[1]["status"] == "voided"
        assert (await psp.operation("key"))[1]["status"] == "authorized"


async def test_effects_are_listed_from_a_number_and_by_reference() -> None:
    """A reader goes on where it stopped; a number that is none is 400."""
    async with provider() as psp:
        for key, reference in [("1", "order 1"), ("2", "order 2"), ("3", "order 1")]:
            await psp.authorize(key, reference=reference)
        assert [effect["key"] for effect in await psp.effects("?since=1")] == ["2", "3"]
        assert [effect["key"] for effect in await psp.effects("?since=1&reference=order%201")] == ["3"]
        assert (await psp.ask("GET", "/v1/effects?since=soon"))[0] == 400


# --- silence --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("token", "acted"), [("pay_timeout_ok", True), ("pay_timeout_no", False)])
async def test_silent_token_answers_only_the_second_request(token: str, acted: bool) -> None:
    """The first request is left without an answer, whether or not it acted; the second is answered."""
    async with provider() as psp:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await psp.authorize("key", token=token)
        assert (await psp.operation("key"))[0] == (200 if acted else 404)
        assert (await psp.authorize("key", token=token))[0] == 201
        assert len(await psp.effects()) == 1


async def test_flaky_token_fails_as_often_as_it_says() -> None:
    """503 twice with nothing done, then the amount is held."""
    async with provider() as psp:
        answers = [await psp.authorize("key", token="pay_flaky_2") for _ in range(3)]
        assert [status for status, _ in answers] == [503, 503, 201]
        assert len(await psp.effects()) == 1


async def test_stop_does_not_wait_for_requests_that_are_never_answered() -> None:
    """Whoever waits for the silent answer is told that the provider stops."""
    simulator = PspSimulator(Settings())
    await simulator.start(0)
    async with calling(simulator.port) as psp:
        waiting = asyncio.create_task(psp.authorize("key", token="pay_timeout_ok"))

        async def acted() -> bool:
            return (await psp.operation("key"))[0] == 200

        await eventually_async(acted, within=20)
        async with asyncio.timeout(20):
            await simulator.stop()
            assert await waiting == (503, {"code": "stopping"})


# --- what it remembers ----------------------------------------------------------------------------


async def test_restart_remembers_keys_and_authorizations(tmp_path: Path) -> None:
    """After a restart the same key gets the same answer, and what was voided stays so."""
    log = tmp_path / "new folder" / "effects.jsonl"
    async with provider(log) as psp:
        first, second = await psp.held("key 1"), await psp.held("key 2")
        await psp.change("void", first, "void 1")
        before = await psp.effects()
    async with provider(log) as psp:
        assert await psp.effects() == before
        assert await psp.held("key 2") == second
        await psp.change("void", first, "void again")
        assert await psp.effects() == before
        await psp.held("key 3")
        assert [effect["id"] for effect in await psp.effects()] == [1, 2, 3, 4]


async def test_line_that_a_kill_tore_is_forgotten(tmp_path: Path) -> None:
    """A half line was never answered: it is cut off, and what is written next can be read."""
    log = tmp_path / "effects.jsonl"
    async with provider(log) as psp:
        await psp.held("key 1")
    whole = log.read_bytes()
    log.write_bytes(whole + whole[: len(whole) // 2])
    async with provider(log) as psp:
        assert len(await psp.effects()) == 1
        await psp.held("key 2")
    async with provider(log) as psp:
        assert [effect["key"] for effect in await psp.effects()] == ["key 1", "key 2"]


async def test_log_of_something_else_is_refused(tmp_path: Path) -> None:
    """The error names the file and the line, and what to do."""
    log = tmp_path / "effects.jsonl"
    log.write_text('{"id": 1}\n')
    with pytest.raises(Misconfigured, match=r"effects\.jsonl, line 1 is no effect .*FULCRUM_PSP_LOG"):
        await PspSimulator(Settings(psp_log=log)).start(0)


async def test_log_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """The error names the file and the setting."""
    with pytest.raises(Misconfigured, match=r"cannot be used: .*FULCRUM_PSP_LOG"):
        await PspSimulator(Settings(psp_log=tmp_path)).start(0)


async def test_port_that_is_taken_is_refused() -> None:
    """The error names the port and the setting."""
    simulator = PspSimulator(Settings())
    await simulator.start(0)
    with pytest.raises(Misconfigured, match=f"http_port {simulator.port} .*FULCRUM_HTTP_PORT"):
        await PspSimulator(Settings()).start(simulator.port)
    await simulator.stop()


@contextmanager
def process(port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``fulcrum run psp-simulator`` as a process, once it is ready; killed at the end."""
    env = {**os.environ, "FULCRUM_HTTP_PORT": str(port), "FULCRUM_PSP_LOG": str(log)}
    output = log.with_suffix(".out")
    with output.open("ab") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "fulcrum", "run", "psp-simulator"], env=env, stdout=out, stderr=out
        )
        try:
            eventually(lambda: _ready(port), within=30, state=output.read_text)
            yield running
        finally:
            running.kill()
            running.wait()


def _ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


async def test_kill_forgets_nothing(tmp_path: Path) -> None:
    """After ``kill -9`` amid requests, all that was answered is there, and no key acts twice."""
    log, port = tmp_path / "effects.jsonl", free_port()
    answered: dict[str, dict[str, Any]] = {}

    async def keep_paying(psp: Caller, payer: int) -> None:
        number = 0
        while True:
            key, number = f"{payer}-{number}", number + 1
            try:
                status, body = await psp.authorize(key)
            except aiohttp.ClientError:
                return
            assert status == 201
            answered[key] = body

    with process(port, log) as running:
        async with calling(port) as psp:
            silent = asyncio.create_task(psp.authorize("silent", token="pay_timeout_ok"))
            payers = [asyncio.create_task(keep_paying(psp, payer)) for payer in range(8)]
            await eventually_async(_enough(answered), within=20, state=lambda: len(answered))
            running.kill()
            await asyncio.gather(*payers)
            with pytest.raises(aiohttp.ClientError):
                await silent
    with process(port, log):
        async with calling(port) as psp:
            effects = await psp.effects()
            keys = [effect["key"] for effect in effects]
            assert len(keys) == len(set(keys))
            assert answered.keys() | {"silent"} <= set(keys)
            for key, body in answered.items():
                assert await psp.operation(key) == (200, body)
            assert (await psp.authorize("silent", token="pay_timeout_ok"))[0] == 201
            assert await psp.effects() == effects


def _enough(answered: dict[str, Any]) -> Any:
    async def reached() -> bool:
        return len(answered) >= 100

    return reached


async def test_lapsed_hold_is_held_anew_once_and_remembered(tmp_path: Path) -> None:
    """A restart forgets neither the new hold nor that it took the place of the old one."""
    async with provider(tmp_path / "effects") as psp:
        old = await psp.held("key 1", "pay_expires")
        status, body = await psp.change("reauthorize", old, "anew 1")
        assert (status, body["status"]) == (201, "authorized")
        assert await psp.change("reauthorize", old, "anew 1") == (status, body)
    async with provider(tmp_path / "effects") as psp:
        again = await psp.change("reauthorize", old, "anew 2")
        assert again == (402, {"status": "declined", "code": "already_reauthorized"})
        assert (await psp.change("capture", old, "capture 1"))[1]["code"] == "authorization_expired"
        assert (await psp.change("capture", body["authorization_id"], "capture 2"))[0] == 200
        kinds = [effect["kind"] for effect in await psp.effects()]
    assert kinds == ["authorize", "reauthorize", "refuse_reauthorize", "refuse_capture", "capture"]


async def test_refund_that_fails_late_is_done_under_another_key() -> None:
    """Both are accepted first; what became of them is looked up."""
    async with provider() as psp:
        hold = await psp.held("key 1", "pay_refund_late")
        await psp.change("capture", hold, "capture")
        outcomes = []
        for key in ("refund 1", "refund 2"):
            assert await psp.change("refund", hold, key) == (202, {"status": "pending"})

            async def settled(key: str = key) -> bool:
                return (await psp.operation(key))[0] == 200

            await eventually_async(settled, within=10)
            outcomes.append((await psp.operation(key))[1]["status"])
        assert outcomes == ["refund_refused", "refunded"]
