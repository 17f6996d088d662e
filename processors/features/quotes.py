"""The quotes' part of a row: bid and ask of the quote with the greatest ts, the later offset among equals."""

from __future__ import annotations

import numpy as np
import polars as pl

from processors.columns.groups import group
from processors.columns.matrix import Ints, Matrix
from processors.features import row
from processors.features.conflation import cut
from processors.features.folded import Folded

COLUMNS = ("symbol", "ts", "bid_price", "ask_price", "received_ts", "source", "owner_epoch")


def refusals(frame: pl.DataFrame) -> dict[int, str]:
    """Position and reason of each quote that must not be folded."""
    bid, ask, ts = frame["bid_price"].to_numpy(), frame["ask_price"].to_numpy(), frame["ts"].to_numpy()
    fine = (
        (bid >= 0)
        & (bid < row.MAX_PRICE)
        & (ask >= 0)
        & (ask < row.MAX_PRICE)
        & (ts >= 0)
        & (ts < row.MAX_TS)
    )
    return {i: _reason(bid[i], ask[i], ts[i]) for i in np.flatnonzero(~fine).tolist()}


def _reason(bid: float, ask: float, ts: int) -> str:
    for side, price in (("bid", bid), ("ask", ask)):
        if not 0 <= price < row.MAX_PRICE:
            return f"{side} price {price} is not a price in USD"
    return f"event time {ts} is not between 1970 and 2100"


def fold(matrix: Matrix, frame: pl.DataFrame, offsets: Ints) -> Folded:
    """Fold a batch of quotes, sound by `refusals`, in offset order."""
    groups = group(matrix.rows(frame["symbol"]), offsets, matrix.values[:, row.QUOTES_NEXT])
    if not len(groups.order):
        return Folded(groups.touched, 0, groups.repeated)
    ts = frame["ts"].to_numpy()[groups.order]
    spans = cut(matrix, groups, ts, row.QUOTE_TS, row.QUOTES_FOLDED)
    groups = spans.groups
    new = matrix.values[groups.rows]
    at = groups.last_where(ts == groups.spread(groups.greatest(ts)))
    won = np.flatnonzero((ts[at] >= new[:, row.QUOTE_TS]) | (new[:, row.QUOTES_FOLDED] == 0))
    best = groups.order[at[won]]
    new[won, row.QUOTE_TS] = ts[at[won]]
    new[won, row.BID] = (frame["bid_price"].to_numpy()[best] + 0.0).view(np.int64)
    new[won, row.ASK] = (frame["ask_price"].to_numpy()[best] + 0.0).view(np.int64)
    last = groups.order[groups.ends]
    new[:, row.VERSION] = row.CURRENT
    new[:, row.QUOTES_NEXT] = offsets[last] + 1
    new[:, row.QUOTES_FOLDED] = spans.counts(new[:, row.QUOTES_FOLDED])
    new[:, row.QUOTE_RECEIVED] = frame["received_ts"].to_numpy()[last]
    new[:, row.QUOTE_SOURCE] = row.source_codes(frame["source"], last)
    matrix.put(*spans.finals(new))
    return Folded(groups.touched, len(groups.order), groups.repeated, closed=spans.closed(new))
