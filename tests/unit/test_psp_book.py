"""The simulated provider's scripts and its book: what a token does, and that nothing happens twice.

Long, because each token and each act has its own lines.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulcrum.workers.psp_book import (
    Book,
    Effect,
    KeyReused,
    NoSuchAuthorization,
    Request,
    WrongState,
    operation_body,
)
from fulcrum.workers.psp_tokens import Reaction, reaction, refusal

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def wanted(token: str = "pay_ok", amount_minor: int = 4200, reference: str = "order 1") -> Request:
    """What an authorization is asked for."""
    return Request(reference, token, amount_minor, "EUR")


def held(book: Book, key: str = "key 1") -> str:
    """Hold an amount; the id of the hold."""
    effect, new = book.authorize(key, wanted(), NOON)
    assert new
    assert effect.authorization_id is not None
    return effect.authorization_id


# --- tokens ---------------------------------------------------------------------------------------

_DO = Reaction()


@pytest.mark.parametrize(
    ("token", "reactions"),
    [
        ("pay_ok", [_DO, _DO]),
        ("pay_declined", [_DO, _DO]),
        ("pay_timeout_ok", [Reaction(act=True, answer=False), _DO, _DO]),
        ("pay_timeout_no", [Reaction(act=False, answer=False), _DO, _DO]),
        ("pay_flaky_2", [Reaction(act=False), Reaction(act=False), _DO]),
        ("pay_flaky_0", [_DO]),
        ("pay_slow_250", [Reaction(delay=0.25), Reaction(delay=0.25)]),
        ("pay_flaky_", [_DO]),
        ("pay_expires_60", [_DO, _DO]),
        ("pay_capture_timeout_ok", [_DO, _DO]),
        ("pay_refund_flaky_2", [_DO, _DO]),
    ],
)
def test_token_is_a_script_of_its_requests(token: str, reactions: list[Reaction]) -> None:
    """Each request under a key gets what the token says about its number."""
    assert [reaction(token, number) for number in range(1, len(reactions) + 1)] == reactions


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("pay_ok", None),
        ("pay_timeout_ok", None),
        ("pay_timeout_no", None),
        ("pay_flaky_3", None),
        ("pay_slow_10", None),
        ("pay_expires_60", None),
        ("pay_expires", None),
        ("pay_expires_for_good", None),
        ("pay_refund_late", None),
        ("pay_refund_fails", None),
        ("pay_late", "invalid_payment_method"),
        ("pay_fails", "invalid_payment_method"),
        ("pay_refund_expires", "invalid_payment_method"),
        ("pay_capture_late", "invalid_payment_method"),
        ("pay_capture_declined", None),
        ("pay_refund_fails_100", None),
        ("pay_capture_fails_100", "invalid_payment_method"),
        ("pay_refund_expires_1", "invalid_payment_method"),
        ("pay_fails_100", "invalid_payment_method"),
        ("pay_declined", "card_declined"),
        ("pay_insufficient", "insufficient_funds"),
        ("pay_flaky_", "invalid_payment_method"),
        ("pay_slow_1x", "invalid_payment_method"),
        ("pay_expires_", "invalid_payment_method"),
        ("pay_slow_1234567", "invalid_payment_method"),
        ("4111111111111111", "invalid_payment_method"),
        ("", "invalid_payment_method"),
    ],
)
def test_token_is_good_or_refused_with_a_code(token: str, code: str | None) -> None:
    """What is no known token is refused like an invalid card."""
    assert refusal(token) == code


@pytest.mark.parametrize("act", ["capture", "refund"])
def test_token_can_be_a_script_for_a_later_act(act: str) -> None:
    """Its own act goes by the script, and every other one is done at once."""
    other = {"capture": "refund", "refund": "capture"}[act]
    silent = Reaction(act=True, answer=False)
    assert [reaction(f"pay_{act}_timeout_ok", n, act) for n in (1, 2)] == [silent, _DO]
    assert reaction(f"pay_{act}_timeout_ok", 1, other) == _DO
    assert reaction(f"pay_{act}_timeout_no", 1, act) == Reaction(act=False, answer=False)
    assert reaction(f"pay_{act}_slow_300", 1, act) == Reaction(delay=0.3)
    assert reaction("pay_timeout_ok", 1, act) == _DO
    assert refusal(f"pay_{act}_declined", act) == "card_declined"
    assert refusal(f"pay_{act}_declined", other) is None


def test_refund_that_fails_late_is_accepted_first() -> None:
    """What is said at once is no outcome."""
    assert reaction("pay_refund_fails_200", 1, "refund") == Reaction(delay=0.2, accepted=True)
    assert refusal("pay_refund_fails_200", "refund") == "refund_failed"
    assert refusal("pay_refund_fails_200", "capture") is None


def test_refund_fails_at_once_or_late_or_only_the_first_time() -> None:
    """Whatever is asked of the provider at last is said by the token."""
    assert reaction("pay_refund_fails", 1, "refund") == _DO
    assert refusal("pay_refund_fails", "refund", refused=3) == "refund_failed"
    assert reaction("pay_refund_late", 1, "refund") == Reaction(delay=0.5, accepted=True)
    assert [refusal("pay_refund_late", "refund", refused) for refused in (0, 1)] == ["refund_failed", None]


# --- authorizations -------------------------------------------------------------------------------


def test_authorization_is_one_effect() -> None:
    """The book keeps all that was asked for, under its key."""
    book = Book()
    effect, new = book.authorize("key 1", wanted(), NOON)
    assert new
    assert effect == Effect(
        id=1,
        at="2026-03-01T12:00:00+00:00",
        kind="authorize",
        key="key 1",
        reference="order 1",
        token="pay_ok",
        amount_minor=4200,
        currency="EUR",
        authorization_id=effect.authorization_id,
    )
    assert book.operation("key 1") is effect
    assert operation_body(effect) == {
        "status": "authorized",
        "authorization_id": effect.authorization_id,
    }


def test_refusal_is_an_effect_without_an_authorization() -> None:
    """A declined request holds nothing, and says why."""
    effect, _ = Book().authorize("key 1", wanted("pay_declined"), NOON)
    assert (effect.kind, effect.authorization_id) == ("decline", None)
    assert operation_body(effect) == {"status": "declined", "code": "card_declined"}


@pytest.mark.parametrize("token", ["pay_ok", "pay_declined"])
def test_same_key_gets_the_same_answer(token: str) -> None:
    """A repeat has no second effect."""
    book = Book()
    first, _ = book.authorize("key 1", wanted(token), NOON)
    assert book.authorize("key 1", wanted(token), NOON) == (first, False)
    assert book.effects == [first]


def test_two_keys_hold_twice() -> None:
    """The key, and nothing else, makes two requests the same."""
    book = Book()
    assert held(book, "key 1") != held(book, "key 2")
    assert [effect.id for effect in book.effects] == [1, 2]


@pytest.mark.parametrize("other", [wanted("pay_slow_1"), wanted(amount_minor=1), wanted(reference="order 2")])
def test_key_used_for_another_request_is_an_error(other: Request) -> None:
    """A key stands for one request for ever."""
    book = Book()
    held(book)
    with pytest.raises(KeyReused):
        book.authorize("key 1", other, NOON)


def test_hold_that_lapses_says_when() -> None:
    """The time is counted from the hold, and a repeat or a look-up later says the same."""
    book = Book()
    effect, _ = book.authorize("key 1", wanted("pay_expires_90"), NOON)
    again, _ = book.authorize("key 1", wanted("pay_expires_90"), NOON + timedelta(seconds=30))
    assert again is book.operation("key 1") is effect
    assert operation_body(effect) == {
        "status": "authorized",
        "authorization_id": effect.authorization_id,
        "expires_at": "2026-03-01T12:01:30+00:00",
    }


# --- voids and captures ---------------------------------------------------------------------------


def test_void_gives_up_once_under_any_key() -> None:
    """What is voided stays so, whoever asks."""
    book = Book()
    authorization = held(book)
    effect, new = book.void("void 1", authorization, NOON)
    assert (effect.kind, effect.reference, effect.amount_minor, new) == ("void", "order 1", 4200, True)
    assert book.void("void 1", authorization, NOON) == (effect, False)
    assert book.void("void 2", authorization, NOON) == (effect, False)
    assert [each.kind for each in book.effects] == ["authorize", "void"]
    assert book.operation("key 1") == book.effects[0]


def test_what_was_captured_cannot_be_voided_nor_the_reverse() -> None:
    """The void is a conflict; the capture is refused, and the refusal stands under its key."""
    book = Book()
    first, second = held(book, "key 1"), held(book, "key 2")
    book.capture("capture 1", first, 4200, NOON)
    book.void("void 2", second, NOON)
    with pytest.raises(WrongState, match="is captured"):
        book.void("void 1", first, NOON)
    effect, _ = book.capture("capture 2", second, 4200, NOON)
    assert (effect.kind, effect.code) == ("refuse_capture", "authorization_voided")
    assert book.operation("capture 2") is effect
    assert operation_body(effect) == {"status": "capture_refused", "code": "authorization_voided"}


def test_what_lapsed_can_be_voided_and_not_captured() -> None:
    """To give up what is gone is no mistake; to take it is refused."""
    book = Book()
    for number, due in enumerate([89, 90], start=1):
        effect, _ = book.authorize(f"key {number}", wanted("pay_expires_90"), NOON)
        lapsing, then = str(effect.authorization_id), NOON + timedelta(seconds=due)
        code = book.capture(f"capture {number}", lapsing, 4200, then)[0].code
        assert code == (None if due < 90 else "authorization_expired")
    assert operation_body(book.void("void", lapsing, then)[0]) == {
        "status": "voided",
        "authorization_id": lapsing,
    }


@pytest.mark.parametrize(("amount", "code"), [(4200, None), (1, None), (4201, "amount_too_large")])
def test_capture_takes_at_most_what_is_held_and_once(amount: int, code: str | None) -> None:
    """A part is enough; a second capture is refused whatever it asks for, and a repeat is none."""
    book = Book()
    hold = held(book)
    effect, new = book.capture("capture 1", hold, amount, NOON)
    assert (effect.code, effect.amount_minor, new) == (code, amount, True)
    assert book.capture("capture 1", hold, amount, NOON) == (effect, False)
    second, _ = book.capture("capture 2", hold, 1, NOON)
    assert second.code == ("already_captured" if code is None else None)
    with pytest.raises(KeyReused):
        book.capture("capture 1", hold, amount + 1, NOON)


def test_refunds_give_back_at_most_what_was_taken() -> None:
    """In parts, each under its own key; what goes beyond is refused and moves nothing."""
    book = Book()
    hold = held(book)
    assert book.refund("too early", hold, 1, NOON)[0].code == "not_captured"
    book.capture("capture", hold, 3000, NOON)
    for key, amount, code in [
        ("refund 1", 1000, None),
        ("refund 2", 2001, "amount_too_large"),
        ("refund 3", 2000, None),
        ("refund 4", 1, "amount_too_large"),
    ]:
        effect, _ = book.refund(key, hold, amount, NOON)
        assert effect.code == code
    assert operation_body(book.effects[3]) == {
        "status": "refunded",
        "authorization_id": hold,
        "amount_minor": 1000,
    }
    assert Book(book.effects).refund("refund 5", hold, 1, NOON)[0].code == "amount_too_large"


def test_lapsed_hold_is_had_anew_once_and_never_twice() -> None:
    """What is still held, was taken, given up or replaced is not; the refusal stands under its key."""
    book = Book()
    effect, _ = book.authorize("key 1", wanted("pay_expires"), NOON)
    old = str(effect.authorization_id)
    assert book.capture("capture 1", old, 1, NOON)[0].code == "authorization_expired"
    anew, new = book.reauthorize("anew 1", old, NOON)
    assert (anew.kind, anew.replaces, anew.amount_minor, new) == ("reauthorize", old, 4200, True)
    assert book.reauthorize("anew 1", old, NOON) == (anew, False)
    assert anew.authorization_id not in (None, old)
    assert book.reauthorize("anew 2", old, NOON)[0].code == "already_reauthorized"
    assert book.reauthorize("anew 3", str(anew.authorization_id), NOON)[0].code == "authorization_active"
    with pytest.raises(WrongState, match="took the place"):
        book.void("void 1", old, NOON)
    with pytest.raises(KeyReused):
        book.reauthorize("anew 1", str(anew.authorization_id), NOON)
    assert book.capture("capture 2", str(anew.authorization_id), 4200, NOON)[0].code is None
    assert Book(book.effects).reauthorize("anew 2", old, NOON)[1] is False


def test_hold_that_lapses_at_a_time_is_had_anew_for_as_long() -> None:
    """Before that time it is still held; after a void it is nobody's any more."""
    book = Book()
    effect, _ = book.authorize("key 1", wanted("pay_expires_90"), NOON)
    old, then = str(effect.authorization_id), NOON + timedelta(seconds=90)
    assert book.reauthorize("too early", old, NOON)[0].code == "authorization_active"
    anew, _ = book.reauthorize("anew", old, then)
    assert anew.expires_at == "2026-03-01T12:03:00+00:00"
    voided, _ = book.authorize("key 2", wanted("pay_expires"), NOON)
    book.void("void", str(voided.authorization_id), NOON)
    assert book.reauthorize("late", str(voided.authorization_id), NOON)[0].code == "authorization_voided"
    refused, _ = book.authorize("key 3", wanted("pay_expires_for_good"), NOON)
    assert book.reauthorize("no", str(refused.authorization_id), NOON)[0].code == "card_declined"


