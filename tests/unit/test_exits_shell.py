"""What stands between the log and the fold of exits, on both sides: nothing may be mixed up or left out."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.exits.bulletins import Board
from processors.exits.intents import intent_of
from processors.exits.reading import PriceReader
from processors.exits.turns import MOST, Turns
from schemas.codec import load_codec
from schemas.order_ids import client_order_id
from tests.exits_market import SECOND
from tests.exits_market import Market as Crossing
from tests.exits_market import a_watch as a_plain_watch
from tests.integration.exits_world import a_quote, a_watch
from tests.unit.columns_batches import COMPRESSIONS, block, record
from tidewire import config
from tidewire.columns import Block

CODEC = load_codec(config.load(_env_file=None))
SYMBOLS = ["AAPL", "IBM", "SPY"]
Pair = tuple[bytes, bytes]


def a_block(pairs: list[Pair], base: int = 0, start: int | None = None, compression: int = 0) -> Block:
    return block([record(base + n, key, value) for n, (key, value) in enumerate(pairs)], compression, start)


def a_pair(kind: str, symbol: str, number: int) -> Pair:
    quote = a_quote(symbol, number + 1, 10.0 + number)
    if kind == "price":
        quote["bid_price"] = float("nan")
    value = CODEC.encode("stock_quote", quote)
    if kind == "cut":
        value = value[:-3]
    if kind == "foreign":
        value = CODEC.encode("exit_watch", a_watch(symbol, {"kind": "stop_loss", "price": 9}))
    return (b"QQQ" if kind == "key" else symbol.encode()), value


records = st.tuples(
    st.sampled_from(["sound"] * 4 + ["price", "cut", "foreign", "key"]), st.sampled_from(SYMBOLS)
)


@settings(max_examples=60)
@given(st.lists(records, min_size=1, max_size=12), st.sets(st.sampled_from([*SYMBOLS, "QQQ"])), st.data())
def test_watched_records_are_read_and_no_others(
    drawn: list[tuple[str, str]], watched: set[str], data: st.DataObject
) -> None:
    """Otherwise a stop misses its price, or a broken record that concerns nobody stops the service."""
    pairs = [a_pair(kind, symbol, number) for number, (kind, symbol) in enumerate(drawn)]
    skip = data.draw(st.integers(0, len(pairs) - 1))
    read = PriceReader(CODEC, "stock_quote")(
        a_block(pairs, 100, 100 + skip), {symbol.encode() for symbol in watched}
    )
    wanted = [
        (100 + number, kind)
        for number, (kind, symbol) in enumerate(drawn)
        if number >= skip and pairs[number][0].decode() in watched
    ]
    assert [(s.offset, s.record is not None) for s in read.singles] == [
        (offset, kind == "sound") for offset, kind in wanted
    ]
    assert read.skipped == len(pairs) - skip - len(wanted)
    for single in read.singles:
        assert (single.record is None) == bool(single.reason)
        if single.record is not None:
            assert single.record["bid_price"] == 10.0 + single.offset - 100
    kind, _ = drawn[-1]
    alone = pairs[-1][0].decode() not in watched
    assert (read.newest is not None) == (alone and kind == "sound")


def test_a_batch_that_does_not_unpack_is_refused_whole() -> None:
    """Its bytes are kept as a dead letter; the service goes on."""
    whole = a_block([a_pair("sound", "IBM", n) for n in range(3)], 7, compression=COMPRESSIONS["gzip"])
    raw = bytearray(whole.raw)
    raw[-20:] = b"\0" * 20
    broken = replace(whole, raw=memoryview(bytes(raw)))
    (single,) = PriceReader(CODEC, "stock_quote")(broken, {b"IBM"}).singles
    assert single.record is None
    assert single.value == bytes(raw)
    assert "offsets 7-9 cannot be unpacked" in single.reason


def an_event(event: str, gate: str = "", ts: int = 0, rule: str = "r1") -> dict[str, Any]:
    names = {"account": "demo-1", "symbol": "IBM", "position_epoch": 1, "exit_epoch": 0}
    return names | {"event": event, "gate": gate, "ts": ts, "rule": rule}


def test_a_flapping_gate_tells_of_its_first_and_last_turn() -> None:
    """Otherwise a quote that crosses a thousand times a second fills the topic, or the last word is lost."""
    turns = Turns()
    turns.add([an_event("armed"), an_event("held", "stale", 1)])
    for ts in range(2, 5_000):
        turns.add([an_event("released" if ts % 2 == 0 else "held", "stale", ts)])
        turns.add([an_event("held", "crossed", ts, rule="r2")])
    turns.add([an_event("triggered", ts=5_000)])
    assert turns.urgent()
    told = [(e["event"], e["gate"], e["ts"]) for e in turns.take()]
    assert told == [
        ("armed", "", 0),
        ("held", "stale", 1),
        ("held", "crossed", 2),
        ("held", "stale", 4_999),
        ("held", "crossed", 4_999),
        ("triggered", "", 5_000),
    ]
    assert turns.conflated == 2 * 4_998 - 3
    turns.add([an_event("released", "stale", 6_000)])
    assert not turns.urgent()
    assert len(turns.take()) == 1
    assert not turns


def test_what_waits_is_bounded() -> None:
    """Kafka may be away while every rule of a partition flaps."""
    turns = Turns()
    for n in range(3 * MOST):
        turns.add([an_event("held", "stale", n, rule=f"r{n % (MOST + 10)}")])
    assert len(turns.take()) <= MOST + (MOST + 10)


def a_trigger(watch: dict[str, Any], value: float) -> dict[str, Any]:
    plain = {k: str(v) if isinstance(v, Decimal) else v for k, v in watch.items()}
    plain["event_id"] = watch["event_id"].hex()
    stand = {"topic": "t", "partition": 0, "offset": 5, "ts": 7, "value": value}
    return {
        "account": "demo-1",
        "symbol": watch["position_symbol"],
        "reference_symbol": watch["symbol"],
        "ts": 7,
        "position_epoch": 1,
        "exit_epoch": 0,
        "rule": "r1",
        "kind": watch["kind"],
        "threshold": Decimal(95),
        "inputs": [stand],
        "trigger_id": "demo-1:AAPL:1:0",
        "watch": json.dumps(plain),
        "received_ts": 9,
        "source": "ws",
    }


def test_an_intent_says_what_the_rule_wants() -> None:
    """Otherwise the order goes out on a wrong side, at a wrong limit, or under two names."""
    limit = {"kind": "stop_loss", "price": 95, "order": {"type": "limit", "limit_offset_percent": 2}}
    for quantity, side, price in ((100, "sell", "92.12"), (-100, "buy", "95.88")):
        intent = intent_of(a_trigger(a_watch("AAPL", limit, quantity=Decimal(quantity)), 94.0))
        assert (intent["side"], intent["order_type"], intent["time_in_force"]) == (side, "limit", "day")
        assert intent["limit_price"] == Decimal(price)
        assert intent["reference_price"] == Decimal("94.0")
        assert intent["quantity"] is None
        assert intent["client_order_id"] == client_order_id("demo-1:AAPL:1:0", 0)
        assert CODEC.decode(CODEC.encode("order_intent", intent))[1]["intent_id"] == "demo-1:AAPL:1:0"


def test_the_price_of_another_symbol_is_no_reference() -> None:
    """An option that is guarded by its underlying must not be sold at a limit in the underlying's dollars."""
    spec = {"kind": "stop_loss", "price": 95, "order": {"type": "limit", "limit_offset_percent": 2}}
    watch = a_watch("AAPL", spec, position_symbol="AAPL240119C00100000", asset_class="us_option")
    intent = intent_of(a_trigger(watch, 94.0))
    assert intent["limit_price"] is intent["reference_price"] is None


