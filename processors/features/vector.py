"""A table row read out as a feature record; the only place where floats are computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from processors.columns.matrix import Ints, Matrix, Rows
from processors.features import row
from processors.features.session import session_day

_EXACT = 1e9
"""USD; below it a price in millionths has 15 digits."""


def records(matrix: Matrix, rows: Rows) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Key and stock_features record of each row."""
    return read_out([matrix.name(number) for number in rows.tolist()], matrix.values[rows])


def read_out(keys: Sequence[bytes], words: Ints) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The same of words that need not be in a matrix any more."""
    block = np.ascontiguousarray(words)
    prices = block.view(np.float64).tolist()
    for key, integers, doubles in zip(keys, block.tolist(), prices, strict=True):
        yield key, _record(key.decode(), integers, doubles)


def _record(symbol: str, words: list[int], doubles: list[float]) -> dict[str, Any]:
    traded, quoted = words[row.TRADES_FOLDED] > 0, words[row.QUOTES_FOLDED] > 0
    ts = max(words[row.LAST_TS] if traded else 0, words[row.QUOTE_TS] if quoted else 0)
    trade_newer = traded and (not quoted or words[row.TRADE_RECEIVED] >= words[row.QUOTE_RECEIVED])
    bid, ask = (doubles[row.BID], doubles[row.ASK]) if quoted else (None, None)
    mid, spread = mid_and_spread(bid, ask) if bid and ask else (None, None)
    return {
        "symbol": symbol,
        "ts": ts,
        # The session's sums are the trades', so is its day; a symbol only quoted has its quote's day.
        "session": words[row.SESSION] if traded else session_day(ts),
        "last": doubles[row.LAST] if traded else None,
        "last_ts": words[row.LAST_TS] if traded else None,
        "bid": bid,
        "ask": ask,
        "quote_ts": words[row.QUOTE_TS] if quoted else None,
        "mid": mid,
        "spread": spread,
        "vwap": _vwap(words),
        "volume": words[row.VOLUME],
        "trade_count": words[row.TRADE_COUNT],
        "high": doubles[row.HIGH] if traded else None,
        "low": doubles[row.LOW] if traded else None,
        "staleness_ns": ts - words[row.QUOTE_TS] if quoted else None,
        "trades_folded": words[row.TRADES_FOLDED],
        "quotes_folded": words[row.QUOTES_FOLDED],
        "received_ts": words[row.TRADE_RECEIVED if trade_newer else row.QUOTE_RECEIVED],
        "source": row.SOURCES[words[row.TRADE_SOURCE if trade_newer else row.QUOTE_SOURCE]],
    }


def _vwap(words: list[int]) -> float | None:
    if not words[row.VOLUME]:
        return None
    micros = (words[row.NOTIONAL_HIGH] << 32) + words[row.NOTIONAL_LOW]
    return micros / (words[row.VOLUME] * row.MICROS)  # of integers: correctly rounded


def mid_and_spread(bid: float, ask: float) -> tuple[float, float]:
    """In USD, of the decimals that Alpaca wrote: a spread is 0.01 then, not 0.009999999999990905.

    Prices of whole millionths are computed in integers, which is the same and takes a tenth of the time: with
    at most 15 digits no other decimal is as short and gives that float, and a quotient of integers is rounded
    once.
    """
    if 0 < bid < _EXACT and 0 < ask < _EXACT:
        low, high = round(bid * row.MICROS), round(ask * row.MICROS)
        if low / row.MICROS == bid and high / row.MICROS == ask:
            return (low + high) / (2 * row.MICROS), (high - low) / row.MICROS
    least, most = Decimal(repr(bid)), Decimal(repr(ask))
    return float((least + most) / 2), float(most - least)
