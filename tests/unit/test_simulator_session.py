"""Without these a client that is right against Alpaca could be wrong here, or the other way round."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import faults
from simulator.pace import Meter, RealPace, SteadyPace
from simulator.session import ERRORS, Reply, Rules, Session
from simulator.spoils import spoil_of

AUTH = {"action": "auth", "key": "k", "secret": "s"}


def admit(key: str, secret: str) -> int | None:
    return None if (key, secret) == ("k", "s") else 402


def session(feed: str = "sip", limit: int | None = None) -> Session:
    return Session(Rules(feed, admit, limit), msgpack_frames=True)


def send(to: Session, command: object) -> Reply:
    [reply] = to.receive(msgpack.packb(command))
    return reply


def signed_in(**rules: Any) -> Session:
    fresh = session(**rules)
    send(fresh, AUTH)
    return fresh


def test_the_way_in() -> None:
    fresh = session()
    assert fresh.open({}) == [{"T": "success", "msg": "connected"}]
    assert send(fresh, {"action": "subscribe", "trades": ["A"]})["code"] == 401
    assert send(fresh, {**AUTH, "secret": "wrong"}) == {"T": "error", "code": 402, "msg": "auth failed"}
    assert fresh.expire() == [{"T": "error", "code": 404, "msg": "auth timeout"}]
    assert send(fresh, AUTH) == {"T": "success", "msg": "authenticated"}
    assert send(fresh, AUTH)["code"] == 403
    assert fresh.expire() == []


def test_keys_in_the_headers_sign_in_at_once() -> None:
    assert [r["T"] for r in session().open({"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"})] == [
        "success"
    ] * 2
    wrong = session().open({"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "?"})
    assert [r.get("code") for r in wrong] == [None, 402]


def test_the_acknowledgement_is_always_the_full_list() -> None:
    client = signed_in()
    send(client, {"action": "subscribe", "trades": ["MSFT", "AAPL"], "bars": ["*"]})
    reply = send(client, {"action": "unsubscribe", "trades": ["MSFT", "NEVER"], "quotes": ["A"]})
    assert reply["T"] == "subscription"
    assert {c: s for c, s in reply.items() if s and c != "T"} == {
        "trades": ["AAPL"],
        "bars": ["*"],
        "corrections": ["AAPL"],
        "cancelErrors": ["AAPL"],
    }


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"\xc1", 400),
        (b"[1]", 400),
        (b"{", 400),
        ({"action": "dance"}, 400),
        ({"action": "subscribe", "trades": "AAPL"}, 400),
        ({"action": "subscribe", "trades": ["aapl!"]}, 400),
        ({"action": "subscribe", "trades": [7]}, 400),
        ({"action": "subscribe", "orderbooks": ["AAPL"]}, 410),
        ({"action": "subscribe", "quotes": ["A", "B", "C", "D"]}, 405),
        ({"action": "subscribe", "quotes": ["*"]}, 405),
    ],
)
def test_a_wrong_command_has_its_code_and_changes_nothing(command: object, code: int) -> None:
    client = signed_in(limit=3)
    send(client, {"action": "subscribe", "trades": ["A", "B"]})
    before = client.subscriptions
    [reply] = client.receive(command if isinstance(command, bytes) else msgpack.packb(command))
    assert (reply["T"], reply["code"], reply["msg"]) == ("error", code, ERRORS[code])
    assert client.subscriptions == before


def test_the_test_feed_has_three_channels() -> None:
    client = signed_in(feed="test")
    assert send(client, {"action": "subscribe", "statuses": ["FAKEPACA"]})["code"] == 410
    reply = send(client, {"action": "subscribe", "trades": ["FAKEPACA"]})
    assert reply == {"T": "subscription", "trades": ["FAKEPACA"], "quotes": [], "bars": []}


VALUE = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda v: st.lists(v, max_size=3))
COMMAND = st.dictionaries(
    st.sampled_from(["action", "key", "secret", "trades", "quotes", "news"]),
    VALUE | st.sampled_from(["auth", "subscribe", "unsubscribe", "k", "s"]) | st.just(["AAPL"]),
)
DATA = (
    st.binary(max_size=30)
    | COMMAND.map(json.dumps)
    | st.text(max_size=20)
    | COMMAND.map(lambda c: json.dumps(c).encode())
)


@given(st.lists(DATA, max_size=12))
def test_nothing_that_a_client_sends_gets_an_answer_outside_the_protocol(inputs: list[bytes | str]) -> None:
    client = session(limit=2)
    for data in inputs:
        was_in = client.authenticated
        [reply] = client.receive(data)
        if reply["T"] == "error":
            assert reply["msg"] == ERRORS[reply["code"]]
        elif reply["T"] == "success":
            assert reply["msg"] == "authenticated"
            assert not was_in
        else:
            assert reply["T"] == "subscription"
            assert was_in
        assert client.authenticated >= was_in
        assert all(len(symbols) <= 2 for symbols in client.subscriptions.values())


@given(st.sampled_from(faults.KINDS), st.integers(1, 5))
def test_every_fault_can_be_asked_for(kind: str, count: int) -> None:
    fault = faults.parse({"kind": kind, "frames": count})
    assert (fault.kind, fault.count) == (kind, count)


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"kind": "flood"},
        {"kind": "drop", "x": 1},
        {"kind": "error", "code": 1},
        {"kind": "repeat", "frames": 0},
    ],
)
def test_an_unknown_fault_is_refused(body: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        faults.parse(body)


def test_how_a_frame_is_spoilt() -> None:
    frame = msgpack.packb([{"T": "t"}, {"T": "q"}])

    def spoil(**body: object) -> list[bytes]:
        spoil = spoil_of(faults.parse(body))
        assert spoil is not None
        return spoil(frame, "msgpack")

    assert spoil(kind="repeat") == [frame, frame]
    [cut] = spoil(kind="truncate")
    with pytest.raises(ValueError, match="incomplete"):
        msgpack.unpackb(cut)
    assert spoil(kind="truncate", extra=True) == [cut, frame]
    [more] = spoil(kind="malformed", message={"T": "??"})
    assert msgpack.unpackb(more) == [{"T": "t"}, {"T": "??"}, {"T": "q"}]
    assert spoil_of(faults.parse({"kind": "drop"})) is None


@given(st.lists(st.floats(0.001, 0.5), max_size=40), st.integers(1, 50_000))
def test_a_steady_pace_is_never_ahead_and_never_far_behind(gaps: list[float], rate: int) -> None:
    pace, now, taken = SteadyPace(rate, 100.0), 100.0, 0
    for gap in gaps:
        now += gap
        allowed = pace.allowance(now)
        taken += allowed
        pace.took(allowed)
        assert taken <= (now - 100.0) * rate + 1
        assert (now - 100.0) * rate - taken <= 2
    assert pace.wait(now) <= 1 / rate + 1e-6


def test_a_machine_that_slept_does_not_cause_a_flood() -> None:
    pace = SteadyPace(1000, 0.0)
    assert pace.allowance(3600.0) == 1
    assert pace.allowance(3600.5) == 500


def test_real_pace_and_the_rate_when_nobody_is_there() -> None:
    real = RealPace(5_000_000_000, 10.0)
    assert (real.reach(11.0), real.wait(7_000_000_000, 11.0)) == (6_000_000_000, 1.0)
    meter = Meter(0.0, guess=7.0)
    meter.count(500, 0.5)
    assert meter.rate == 7.0
    meter.count(500, 2.0)
    assert meter.rate == 500.0