def test_a_partition_that_comes_later_is_told_what_still_holds() -> None:
    """Otherwise a rebalance forgets that a feed has a gap."""
    board = Board()
    gap = {"feed": "stocks:iex", "id": "g1", "state": "opened"}
    assert board.take("gap", gap)
    assert board.take("gap", gap | {"id": "g2"})
    assert board.take("gap", gap | {"state": "closed"})
    assert board.take("connection", {"feed": "crypto:us", "state": "CONNECTED"})
    assert board.take("connection", {"feed": "crypto:us", "state": "DISCONNECTED"})
    assert not board.take("gap", gap | {"feed": "trading:demo-1"})
    assert not board.take("connection", {"feed": "news", "state": "CONNECTED"})
    assert list(board.all()) == [
        ("connection", {"feed": "crypto:us", "state": "DISCONNECTED"}),
        ("gap", gap | {"id": "g2"}),
    ]


def test_a_price_of_before_the_rule_fires_nothing() -> None:
    """A log that is read again from further back would sell a position on a price of before it was bought."""
    market = Crossing()
    rule: dict[str, Any] = {
        "kind": "trailing_stop",
        "stop_price": None,
        "trail_percent": "2",
        "rule": "t",
        "account": "b",
    }
    since: dict[str, Any] = {"received_ts": market.now + SECOND}
    market.watch(a_plain_watch(**since))
    market.watch(a_plain_watch(**rule, **since))
    market.quote(150.0, 150.1)
    market.quote(94.0, 94.1)
    assert not market.fired()
    assert ("fresh", "no quote since the rule") in market.told("held")
    market.quote(100.0, 100.1, market.now + SECOND)
    market.quote(98.1, 98.2)
    assert not market.fired()
    market.quote(98.0, 98.1)
    assert market.fired() == ["b:AAPL:1:0"]
    market.quote(94.0, 94.1)
    assert market.fired() == ["b:AAPL:1:0", "a:AAPL:1:0"]
