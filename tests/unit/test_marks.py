"""Marks: if these fail, positions are valued by a wrong price, too often, never, or for the wrong account."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.marks.crypto import Newest, refusals
from processors.marks.holders import Holders
from processors.marks.pace import INTERVAL_NS, Pace
from processors.marks.price import Price, mark
from schemas.codec import load_codec
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))

prices = st.none() | st.floats(0, 1e9) | st.sampled_from([0.0, 5e-324, 1e-18, 0.00001234, 187.35, 1e300])


def price(bid: float | None, ask: float | None, last: float | None = None, ts: int = 7) -> Price:
    return Price("BTC/USD", ts, bid, ask, last, 9, "ws")


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (price(187.35, 187.36), "187.355"),
        (price(0.1, 0.2), "0.15"),
        (price(10.0, 10.0, 9.0), "10"),  # locked is not crossed
        (price(10.01, 10.0, 9.5), "9.5"),
        (price(0.0, 10.0, 9.5), "9.5"),
        (price(10.0, None, 9.5), "9.5"),
        (price(0.00001234, 0.00001236), "0.00001235"),
        (price(float("nan"), 10.0, 9.5), "9.5"),
    ],
)
def test_the_middle_where_both_sides_are_good_else_the_last_trade(given_: Price, expected: str) -> None:
    """To the last decimal that Alpaca wrote: 0.15, not 0.15000000000000002."""
    found = mark(given_)
    assert found is not None
    assert found["price"] == Decimal(expected)


@given(prices, prices, prices)
def test_any_prices_give_a_record_that_can_be_written_or_none(
    bid: float | None, ask: float | None, last: float | None
) -> None:
    """18 decimals, never more; and no mark where there is no price."""
    found = mark(price(bid, ask, last))
    if found is None:
        return
    assert found["price"] > 0
    assert CODEC.decode(CODEC.encode("mark", found)) == ("mark", found)


def test_no_price_is_no_mark() -> None:
    """A position is not worth nothing because nobody has quoted yet."""
    assert mark(price(None, None)) is None
    assert mark(price(10.0, 0.0)) is None


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 3 * INTERVAL_NS)), min_size=1, max_size=60))
def test_at_most_one_departure_an_interval_and_the_newest_always_comes(steps: list[tuple[str, int]]) -> None:
    """Conflation: no flood, and what the market said last is what the position shows."""
    pace: Pace[int] = Pace()
    departures, sent, offered, ts = [], dict[str, int](), dict[str, int](), 0
    for symbol, step in steps:
        ts += step
        offered[symbol] = ts
        if pace.offer(1, replace(price(1.0, 2.0, ts=ts), symbol=symbol)):
            departures.append(ts)
            sent |= {p.symbol: p.ts for p in pace.leave(lambda _: True)}
            assert sent == offered
    assert all(b - a >= INTERVAL_NS for a, b in pairwise(departures))
    sent |= {p.symbol: p.ts for p in pace.leave(lambda _: True)}
    assert sent == offered
    assert pace.leave(lambda _: True) == []


def test_what_waits_in_a_partition_that_was_given_away_is_not_sent() -> None:
    """Its new owner sends newer ones; an old one after them would be a step back."""
    pace: Pace[int] = Pace()
    assert pace.offer(3, price(1.0, 2.0, ts=5))
    assert len(pace.leave(lambda _: True)) == 1
    assert not pace.offer(3, price(1.0, 2.0, ts=6))
    assert pace.leave(lambda where: where != 3) == []


def partition_of(account: str) -> int:
    return len(account) % 3


changes = st.lists(
    st.tuples(
        st.sampled_from(["a", "bb", "ccc", "dddd"]),
        st.sampled_from(["AAPL", "BTC/USD"]),
        st.sampled_from([None, Decimal(0), Decimal("-1.5"), Decimal(2)]),
        st.integers(1, 2),
    ),
    max_size=40,
)

Positions = dict[tuple[str, str], tuple[Decimal | None, int]]


@given(changes)
def test_the_holders_are_those_of_the_newest_positions(
    history: list[tuple[str, str, Decimal | None, int]],
) -> None:
    """Marks for a position that is closed are waste; none for one that is open is a wrong P&L."""
    holders = Holders(partition_of)
    newest: Positions = {}
    for account, symbol, quantity, epoch in history:
        before, newest[account, symbol] = newest.get((account, symbol)), (quantity, epoch)
        record = {"account": account, "symbol": symbol, "quantity": quantity, "epoch": epoch}
        fresh = holders.take(f"{account}:{symbol}".encode(), None if quantity is None else record)
        opened = quantity and (before is None or not before[0] or before[1] != epoch)
        assert fresh == ((symbol, partition_of(account)) if opened else None)
    expected = wanted(newest)
    for symbol in ("AAPL", "BTC/USD"):
        assert holders.partitions(symbol) == expected[symbol]
        assert (symbol in holders) == bool(expected[symbol])
    assert len(holders) == sum(map(bool, expected.values()))


def wanted(positions: Positions) -> defaultdict[str, set[int]]:
    found: defaultdict[str, set[int]] = defaultdict(set)
    for (account, symbol), (quantity, _) in positions.items():
        if quantity:
            found[symbol].add(partition_of(account))
    return found


def quote(symbol: str, ts: int, bid: float) -> dict[str, Any]:
    common = {"symbol": symbol, "ts": ts, "received_ts": ts, "source": "ws"}
    return common | {"bid_price": bid, "ask_price": bid + 1}


def test_the_newest_quote_and_trade_of_a_pair_make_its_price() -> None:
    """Not the last that came: quotes can be older than the one before them."""
    newest = Newest()
    rows = [quote("BTC/USD", 5, 100.0), quote("ETH/USD", 1, 7.0), quote("BTC/USD", 4, 99.0)]
    found = {p.symbol: p for p in newest.fold(pl.DataFrame(rows))}
    assert found["BTC/USD"] == Price("BTC/USD", 5, 100.0, 101.0, None, 5, "ws")
    trade = pl.DataFrame([{"symbol": "BTC/USD", "ts": 3, "received_ts": 8, "source": "ws", "price": 98.0}])
    assert newest.fold(trade) == [Price("BTC/USD", 5, 100.0, 101.0, 98.0, 8, "ws")]
    assert newest.fold(pl.DataFrame([quote("BTC/USD", 2, 50.0)]))[0].bid == 100.0


def test_impossible_quotes_are_refused_with_a_reason() -> None:
    """A NaN would else stand as the price of every position in the pair."""
    rows = [quote("A/B", 5, bid) for bid in (1.0, float("nan"), -1.0, float("inf"))] + [quote("A/B", -1, 1.0)]
    found = refusals(("bid_price", "ask_price"), pl.DataFrame(rows))
    assert list(found) == [1, 2, 3, 4]
    assert found[4] == "event time -1 is not between 1970 and 2100"


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["A/B", "C/D"]), st.integers(0, 4)), min_size=1, max_size=5))
)
def test_prices_one_by_one_are_those_of_columns(batches: list[list[tuple[str, int]]]) -> None:
    """A thin stream must give the same marks as a busy one."""
    columns, few, number = Newest(), Newest(), 0
    for batch in batches:
        rows = []
        for symbol, ts in batch:
            number += 1
            rows.append(quote(symbol, ts, float(number)))
        found = few.fold_few(True, list(enumerate(rows)))
        assert {p.symbol: p for p in found} == {p.symbol: p for p in columns.fold(pl.DataFrame(rows))}
    assert few.prices == columns.prices