def test_what_was_never_held_cannot_be_voided() -> None:
    """The error names the authorization."""
    with pytest.raises(NoSuchAuthorization, match="auth_unknown"):
        Book().void("void 1", "auth_unknown", NOON)


def test_key_of_an_authorization_cannot_void() -> None:
    """A key is not shared between kinds of operations, nor between authorizations."""
    book = Book()
    first, second = held(book, "key 1"), held(book, "key 2")
    book.void("void 1", first, NOON)
    with pytest.raises(KeyReused):
        book.void("key 1", first, NOON)
    with pytest.raises(KeyReused):
        book.void("void 1", second, NOON)
    with pytest.raises(KeyReused):
        book.authorize("void 1", wanted(), NOON)


# --- the book as a whole --------------------------------------------------------------------------


def test_effects_are_listed_after_a_number_and_by_reference() -> None:
    """A reader goes on where it stopped, for one business or for all."""
    book = Book()
    for number, reference in enumerate(["order 1", "order 2", "order 1"]):
        book.authorize(f"key {number}", wanted(reference=reference), NOON)
    assert [effect.id for effect in book.since(0)] == [1, 2, 3]
    assert [effect.id for effect in book.since(1)] == [2, 3]
    assert [effect.id for effect in book.since(1, "order 1")] == [3]
    assert book.since(3) == []


