"""The features against a naive fold: if these fail, prices, volumes and VWAPs on users' screens are wrong."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.matrix import Matrix
from processors.features import quotes, row, trades, vector
from processors.features.session import session_day, session_days
from tests.unit import native_folds
from tidewire.fence import LogFence

NEW_YORK = ZoneInfo("America/New_York")
DAY = 86_400_000_000_000
BASE = 1_381_150_800_000_000_000  # 2013-10-07 09:00 in New York
SYMBOLS = ["AAPL", "IBM", "BRK.B"]
PRICES = st.integers(0, 9_999_999_999).map(lambda micros: micros / 1_000_000) | st.sampled_from(
    [0.0, 1.0, 0.0001, 123.456789, 999_999_999.999999]
)


class Naive:
    """One symbol's features by plain Python, Decimals and one record at a time."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.trades = self.quotes = self.late = 0
        self.day: int | None = None
        self.session: list[dict[str, Any]] = []
        self.last: dict[str, Any] | None = None
        self.quote: dict[str, Any] | None = None
        self.newest: dict[str, dict[str, Any]] = {}

    def trade(self, t: dict[str, Any]) -> None:
        self.trades += 1
        self.newest["trade"] = t
        day = new_york_day(t["ts"])
        if self.day is None or day > self.day:
            self.day, self.session = day, []
        if day < self.day:
            self.late += 1
        else:
            self.session.append(t)
        if self.last is None or (t["ts"], t["id"]) >= (self.last["ts"], self.last["id"]):
            self.last = t

    def take_quote(self, q: dict[str, Any]) -> None:
        self.quotes += 1
        self.newest["quote"] = q
        if self.quote is None or q["ts"] >= self.quote["ts"]:
            self.quote = q

    def record(self) -> dict[str, Any]:
        last, quote = self.last or {}, self.quote or {}
        ts = max(r["ts"] for r in (self.last, self.quote) if r)
        newest = max(self.newest.values(), key=lambda r: r["received_ts"])
        bid, ask = quote.get("bid_price"), quote.get("ask_price")
        prices = [t["price"] for t in self.session]
        return {
            "symbol": self.symbol,
            "ts": ts,
            "session": self.day or new_york_day(ts),
            "last": last.get("price"),
            "last_ts": last.get("ts"),
            "bid": bid,
            "ask": ask,
            "quote_ts": quote.get("ts"),
            "mid": float((exact(bid) + exact(ask)) / 2) if bid and ask else None,
            "spread": float(exact(ask) - exact(bid)) if bid and ask else None,
            "volume": sum(t["size"] for t in self.session),
            "trade_count": len(self.session),
            "high": max(prices, default=None),
            "low": min(prices, default=None),
            "staleness_ns": ts - quote["ts"] if quote else None,
            "trades_folded": self.trades,
            "quotes_folded": self.quotes,
            "received_ts": newest["received_ts"],
            "source": newest["source"],
        }

    def vwap(self) -> Decimal | None:
        volume = sum(t["size"] for t in self.session)
        notional = sum((Decimal(repr(t["price"])) * t["size"] for t in self.session), Decimal(0))
        return notional / volume if volume else None


def exact(price: float) -> Decimal:
    return Decimal(repr(price))


def new_york_day(ts: int) -> int:
    local = datetime.fromtimestamp(ts // 10**9, UTC).astimezone(NEW_YORK)
    return local.year * 10_000 + local.month * 100 + local.day


def frame(records: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(records, schema_overrides={"source": pl.Categorical, "price": pl.Float64})


TIMES = st.integers(0, 5).map(lambda n: BASE + n) | st.integers(-3 * DAY, 3 * DAY).map(lambda n: BASE + n)
TRADES = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(SYMBOLS),
            "ts": TIMES,
            "id": st.integers(-2, 3) | st.sampled_from([-(2**63), 2**63 - 1]),
            "price": PRICES,
            "size": st.integers(0, 4000),
            "source": st.sampled_from(row.SOURCES),
        }
    ),
    max_size=40,
)
QUOTES = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(SYMBOLS),
            "ts": TIMES,
            "bid_price": PRICES,
            "ask_price": PRICES,
            "source": st.sampled_from(row.SOURCES),
        }
    ),
    max_size=40,
)


