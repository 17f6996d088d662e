"""The shapes that clients rely on, and the limits that protect the gateway."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import (
    PORTFOLIO_ACCOUNTS,
    PORTFOLIO_ORDERS,
    PORTFOLIO_POSITIONS,
    TRADE_UPDATES,
    schema,
)
from schemas.codec import load_codec
from schemas.examples import records
from schemas.fills import Fill
from sinks.gateway import frames, messages, origins, passwords, requests, tape_messages
from sinks.gateway.alpaca_state import Connections
from sinks.gateway.changes import Change, Reader
from sinks.gateway.holdings import MOST_ENDED, Account, Held, Key
from sinks.gateway.interest import Interest
from sinks.gateway.limits import Attempts, Places, Rate
from sinks.gateway.requests import BadRequest, Request
from sinks.gateway.subscriptions import ALL, Wanted
from tidewire import config
from tidewire.errors import RecordError

SECOND = 10**9


@settings(max_examples=30)
@given(st.binary(max_size=70_000))
def test_frames_are_read_by_another_websocket_library(payload: bytes) -> None:
    """Browsers would drop the connection at the first message of an unlucky length."""
    from websockets.frames import Opcode
    from websockets.streams import StreamReader

    frame = frames.text(payload)
    reader = StreamReader()
    reader.feed_data(frame)
    from websockets.frames import Frame

    parser = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parser)
    assert (done.value.value.opcode, done.value.value.data) == (Opcode.TEXT, payload)


@settings(max_examples=30)
@given(st.text(max_size=20), st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_an_envelope_is_the_json_of_its_parts(user: str, data: dict[str, str]) -> None:
    """A name or a value could break out of its place in the message."""
    frame = frames.enveloped("batch", "t", user, orjson.dumps(data))
    payload = frame[4 if frame[1] == 126 else 2 :]
    assert orjson.loads(payload) == {"type": "batch", "timestamp": "t", "userId": user, "data": data}


def position(**more: Any) -> dict[str, Any]:
    plain = {
        "symbol": "AAPL", "quantity": Decimal("-2.50"), "mark_price": Decimal("101.0"), "ts": 1,
        "average_price": Decimal("1E+2"), "unrealized_pnl": Decimal("-2.5"), "cost_basis": Decimal(-250),
        "market_value": Decimal("-252.5"), "opened_ts": 1_700_000_000_123_456_789, "strategy": None,
    }  # fmt: skip
    return plain | more


def test_a_position_as_the_document_has_it() -> None:
    """The dashboard validates every field; one wrong name hides the position."""
    assert messages.position(position()) == {
        "symbol": "AAPL", "quantity": "-2.5", "currentPrice": "101", "entryPrice": "100",
        "unrealizedPnl": "-2.5", "unrealizedPnlPercent": "-1", "marketValue": "-252.5", "side": "short",
        "openedAt": "2023-11-14T22:13:20.123Z",
    }  # fmt: skip
    unpriced = messages.position(
        position(mark_price=None, unrealized_pnl=None, market_value=None, strategy="s")
    )
    assert (unpriced["currentPrice"], unpriced["unrealizedPnlPercent"], unpriced["strategyId"]) == (
        None,
        None,
        "s",
    )
    assert messages.position(position(quantity=Decimal("-0.0")))["quantity"] == "0"


def test_any_record_gives_a_message_of_strings_or_is_refused() -> None:
    """One odd record would stop the updates of everybody."""
    codec, shown = load_codec(config.load(_env_file=None)), 0
    topics = {"portfolio_position": PORTFOLIO_POSITIONS, "portfolio_order": PORTFOLIO_ORDERS,
              "portfolio_account": PORTFOLIO_ACCOUNTS, "trade_update": TRADE_UPDATES}  # fmt: skip
    for stem, topic in topics.items():
        for record in islice(records(schema(stem)), 100):
            sane = {n: abs(v) % 10**18 for n, v in record.items() if n.endswith("ts") and v is not None}
            for value in (
                codec.encode(stem, record),
                codec.encode(stem, record | sane),
                b"",
                None,
                b"\0\0\0\0\0",
            ):
                try:
                    found = Reader(codec.decode).read(topic, b"a:b", value)
                except RecordError:
                    continue
                for change in found:
                    held = change.held if isinstance(change, Change) else change
                    payload = {} if held is None else held.payload
                    assert all(part is None or isinstance(part, str) for part in payload.values())
                    shown += bool(payload)
    assert shown > 300


def test_a_fill_as_we_defined_it() -> None:
    """Clients could not tell which order was filled, or count a fill twice."""
    fill = Fill(
        "a",
        "o",
        "AAPL",
        "us_equity",
        "buy",
        Decimal(1),
        Decimal("1.50"),
        Decimal(3),
        0,
        None,
        Decimal(5),
        b"\1" * 8,
    )
    assert messages.trade(fill, "mine") == {
        "executionId": "01" * 8, "orderId": "mine", "symbol": "AAPL", "side": "buy", "qty": "1",
        "price": "1.5", "filledQty": "3", "positionQty": "5", "executedAt": "1970-01-01T00:00:00.000Z",
    }  # fmt: skip


def test_a_trade_on_the_tape() -> None:
    """Small crypto sizes would come as 1e-05, which no price parser takes."""
    frame = tape_messages.trade("BTC/USD", 0, 60000.1, 1e-05, "CRYPTO", [])
    data = orjson.loads(frame[frame.index(b"{") :])["data"]
    assert (data["price"], data["size"]) == ("60000.1", "0.00001")
    feeds = [tape_messages.feed_of(s) for s in ("BRK.B", "BTC/USD", "AAPL240119C00190000")]
    assert feeds == ["stocks", "crypto", None]


def test_snapshots_hold_open_positions_open_orders_and_those_of_the_day() -> None:
    """A client would start with years of ended orders, or without today's."""
    account, day = Account(), 86_400 * SECOND
    noon = 1_700_000_000 * SECOND
    for name, status, ts in (
        ("a", "filled", noon - 3 * day),
        ("b", "new", noon - 3 * day),
        ("c", "filled", noon),
    ):
        account.put(Key("orders", name), Held({"status": status, "id": name}, "S", ts, ts))
    account.put(Key("positions", "S"), Held({"quantity": "0"}, "S", noon, noon))
    assert [o["id"] for o in account.snapshot(Wanted())["orders"]] == ["b", "c"]
    assert account.snapshot(Wanted())["positions"] == []
    for n in range(2 * MOST_ENDED):
        account.put(Key("orders", f"x{n}"), Held({"status": "canceled", "id": f"x{n}"}, "S", noon, noon))
    assert len(account.orders(True)) == MOST_ENDED + 1
    assert [o.payload["id"] for o in account.orders(False)] == ["b"]


