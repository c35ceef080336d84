"""Which bytes did the courier sign, and when?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulcrum.errors import Forbidden
from fulcrum.workers.signature import sign, verify

BODY = b'{"update_id": "upd_1"}'
AT = 1_772_366_400
#: Made with openssl: printf '%s.%s' 1772366400 '{"update_id": "upd_1"}' | openssl dgst -sha256 -hmac first
VECTOR = "535606ed43b8bf2d4ced307830289fd5248726b83d2d8ce05953a6e4d9081094"


def check(header: str | None, *secrets: str, body: bytes = BODY, now: float = AT) -> None:
    """Verify with the usual tolerance."""
    verify(header, body, secrets or ("first",), now, 300)


def test_signature_is_that_of_openssl() -> None:
    """HMAC-SHA256 over the time, a dot and the body."""
    assert sign(["first"], BODY, AT) == f"t={AT},v1={VECTOR}"
    check(f"t={AT},v1={VECTOR}")


def test_either_side_may_change_its_secret_first() -> None:
    """While there are two, a message signed with either is accepted, and one signed with both by either."""
    check(sign(["old"], BODY, AT), "new", "old")
    check(sign(["new"], BODY, AT), "new", "old")
    check(sign(["old", "new"], BODY, AT), "new")
    check(sign(["old", "new"], BODY, AT), "old")
    with pytest.raises(Forbidden, match="another secret"):
        check(sign(["old"], BODY, AT), "new")


@pytest.mark.parametrize(("now", "accepted"), [(300, True), (301, False), (-300, True), (-301, False)])
def test_a_signature_is_good_for_a_while(now: int, accepted: bool) -> None:
    """Five minutes before and after its time, and no longer."""
    header = sign(["first"], BODY, AT)
    if accepted:
        check(header, now=AT + now)
    else:
        with pytest.raises(Forbidden, match="more than 300 s away"):
            check(header, now=AT + now)


@given(st.binary(max_size=40).filter(lambda body: body != BODY))
def test_no_other_body_has_the_signature(body: bytes) -> None:
    """Neither a changed one nor none."""
    with pytest.raises(Forbidden):
        check(sign(["first"], BODY, AT), body=body)


def test_the_time_is_signed_too() -> None:
    """A replay cannot be made young."""
    header = sign(["first"], BODY, AT - 3600)
    with pytest.raises(Forbidden, match="right"):
        check(header.replace(f"t={AT - 3600}", f"t={AT}"))


def test_nobody_without_a_secret_is_believed() -> None:
    """With no secret set there is no right signature."""
    with pytest.raises(Forbidden):
        verify(sign([], BODY, AT), BODY, (), AT, 300)
    with pytest.raises(Forbidden):
        verify(sign([""], BODY, AT), BODY, (), AT, 300)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"t={AT}",
        f"v1={VECTOR}",
        f"t=,v1={VECTOR}",
        f"t=-5,v1={VECTOR}",
        f"t=٣,v1={VECTOR}",
        f"t={'9' * 40},v1={VECTOR}",
        f"t={AT},t={AT},v1={VECTOR}",
        f"t={AT},v1=é",
        f"t={AT},v0={VECTOR}",
        f"t={AT},v1={VECTOR[:-1]}",
        "," * 5000,
    ],
)
def test_a_bad_header_is_refused(header: str | None) -> None:
    """Whatever stands in it; the right signature is never told."""
    with pytest.raises(Forbidden) as caught:
        check(header)
    assert VECTOR not in str(caught.value)


@given(st.text(max_size=60))
def test_any_header_is_refused_in_the_same_way(header: str) -> None:
    """No text makes it fail otherwise."""
    with pytest.raises(Forbidden):
        check(header)