def received(records: list[dict[str, Any]], first: int) -> list[dict[str, Any]]:
    return [r | {"received_ts": first + 2 * i} for i, r in enumerate(records)]


@settings(max_examples=40, deadline=None)
@given(TRADES, QUOTES, st.data())
def test_any_split_with_any_replays_gives_the_table_of_the_naive_fold(
    some_trades: list[dict[str, Any]], some_quotes: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Batch boundaries, replays and the order of the two topics change no byte of the table."""
    inputs = {"trade": received(some_trades, 10**18), "quote": received(some_quotes, 10**18 + 1)}
    folds = {"trade": trades.fold, "quote": quotes.fold}
    straight, split = Matrix(row.WIDTH), Matrix(row.WIDTH)
    for name, records in inputs.items():
        if records:
            folds[name](straight, frame(records), np.arange(len(records)) + 7)
    at = {"trade": 0, "quote": 0}
    applied = repeated = late = sent = 0
    drawn = data.draw(st.lists(st.sampled_from(["trade", "quote"]), max_size=12))
    for number, name in enumerate([*drawn, "trade", "quote"]):
        start = data.draw(st.integers(0, at[name]))
        least = len(inputs[name]) if number >= len(drawn) else at[name]  # in the end all that is left
        stop = data.draw(st.integers(least, len(inputs[name])))
        if stop == start:
            continue
        offsets = np.arange(start, stop) + 7
        folded = folds[name](split, frame(inputs[name][start:stop]), offsets)
        sent, applied, repeated = sent + stop - start, applied + folded.applied, repeated + folded.repeated
        late, at[name] = late + folded.late, stop
        touched = {split.name(number).decode() for number in folded.touched.tolist()}
        assert touched == {r["symbol"] for r in inputs[name][start:stop]}
    assert split.take_changed() == straight.take_changed()
    assert applied == len(inputs["trade"]) + len(inputs["quote"])
    assert repeated == sent - applied
    naive = {symbol: Naive(symbol) for symbol in SYMBOLS}
    for t in inputs["trade"]:
        naive[t["symbol"]].trade(t)
    for q in inputs["quote"]:
        naive[q["symbol"]].take_quote(q)
    assert late == sum(n.late for n in naive.values())
    rows = split.rows_of([n.symbol.encode() for n in naive.values() if n.trades or n.quotes])
    for key, record in vector.records(split, rows):
        reference = naive[key.decode()]
        vwap, expected = record.pop("vwap"), reference.vwap()
        assert record == reference.record()
        assert (vwap is None) == (expected is None)
        if vwap is not None and expected is not None:
            assert abs(Decimal(vwap) - expected) <= abs(expected) * Decimal("1e-12")


@settings(max_examples=20, deadline=None)
@given(TRADES, st.integers(0, 40))
def test_a_recovered_table_goes_on_where_the_changelog_stopped(
    some_trades: list[dict[str, Any]], cut: int
) -> None:
    """kill -9 in the middle: what the changelog holds, and the whole topic again, give the same table."""
    records = received(some_trades, 10**18)
    if not records:
        return
    whole, before = Matrix(row.WIDTH), Matrix(row.WIDTH)
    trades.fold(whole, frame(records), np.arange(len(records)))
    if records[:cut]:
        trades.fold(before, frame(records[:cut]), np.arange(len(records[:cut])))
    changelog = before.take_changed()
    recovered = Matrix(row.WIDTH, changelog)
    folded = trades.fold(recovered, frame(records), np.arange(len(records)))
    assert folded.repeated == len(records[:cut])
    assert changelog | recovered.take_changed() == whole.take_changed()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4_102_444_799), min_size=1, max_size=30))
def test_sessions_are_new_york_dates_in_summer_winter_and_between(seconds: list[int]) -> None:
    ts = np.array(seconds) * 10**9 + 999_999_999
    assert session_days(ts).tolist() == [new_york_day(s * 10**9) for s in seconds]
    assert [session_day(int(t)) for t in ts] == [new_york_day(s * 10**9) for s in seconds]


@pytest.mark.parametrize("date", [(2013, 3, 10), (2013, 11, 3), (2026, 3, 8), (2026, 11, 1), (2013, 10, 7)])
def test_the_session_changes_at_midnight_also_when_the_clock_does(date: tuple[int, int, int]) -> None:
    midnight = int(datetime(*date, tzinfo=NEW_YORK).timestamp()) * 10**9
    today = date[0] * 10_000 + date[1] * 100 + date[2]
    days = session_days(np.array([midnight - 1, midnight, midnight + 22 * 3600 * 10**9]))
    assert days.tolist() == [new_york_day(midnight - 10**9), today, today]
    assert session_days(np.array([midnight])).tolist() == [today]


def one_trade(**changes: Any) -> dict[str, Any]:
    fields = {"symbol": "AAPL", "ts": BASE, "id": 1, "price": 1.0, "size": 1, "received_ts": BASE}
    return fields | {"source": "ws"} | changes


def one_quote(**changes: Any) -> dict[str, Any]:
    fields = {"symbol": "AAPL", "ts": BASE, "bid_price": 1.0, "ask_price": 1.1, "received_ts": BASE}
    return fields | {"source": "ws"} | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": math.nan}, "price nan is not a price"),
        ({"price": math.inf, "size": 0}, "price inf is not a price"),
        ({"price": -0.01}, "price -0.01 is not a price"),
        ({"price": 1e9}, "price 1000000000.0 is not a price"),
        ({"size": -1}, "size -1 is not a number of shares"),
        ({"size": 2**50}, "is not a number of shares"),
        ({"ts": -1}, "event time -1 is not"),
        ({"ts": 2**63 - 1}, "event time"),
        ({"price": 9e8, "size": 2**39}, "too large to be true"),
    ],
)
def test_an_absurd_trade_is_refused_and_its_neighbours_are_not(changes: dict[str, Any], reason: str) -> None:
    """One NaN would make a VWAP NaN for the day, one far-off time would make all later trades late."""
    refused = trades.refusals(frame([one_trade(), one_trade(**changes), one_trade()]))
    assert list(refused) == [1]
    assert reason in refused[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bid_price": math.nan}, "bid price nan"),
        ({"ask_price": -1.0}, "ask price -1.0"),
        ({"ts": 2**62}, "event time"),
    ],
)
def test_an_absurd_quote_is_refused(changes: dict[str, Any], reason: str) -> None:
    refused = quotes.refusals(frame([one_quote(), one_quote(**changes)]))
    assert list(refused) == [1]
    assert reason in refused[1]


def test_sums_beyond_one_word_stay_exact() -> None:
    """Notional is kept in two words: the greatest trades that are allowed, many of them."""
    huge = one_trade(price=999_999_999.999999, size=3_999)
    matrix = Matrix(row.WIDTH)
    for batch in range(50):
        trades.fold(matrix, frame([huge] * 100), np.arange(100) + 100 * batch)
    ((_, record),) = vector.records(matrix, matrix.rows_of([b"AAPL"]))
    assert record["vwap"] == 999_999_999.999999
    assert record["volume"] == 5_000 * 3_999


def test_a_volume_that_overflows_is_an_error_and_nothing_is_folded() -> None:
    matrix = Matrix(row.WIDTH)
    trades.fold(matrix, frame([one_trade()]), np.arange(1))
    matrix.values[matrix.rows_of([b"AAPL"]), row.VOLUME] = 2**63 - 5
    before = matrix.values.copy()
    with pytest.raises(OverflowError):
        trades.fold(matrix, frame([one_trade(size=10)]), np.arange(1, 2))
    assert np.array_equal(matrix.values, before)


def test_any_price_comes_out_as_it_went_in() -> None:
    """Also one that no exchange would send: last, high and low are the double itself, not a rounding."""
    odd = 0.1 + 0.2
    matrix = Matrix(row.WIDTH)
    trades.fold(matrix, frame([one_trade(price=odd)]), np.arange(1))
    ((_, record),) = vector.records(matrix, matrix.rows_of([b"AAPL"]))
    assert (record["last"], record["high"], record["low"]) == (odd, odd, odd)


def test_thousands_of_symbols_keep_their_rows() -> None:
    """The matrix grows; symbols of other partitions share the numbering and must not share rows."""
    names = [f"S{i}" for i in range(3_000)]
    first, second = Matrix(row.WIDTH), Matrix(row.WIDTH)
    batch = [one_trade(symbol=name, price=float(i)) for i, name in enumerate(names)]
    trades.fold(first, frame(batch), np.arange(len(batch)))
    trades.fold(second, frame(batch[::-1]), np.arange(len(batch)))
    for matrix in (first, second):
        rows = matrix.rows_of(map(str.encode, names))
        found = {key.decode(): r["last"] for key, r in vector.records(matrix, rows)}
        assert found == {name: float(i) for i, name in enumerate(names)}
        assert len(matrix) == 3_000


@settings(max_examples=60, deadline=None)
@given(TRADES, QUOTES, st.data())
def test_the_native_fold_leaves_the_same_words_as_columns(
    some_trades: list[dict[str, Any]], some_quotes: list[dict[str, Any]], data: st.DataObject
) -> None:
    """A price must not depend on which machine folded it, or on what else was in its batch."""
    inputs = {"trade": received(some_trades, 10**18), "quote": received(some_quotes, 10**18 + 1)}
    columns, either = Matrix(row.WIDTH), Matrix(row.WIDTH)
    folds = {"trade": (trades.fold, native_folds.TRADES), "quote": (quotes.fold, native_folds.QUOTES)}
    for name, records in inputs.items():
        in_columns, natively = folds[name]
        start = 0
        while start < len(records):
            size = data.draw(st.integers(1, 12))
            again = data.draw(st.integers(0, min(2, start)))
            batch = records[start - again : start + size]
            offsets = np.arange(start - again, start - again + len(batch), dtype=np.int64)
            unfolded = either.values.copy()
            expected = in_columns(columns, frame(batch), offsets)
            found = natively(either, list(zip(offsets.tolist(), batch, strict=True)))
            if found is None:  # a symbol that has no row yet, or trades of two days
                assert np.array_equal(either.values, unfolded)
                new = any(either.find(record["symbol"]) is None for record in batch)
                assert new or len({new_york_day(record["ts"]) for record in batch}) > 1
                found = in_columns(either, frame(batch), offsets)
            assert (found.applied, found.repeated, found.late) == (
                expected.applied, expected.repeated, expected.late,
            )  # fmt: skip
            assert found.touched.tolist() == expected.touched.tolist()
            start += size
    assert columns.take_changed() == either.take_changed()


def known(name: str) -> Matrix:
    """A table in which a symbol has its row."""
    matrix = Matrix(row.WIDTH)
    trades.fold(matrix, frame([one_trade(symbol=name)]), np.arange(1))
    return matrix


UNUSUAL: list[dict[str, Any]] = [
    *({"ts": ts} for ts in (-1, 4_102_444_800_000_000_000)),
    *({"symbol": symbol} for symbol in ("MSFT", "ONE.OF.THIRTEEN")),
    *({"owner_epoch": native_folds.OWNER + step} for step in (-1, 1)),
]
NO_PRICES = (math.nan, math.inf, -0.01, 1e9)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(
    "changes",
    [
        *UNUSUAL,
        *({"price": price} for price in NO_PRICES),
        *({"size": size} for size in (-1, 2**40 + 1)),
        {"price": 9e8, "size": 2**39},
        {"ts": BASE + DAY},
    ],
)
def test_trades_with_anything_unusual_are_left_to_columns(changes: dict[str, Any], place: int) -> None:
    """They dead-letter a price that is none and know a stale owner: half a batch must not be folded."""
    matrix = known("AAPL")
    before = matrix.values.copy()
    batch = [(n, one_trade(**({"ts": BASE + n} | (changes if n == place + 1 else {})))) for n in range(1, 4)]
    assert native_folds.TRADES(matrix, batch) is None
    assert np.array_equal(matrix.values, before)


@pytest.mark.parametrize(
    "changes",
    [*UNUSUAL, *({side: price} for side in ("bid_price", "ask_price") for price in NO_PRICES)],
)
def test_quotes_with_anything_unusual_are_left_to_columns(changes: dict[str, Any]) -> None:
    matrix = known("AAPL")
    before = matrix.values.copy()
    assert native_folds.QUOTES(matrix, [(1, one_quote()), (2, one_quote(**changes))]) is None
    assert np.array_equal(matrix.values, before)


def test_a_volume_that_could_overflow_is_left_to_columns() -> None:
    matrix = known("AAPL")
    matrix.values[matrix.rows_of([b"AAPL"]), row.VOLUME] = 2**63 - 5
    before = matrix.values.copy()
    assert native_folds.TRADES(matrix, [(1, one_trade(size=1))]) is None
    assert np.array_equal(matrix.values, before)


def test_what_is_from_rest_is_no_owners_and_is_folded() -> None:
    """What fills a gap has no epoch of the feed's owner; it must not slow the stream down."""
    matrix = known("AAPL")
    folded = native_folds.TRADES(matrix, [(1, one_trade(source="rest", owner_epoch=0))])
    assert folded is not None
    assert folded.applied == 1


def test_without_an_owner_only_what_is_no_owners_is_folded() -> None:
    """Columns remember an owner's first record, by which a stale one is known later. A topic that a replay
    alone has filled has no owner, and must not be slow for that."""
    matrix = known("AAPL")
    assert native_folds.TRADES(matrix, [(1, one_trade())], LogFence()) is None
    assert native_folds.TRADES(matrix, [(1, one_trade(source="replay"))], LogFence()) is not None


def test_what_is_read_again_from_before_the_owner_is_left_to_columns() -> None:
    """A record that was no stale owner's then is none now."""
    matrix, fence = known("AAPL"), LogFence([(native_folds.OWNER, 5)])
    assert native_folds.TRADES(matrix, [(5, one_trade())], fence) is None
    assert native_folds.TRADES(matrix, [(6, one_trade())], fence) is not None


def test_the_native_fold_keeps_any_price_and_sums_beyond_one_word() -> None:
    odd, huge = 0.1 + 0.2, 999_999_999.999999
    matrix = known("AAPL")
    for batch in range(1, 51):
        prices = [(100 * batch + n, one_trade(price=huge, size=3_999)) for n in range(100)]
        assert native_folds.TRADES(matrix, prices) is not None
    assert native_folds.TRADES(matrix, [(9_000, one_trade(price=odd, ts=BASE + 1, size=0))]) is not None
    assert native_folds.TRADES(matrix, [(9_001, one_trade(price=-0.0, ts=BASE + 1, size=0))]) is not None
    ((_, record),) = vector.records(matrix, matrix.rows_of([b"AAPL"]))
    assert (record["last"], math.copysign(1, record["last"])) == (0.0, 1.0)
    assert record["volume"] == 5_000 * 3_999 + 1
    assert record["vwap"] == (5_000 * 3_999 * 999_999_999_999_999 + 10**6) / (record["volume"] * 10**6)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 999_999_999.9), st.integers(0, 4000))
def test_any_notional_is_rounded_as_in_columns(price: float, size: int) -> None:
    """Micro-dollars, halves to the even one: a VWAP must be the same on every machine."""
    one, other = known("AAPL"), known("AAPL")
    trades.fold(one, frame([one_trade(price=price, size=size)]), np.arange(1, 2))
    assert native_folds.TRADES(other, [(1, one_trade(price=price, size=size))]) is not None
    assert one.take_changed() == other.take_changed()