def test_a_first_subscription_narrows_and_further_ones_add() -> None:
    """A client that asked for positions would get everything, or lose what it asked for before."""
    start = Wanted()
    assert start.hears("trades", "X")
    one = start.after(Request("subscribe", ("positions",), frozenset({"A"})))
    assert (one.channels(), one.hears("positions", "A"), one.hears("positions", "B")) == (
        ["positions"],
        True,
        False,
    )
    two = one.after(Request("subscribe", ("account", "positions"), frozenset({"B"})))
    assert two.hears("account", "")
    assert two.hears("positions", "A")
    assert two.hears("positions", "B")
    less = start.after(Request("unsubscribe", ("orders", "positions"), frozenset({"A"})))
    assert (less.hears("orders", "A"), less.hears("orders", "B"), less.trades) == (False, True, ALL)
    assert less.after(Request("subscribe", ("orders",), frozenset({"A"}))).hears("orders", "A")


@settings(max_examples=50)
@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["subscribe", "ping"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "action", "symbol", "symbols", "channels"]), inner, max_size=4),
    max_leaves=8).map(lambda v: orjson.dumps(v) if not _too_big(v) else b"0")))  # fmt: skip
def test_whatever_a_client_sends_is_understood_or_refused(text: bytes) -> None:
    """One odd message would end the connection, or worse, the gateway."""
    for read in (requests.portfolio, requests.tape):
        with suppress(BadRequest):
            read(text)


def _too_big(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) > 2**62
    if isinstance(value, list):
        return any(map(_too_big, value))
    return isinstance(value, dict) and any(map(_too_big, value.values()))


