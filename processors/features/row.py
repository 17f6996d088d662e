"""The words of a table row: one int64 each, trades and quotes apart, so that their order does not matter.

A price is kept as the bits of its double: exact for any price, and ordered like the prices themselves as
none is negative. Money is an integer of micro-dollars in two words (`NOTIONAL_HIGH * 2**32 + NOTIONAL_LOW`),
so that no session can overflow it. `NEXT` words hold the source offset up to which a component is folded.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from processors.columns.matrix import Ints

VERSION = 0
TRADES_NEXT, TRADES_FOLDED, SESSION, TRADE_COUNT, VOLUME, NOTIONAL_HIGH, NOTIONAL_LOW = range(1, 8)
HIGH, LOW, LAST, LAST_TS, LAST_ID, TRADE_RECEIVED, TRADE_SOURCE = range(8, 15)
QUOTES_NEXT, QUOTES_FOLDED, BID, ASK, QUOTE_TS, QUOTE_RECEIVED, QUOTE_SOURCE = range(15, 22)
WIDTH = 22

CURRENT = 1
"""Value of the VERSION word; a row of another layout is refused when the table is recovered."""

SESSION_SUMS = [TRADE_COUNT, VOLUME, NOTIONAL_HIGH, NOTIONAL_LOW]
GREATEST = np.iinfo(np.int64).max

MICROS = 1_000_000
MAX_PRICE = 1e9
"""USD; a greater price is a mistake, and 1e9 * 1e6 is still exact in a double."""
MAX_SIZE = 2**40
"""Shares of one trade; more is a mistake, and 8 million such trades are needed to overflow a volume."""
MAX_NOTIONAL = 4e12
"""USD of one trade: its micro-dollars fit an int64."""
MAX_TS = 4_102_444_800_000_000_000
"""2100-01-01; a greater event time would make every later trade of the symbol late."""

SOURCES = ("ws", "rest", "rss", "webhook", "replay")
_FEW = 64
_SOURCE_CODES = {source: code for code, source in enumerate(SOURCES)}


def source_codes(column: pl.Series, positions: Ints) -> Ints:
    """Indexes into SOURCES of the records at these positions."""
    if len(positions) < _FEW:  # one by one costs a microsecond each, a selection seventy
        return np.array([_SOURCE_CODES[column[place]] for place in positions.tolist()], np.int64)
    return np.array([_SOURCE_CODES[source] for source in column[positions].to_list()], np.int64)
