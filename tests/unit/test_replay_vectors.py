"""The fast reader of record batches beside the decoder that everything else uses.

If these fail, a replay gives other features than the processor: whatever stands in the log, broken or odd,
both must read the same values and refuse the same records for the same reasons.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.features import quotes, trades
from replay.vectors import Vectors
from schemas.codec import load_codec
from tidewire import config
from tidewire.columns import Block, Decoded, Decoder

CODEC = load_codec(config.load(_env_file=None))
STEMS = {"stock_trade": trades.COLUMNS, "stock_quote": quotes.COLUMNS}
FAST = {stem: Vectors(CODEC.versions(stem), columns) for stem, columns in STEMS.items()}
SLOW = {stem: Decoder(CODEC.versions(stem), columns=columns) for stem, columns in STEMS.items()}

LONGS = st.integers(0, 300) | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**55 - 1, 2**55, -1])
TEXTS = st.sampled_from(["V", "V", "V", "D", "", "ALPHA", "ALPHABET", "é", "\0"])
SYMBOLS = st.sampled_from(["A", "AAPL", "BRK.B", "BTC/USDT", "DOGE/USDT", "É", "A\0", "\0", ""])
PRICES = st.floats(allow_nan=False) | st.sampled_from([2.0, -0.0, 126.55])
STAMP = {
    "symbol": SYMBOLS,
    "ts": st.integers(0, 2**40).map(lambda n: 1_614_009_104_208_000_001 + n) | LONGS,
    "conditions": st.lists(TEXTS, max_size=6) | st.just(["@", "I"]),
    "tape": TEXTS,
    "extra": st.none() | st.none() | st.sampled_from(["", '{"a":1}', "\0", "x" * 300]),
    "received_ts": st.integers(0, 2**40).map(lambda n: 1_614_009_104_209_000_000 + n) | LONGS,
    "source": st.sampled_from(["ws", "ws", "rest", "replay"]),
    "owner_epoch": st.sampled_from([0, 1, 63, 64, 1_700_000_000, 2**40, -5]) | LONGS,
    "event_id": st.binary(min_size=8, max_size=8) | st.binary(max_size=9),
}
FIELDS = {
    "stock_trade": {"id": LONGS, "exchange": TEXTS, "price": PRICES, "size": LONGS},
    "stock_quote": {
        "bid_exchange": TEXTS, "bid_price": PRICES, "bid_size": LONGS,
        "ask_exchange": TEXTS, "ask_price": PRICES, "ask_size": LONGS,
    },
}  # fmt: skip
RECORDS = st.sampled_from(list(STEMS)).flatmap(
    lambda stem: st.tuples(
        st.just(stem), st.lists(st.fixed_dictionaries(STAMP | FIELDS[stem]), min_size=1, max_size=30)
    )
)
Raw = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def plain(stem: str, number: int) -> dict[str, Any]:
    """An ordinary record."""
    chance = random.Random(number)
    common = {
        "symbol": chance.choice(["AAPL", "IBM", "F"]), "ts": 1_614_009_104_208_000_001 + number,
        "conditions": [["@"], ["@", "I"], []][number % 3], "tape": "C", "extra": None,
        "received_ts": 1_614_009_104_209_000_000 + number, "source": "ws", "owner_epoch": 1_700_000_000,
        "event_id": number.to_bytes(8, "big"),
    }  # fmt: skip
    if stem == "stock_trade":
        price = chance.randrange(1, 10**6) / 100
        return common | {"id": 52_983_525_029_461 + number, "exchange": "V", "price": price, "size": 100}
    sizes = {"bid_exchange": "V", "bid_size": number % 200, "ask_exchange": "Q", "ask_size": 1}
    return common | sizes | {"bid_price": 1.5, "ask_price": 1.51}


def encoded(stem: str, records: Sequence[dict[str, Any]]) -> list[Raw]:
    return [(r["symbol"].encode(), CODEC.encode(stem, r), []) for r in records]


def blocks(raws: Sequence[Raw], sizes: Sequence[int], compression: int = 0, skip: int = 0) -> list[Block]:
    """Record batches of these sizes in turn; `skip`: so many records of the first are not wanted."""
    found: list[Block] = []
    place = 0
    while place < len(raws):
        part = raws[place : place + sizes[len(found) % len(sizes)]]
        builder = DefaultRecordBatchBuilder(
            magic=2, compression_type=compression, is_transactional=0, producer_id=-1, producer_epoch=-1,
            base_sequence=-1, batch_size=1 << 30,
        )  # fmt: skip
        for number, (key, value, headers) in enumerate(part):
            builder.append(number, 1_000 + number * 37 % 20_000, key, value, headers)
        raw = (1_000 + place).to_bytes(8, "big") + bytes(builder.build())[8:]
        start = 1_000 + place + (min(skip, len(part) - 1) if not found else 0)
        last = 1_000 + place + len(part) - 1
        found.append(Block(1_000 + place, start, last, len(part), 1_000, memoryview(raw)))
        place += len(part)
    return found


def assert_alike(stem: str, log: Sequence[Block]) -> Decoded:
    fast, slow = FAST[stem](log), SLOW[stem](log)
    assert fast.offsets.tolist() == slow.offsets.tolist()
    assert fast.refused == slow.refused
    texts = [pl.col("symbol", "source").cast(pl.String)]
    assert fast.frame.with_columns(texts).equals(slow.frame.with_columns(texts), null_equal=True)
    return fast


@given(RECORDS, st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(0, 3))
@settings(max_examples=40)
def test_whatever_the_fields_hold(
    made: tuple[str, list[dict[str, Any]]], sizes: list[int], skip: int
) -> None:
    """Long ids, many conditions, unknown fields, odd texts: the same values."""
    stem, records = made
    assert_alike(stem, blocks(encoded(stem, records), sizes, skip=skip))


@given(st.sampled_from(list(STEMS)), st.data())
@settings(max_examples=50)
def test_whatever_bytes_are_broken(stem: str, data: st.DataObject) -> None:
    """A flipped, lost or added byte anywhere: the same records refused, and no other one touched."""
    raws = encoded(stem, [plain(stem, n) for n in range(24)])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raws) - 1))
        key, value, headers = raws[at]
        assert value is not None
        place = data.draw(st.integers(0, len(value) - 1))
        piece = data.draw(st.binary(max_size=2))
        raws[at] = (key, value[:place] + piece + value[place + data.draw(st.integers(0, 2)) :], headers)
    assert_alike(stem, blocks(raws, [data.draw(st.integers(3, 24))]))


@given(st.sampled_from(list(STEMS)), st.data())
@settings(max_examples=40)
def test_whatever_stands_around_the_values(stem: str, data: st.DataObject) -> None:
    """Envelopes that are broken inside a sound batch (its length and deltas, the key, the header's count)."""
    log = blocks(encoded(stem, [plain(stem, n) for n in range(12)]), [6])
    for _ in range(data.draw(st.integers(1, 2))):
        number = data.draw(st.integers(0, len(log) - 1))
        b, raw = log[number], bytearray(log[number].raw)
        raw[data.draw(st.integers(61, len(raw) - 1))] = data.draw(st.integers(0, 255))
        log[number] = Block(b.base, b.start, b.last, b.count, b.timestamp_ms, memoryview(bytes(raw)))
    assert_alike(stem, log)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("odd", [(None, b"x", []), (b"AAPL", None, []), (b"AAPL", b"", []), "headers", "key"])
def test_records_that_are_none(stem: str, odd: Any) -> None:
    """Tombstones, foreign bytes, headers, a key that is not the symbol."""
    raws = encoded(stem, [plain(stem, n) for n in range(40)])
    key, value, _ = raws[17]
    changed = {"headers": (key, value, [("a", b"b")]), "key": (b"MSFT", value, [])}
    raws[17] = changed[odd] if isinstance(odd, str) else odd
    assert_alike(stem, blocks(raws, [8]))


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("compression", [0, 4])
def test_ordinary_records_take_the_fast_way(
    stem: str, compression: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a rebuild of a year takes three times as long, and nobody knows why."""
    log = blocks(encoded(stem, [plain(stem, n) for n in range(9_500)]), [9_000, 100], compression, skip=5)
    assert_alike(stem, log)
    monkeypatch.setattr(FAST[stem], "_slow", None)
    assert len(FAST[stem](log).offsets) == 9_495