_operations = st.lists(
    st.tuples(
        st.sampled_from(["authorize", "void", "capture", "refund"]), st.integers(0, 3), st.integers(0, 3)
    ),
    max_size=30,
)


@settings(deadline=None)
@given(_operations, st.integers(0, 30))
def test_book_read_back_answers_the_same(operations: list[tuple[str, int, int]], restart: int) -> None:
    """A book that was rebuilt from its effects half way ends like one that was not."""
    steady, restarted = Book(), Book()
    for number, (kind, key, target) in enumerate(operations):
        if number == restart:
            restarted = Book(restarted.effects)
        outcomes = [outcome(book, kind, key, target) for book in (steady, restarted)]
        assert outcomes[0] == outcomes[1]
    assert steady.effects == restarted.effects
    settled = [effect.authorization_id for effect in steady.effects if effect.kind in ("void", "capture")]
    assert len(settled) == len(set(settled))


def outcome(book: Book, kind: str, key: int, target: int) -> object:
    """What the book says to one operation."""
    holds = [effect.authorization_id for effect in book.effects if effect.kind == "authorize"]
    hold = holds[target] if target < len(holds) else "auth_unknown"
    assert hold is not None
    try:
        match kind:
            case "authorize":
                return book.authorize(f"key {key}", wanted(), NOON)
            case "void":
                return book.void(f"key {key}", hold, NOON)
            case "refund":
                return book.refund(f"key {key}", hold, 2500, NOON)
        return book.capture(f"key {key}", hold, 4200, NOON)
    except (KeyReused, NoSuchAuthorization, WrongState) as error:
        return type(error), str(error)
