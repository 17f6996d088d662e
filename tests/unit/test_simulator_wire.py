"""Without these a client would decode other values than the tape holds: the fast packers equal msgpack's."""

from __future__ import annotations

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from simulator.wire import QuotePacker, TradePacker, frame, pack, pack_conditions, pack_time, timestamp

NS = st.integers(0, (1 << 63) - 1) | st.integers(0, 1 << 33).map(lambda s: s * 1_000_000_000)
LETTERS = st.lists(st.text(min_size=1, max_size=2), max_size=5)
SYMBOL = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ./", min_size=1, max_size=40)
PRICE = st.integers(0, 1 << 52)
SIZE = st.integers(0, (1 << 64) - 1)
EXCHANGE = st.sampled_from(["", "P", "Q", "D"])


@given(NS)
def test_a_packed_time_is_what_msgpack_would_write(ns: int) -> None:
    assert pack_time(ns) == msgpack.packb(timestamp(ns))
    assert msgpack.unpackb(pack_time(ns)).to_unix_nano() == ns


@given(SYMBOL, st.integers(0, (1 << 64) - 1), EXCHANGE, PRICE, SIZE, LETTERS, NS)
def test_a_packed_trade_is_what_msgpack_would_write(
    symbol: str, number: int, exchange: str, price: int, size: int, letters: list[str], ns: int
) -> None:
    packer = TradePacker(symbol, "A", 10_000)
    rows = packer.rows(
        [number] * 2, [exchange] * 2, [price] * 2, [size] * 2, [pack_conditions(letters)] * 2, [ns] * 2
    )
    fields = {
        "T": "t",
        "S": symbol,
        "i": number,
        "x": exchange,
        "p": price / 10_000,
        "s": size,
        "c": letters,
        "t": timestamp(ns),
        "z": "A",
    }
    assert rows == [pack(fields)] * 2  # the second one comes from the caches


@given(SYMBOL, st.tuples(EXCHANGE, PRICE, SIZE), st.tuples(EXCHANGE, PRICE, SIZE), LETTERS, NS)
def test_a_packed_quote_is_what_msgpack_would_write(
    symbol: str, bid: tuple[str, int, int], ask: tuple[str, int, int], letters: list[str], ns: int
) -> None:
    row = QuotePacker(symbol, "C", 100).rows([bid], [ask], [pack_conditions(letters)], [ns])[0]
    fields = {"T": "q", "S": symbol, "bx": bid[0], "bp": bid[1] / 100, "bs": bid[2]}
    fields |= {"ax": ask[0], "ap": ask[1] / 100, "as": ask[2], "c": letters, "t": timestamp(ns), "z": "C"}
    assert row == pack(fields)


@given(st.lists(st.integers(), max_size=400).map(lambda n: [i % 1000 for i in n]))
def test_a_frame_is_an_array_of_its_messages(numbers: list[int]) -> None:
    assert msgpack.unpackb(frame([msgpack.packb(n) for n in numbers])) == numbers
