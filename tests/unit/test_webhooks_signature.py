"""Who may write into a user's log: without these anybody on the network could, or could do so twice."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.webhooks.bucket import Buckets
from producers.webhooks.seen import KEEP_NS, Seen
from producers.webhooks.signature import (
    EVENT_ID,
    SIGNATURE,
    TIMESTAMP,
    Claims,
    RefusedRequestError,
    claims,
    prove,
    sign,
)
from tidewire.errors import TidewireError

SECOND = 10**9
NOW = 1_763_740_800
SECRET = b"0123456789abcdef"


def headers(at: int = NOW, body: bytes = b"{}", event: str = "e1") -> dict[str, str]:
    return {TIMESTAMP: str(at), SIGNATURE: sign(str(at), body, SECRET), EVENT_ID: event}


def outcome(found: dict[str, str], body: bytes = b"{}", now: int = NOW) -> str:
    try:
        prove(claims(found, now * SECOND), body, SECRET)
    except RefusedRequestError as refusal:
        return refusal.outcome if refusal.status in (400, 401) else f"HTTP {refusal.status}"
    return "taken"


def test_the_signature_is_the_documented_one() -> None:
    """A sender written from the documents must be understood."""
    expected = hmac.new(SECRET, b"1763740800." + b'{"a":1}', hashlib.sha256).hexdigest()
    assert sign("1763740800", b'{"a":1}', SECRET) == expected
    assert outcome(headers(body=b'{"a":1}'), b'{"a":1}') == "taken"


@pytest.mark.parametrize(
    ("away", "expected"),
    [(0, "taken"), (300, "taken"), (-300, "taken"), (301, "stale"), (-301, "future"), (86_400, "stale")],
)
def test_only_what_was_signed_now_is_taken(away: int, expected: str) -> None:
    """A request recorded yesterday must not be good today."""
    assert outcome(headers(at=NOW - away)) == expected
    finer = f"{NOW - 300}.{'0' * 8}1" if away == 300 else f"{NOW - 301}.999999999"
    signed = {TIMESTAMP: finer, SIGNATURE: sign(finer, b"{}", SECRET), EVENT_ID: "e"}
    assert outcome(signed) == ("taken" if away == 300 else "stale")


@settings(max_examples=40)
@given(st.binary(max_size=60), st.binary(min_size=1, max_size=60), st.integers(-300, 300))
def test_nothing_of_a_signed_request_can_be_altered(body: bytes, other: bytes, shift: int) -> None:
    """A changed price, a changed time, a changed signature: each would be a lie in the log."""
    found = headers(body=body)
    assert outcome(found, body) == "taken"
    if other != body:
        assert outcome(found, other) == "altered"
    if shift:
        assert outcome({**found, TIMESTAMP: str(NOW + shift)}, body) == "altered"
    turned = found[SIGNATURE][1:] + found[SIGNATURE][:1]
    if turned != found[SIGNATURE]:
        assert outcome({**found, SIGNATURE: turned}, body) == "altered"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({TIMESTAMP: ""}, "unsigned"), ({TIMESTAMP: "1e9"}, "unsigned"), ({TIMESTAMP: "٣"}, "unsigned"),
        ({TIMESTAMP: f"{NOW}."}, "unsigned"), ({TIMESTAMP: "9" * 30}, "unsigned"),
        ({SIGNATURE: ""}, "unsigned"),
        ({SIGNATURE: "é" * 64}, "unsigned"),
        ({SIGNATURE: "0" * 63}, "unsigned"), ({EVENT_ID: ""}, "malformed"),
        ({EVENT_ID: "a b"}, "malformed"),
        ({EVENT_ID: "x" * 129}, "malformed"), ({EVENT_ID: "a\nb"}, "malformed"),
    ],
)  # fmt: skip
def test_headers_that_are_no_claims_are_refused_and_end_nothing(
    change: dict[str, str], expected: str
) -> None:
    """Headers are anybody's text; a crash here would stop the service for all senders."""
    assert outcome({**headers(), **change}) == expected


def _claims(event: str, signature: str) -> Claims:
    return Claims(str(NOW), hashlib.sha256(signature.encode()).hexdigest(), event)


async def test_an_event_is_known_by_id_and_by_signature_and_after_a_restart(tmp_path: Path) -> None:
    """A recorded request under a new event id is the same request; and a restart must not open the door."""
    now = [NOW * SECOND]
    seen = Seen(tmp_path / "webhooks", lambda: now[0])
    seen.open()
    seen.claim(_claims("a", "one"))
    assert seen.known(_claims("a", "other")), "in hand counts as known"
    await seen.accept(_claims("a", "one"))
    seen.claim(_claims("b", "two"))
    seen.give_up(_claims("b", "two"))
    seen.close()
    with (tmp_path / "webhooks" / "seen").open("a") as file:
        file.write(f"{now[0] + KEEP_NS} e12")  # killed while writing
    again = Seen(tmp_path / "webhooks", lambda: now[0])
    again.open()
    assert again.known(_claims("a", "new signature"))
    assert again.known(_claims("new id", "one"))
    assert not again.known(_claims("b", "two")), "what failed may be sent again"
    now[0] += KEEP_NS
    assert not again.known(_claims("a", "one")), "the timestamp refuses it by now"
    again.close()


def test_two_services_do_not_share_one_memory(tmp_path: Path) -> None:
    """Two processes that do not know what the other accepted would accept everything twice."""
    one, two = (Seen(tmp_path, lambda: 0) for _ in range(2))
    one.open()
    with pytest.raises(TidewireError, match="another webhook service"):
        two.open()
    one.close()
    two.close()


async def test_memory_is_bounded_without_forgetting(tmp_path: Path) -> None:
    """Under a flood the service says no; it must not drop what protects it against repeats."""
    now = [0]
    seen = Seen(tmp_path, lambda: now[0], most=20)
    seen.open()
    for number in range(10):
        seen.claim(_claims(str(number), str(number)))
        await seen.accept(_claims(str(number), str(number)))
    assert seen.full
    assert seen.known(_claims("0", "x"))
    now[0] += KEEP_NS
    assert not seen.known(_claims("0", "x"))
    assert not seen.full
    seen.close()


def test_one_address_in_a_hurry_does_not_slow_down_another() -> None:
    """A broken sender must not keep the others' events out."""
    now = [0]
    buckets = Buckets(lambda: now[0], per_second=2, burst=3)
    assert [buckets.take("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert buckets.take("b")
    now[0] += SECOND
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