def test_places_and_rates() -> None:
    """A sixth connection, or a hundred and first message, would be let through."""
    places = Places()
    assert [places.take("a") for _ in range(6)] == [True] * 5 + [False]
    places.give_back("a")
    assert places.take("a")
    assert places.take("b")
    assert places.taken == 6
    rate = Rate()
    assert [rate.allow(t / 10) for t in range(101)] == [True] * 100 + [False]
    assert not rate.allow(59.9)
    assert rate.allow(60.0)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 100)), max_size=80))
def test_no_window_ever_holds_more_than_the_limit(events: list[tuple[str, float]]) -> None:
    """Bursts at the edge of a window would double the limit."""
    rate, now, allowed = Rate(3, 10.0), 0.0, list[float]()
    for _, wait in events:
        now += wait / 10
        if rate.allow(now):
            allowed.append(now)
    assert all(d - a >= 10.0 for a, d in zip(allowed, allowed[3:], strict=False))


def test_failed_sign_ins_are_limited_by_user_and_by_address() -> None:
    """Passwords could be guessed without end; or one attacker could lock others out by success."""
    attempts = Attempts(per_user=3, per_address=5)
    assert [attempts.begin("a", "x", 0) > 0 for _ in range(4)] == [False, False, False, True]
    assert attempts.begin("b", "x", 0) == 0
    attempts.succeeded("b", "x")
    assert [attempts.begin(f"u{n}", "x", 1) > 0 for n in range(3)] == [False, False, True]
    assert attempts.begin("a", "y", 901) == 0


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True), ("http://here:1", True), ("https://here:1", True), ("https://desk.example.com", True),
        ("null", False), ("", False), ("http://here", False), ("http://here:11", False),
        ("ws://here:1", False),
        ("https://desk.example.com.evil", False), ("https://xdesk.example.com", False),
        ("http://here:1/", False),
    ],
)  # fmt: skip
def test_origins_are_compared_whole(origin: str | None, allowed: bool) -> None:
    """A page with a similar name could read along."""
    assert origins.allowed(origin, "here:1", ("https://desk.example.com",)) is allowed


def test_interest_is_counted_and_expires() -> None:
    """A symbol would be released while somebody watches it, or held for ever."""
    interest = Interest("gateway:x")
    interest.add("AAPL")
    interest.add("AAPL")
    interest.remove("AAPL")
    assert (interest.changed(), interest.symbols) == (["AAPL"], {"AAPL"})
    key, record = interest.entry("AAPL", 5)
    assert key == b"stocks:trades:AAPL:gateway:x"
    assert record is not None
    assert record["expires_ts"] == 5 + 60 * SECOND
    interest.remove("AAPL")
    assert (interest.changed(), interest.entry("AAPL", 6)[1]) == (["AAPL"], None)


def test_silence_is_stale_and_trading_is_allowed_to_be_silent() -> None:
    """Old prices would pass for new ones, or a quiet account for a broken one."""
    known = Connections()
    assert known.stale(("a",), 0) == []
    state = {"state": "CONNECTED", "ts": 0, "last_message_ts": None}
    known.take("trading:a", state)
    known.take("stocks:iex", state | {"last_message_ts": 0})
    assert known.stale(("a",), 29 * SECOND) == []
    known.take("trading:a", state | {"ts": 30 * SECOND})
    assert known.stale(("a",), 30 * SECOND) == ["market data"]
    assert known.stale(("a",), 61 * SECOND) == ["market data", "trading"]
    assert known.stale(("b",), 61 * SECOND) == ["market data"]
    assert "a" not in known.health(0)["feeds"]


def test_passwords_are_checked_with_the_same_work_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a user exists could be told from the time or the answer."""
    stored = passwords.hashed("correct horse")
    assert stored.startswith("$argon2id$")
    assert passwords.matches(stored, "correct horse")
    assert not passwords.matches(stored, "wrong")
    assert not passwords.matches(None, "a user who does not exist")

    monkeypatch.setattr(passwords, "_MOST_WAITING", 2)

    async def flood() -> list[Any]:
        checker = passwords.Checker()
        try:
            return await asyncio.gather(
                *[checker.matches(None, "x") for _ in range(6)], return_exceptions=True
            )
        finally:
            checker.close()

    assert sum(isinstance(answer, passwords.Busy) for answer in asyncio.run(flood())) == 4
