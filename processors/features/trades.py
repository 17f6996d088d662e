"""The trades' part of a row: last, high, low, volume, count and notional of the session.

All trades count, whatever their conditions. `last` is the trade with the greatest (ts, id), the later offset
among equals. A trade of a newer New York day begins a new session; one of an older day than the symbol's
session is late: it is only counted in TRADES_FOLDED.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from processors.columns.groups import Groups, group
from processors.columns.matrix import Ints, Matrix
from processors.features import row
from processors.features.conflation import Spans, cut, running, running_greatest, running_least
from processors.features.folded import Folded
from processors.features.session import session_days

COLUMNS = ("symbol", "ts", "id", "price", "size", "received_ts", "source", "owner_epoch")
_DAY_SPAN = 100_000_000  # more than any yyyymmdd


def refusals(frame: pl.DataFrame) -> dict[int, str]:
    """Position and reason of each trade that must not be folded."""
    price, size, ts = frame["price"].to_numpy(), frame["size"].to_numpy(), frame["ts"].to_numpy()
    fine = (price >= 0) & (price < row.MAX_PRICE) & (size >= 0) & (size <= row.MAX_SIZE)
    with np.errstate(invalid="ignore", over="ignore"):  # infinity times nothing
        fine &= (price * size < row.MAX_NOTIONAL) & (ts >= 0) & (ts < row.MAX_TS)
    return {i: _reason(price[i], size[i], ts[i]) for i in np.flatnonzero(~fine).tolist()}


def _reason(price: float, size: int, ts: int) -> str:
    if not 0 <= price < row.MAX_PRICE:
        return f"price {price} is not a price in USD"
    if not 0 <= size <= row.MAX_SIZE:
        return f"size {size} is not a number of shares"
    if not 0 <= ts < row.MAX_TS:
        return f"event time {ts} is not between 1970 and 2100"
    return f"a trade of {size} shares at {price} USD is too large to be true"


def fold(matrix: Matrix, frame: pl.DataFrame, offsets: Ints) -> Folded:
    """Fold a batch of trades, sound by `refusals`, in offset order.

    Raises:
        OverflowError: a volume does not fit 63 bits; nothing of the batch is folded then.
    """
    groups = group(matrix.rows(frame["symbol"]), offsets, matrix.values[:, row.TRADES_NEXT])
    if not len(groups.order):
        return Folded(groups.touched, 0, groups.repeated)
    ts = frame["ts"].to_numpy()[groups.order]
    spans = cut(matrix, groups, ts, row.LAST_TS, row.TRADES_FOLDED)
    groups = spans.groups
    new = matrix.values[groups.rows]
    bits = (frame["price"].to_numpy() + 0.0).view(np.int64)[groups.order]  # + 0.0: no negative zero
    late = _fold_session(new, spans, session_days(ts), frame, bits)
    _fold_last(new, groups, ts, frame["id"].to_numpy()[groups.order], bits)
    last = groups.order[groups.ends]
    new[:, row.VERSION] = row.CURRENT
    new[:, row.TRADES_NEXT] = offsets[last] + 1
    new[:, row.TRADES_FOLDED] = spans.counts(new[:, row.TRADES_FOLDED])
    new[:, row.TRADE_RECEIVED] = frame["received_ts"].to_numpy()[last]
    new[:, row.TRADE_SOURCE] = row.source_codes(frame["source"], last)
    matrix.put(*spans.finals(new))
    return Folded(groups.touched, len(groups.order), groups.repeated, late, spans.closed(new))


def _fold_session(new: Ints, spans: Spans, days: Ints, frame: pl.DataFrame, bits: Ints) -> int:
    """Sums and extremes of the newest session; returns how many trades came after a newer day's."""
    groups = spans.groups
    before = new[:, row.SESSION].copy()
    session = np.maximum(before, groups.greatest(days))
    renewed = np.flatnonzero(session > before)
    new[renewed[:, None], row.SESSION_SUMS] = 0
    new[renewed, row.HIGH], new[renewed, row.LOW] = -1, row.GREATEST
    new[:, row.SESSION] = session
    size = frame["size"].to_numpy()[groups.order]
    micros = np.rint(frame["price"].to_numpy() * row.MICROS).astype(np.int64)[groups.order] * size
    counts = days == groups.spread(session)
    if counts.all():
        late, number, high, low = 0, groups.lengths, bits, bits
    else:
        late, number = _late(groups, days, before), groups.total(counts.astype(np.int64))
        size, micros = np.where(counts, size, 0), np.where(counts, micros, 0)
        high, low = np.where(counts, bits, -1), np.where(counts, bits, row.GREATEST)
    begun = spans.begun(session)
    notional = groups.total(micros >> 32), groups.total(micros & 0xFFFFFFFF)
    for word, totals in zip(row.SESSION_SUMS, (number, groups.total(size), *notional), strict=True):
        new[:, word] = running(totals, new[:, word], begun)
    new[:, row.NOTIONAL_HIGH] += new[:, row.NOTIONAL_LOW] >> 32
    new[:, row.NOTIONAL_LOW] &= 0xFFFFFFFF
    new[:, row.HIGH] = running_greatest(groups.greatest(high), new[:, row.HIGH], begun)
    new[:, row.LOW] = running_least(groups.least(low), new[:, row.LOW], begun)
    if (new[:, row.VOLUME] < 0).any():
        raise OverflowError("the volume of a session does not fit 63 bits")
    return late


def _late(groups: Groups, days: Ints, before: Ints) -> int:
    """Trades of an older day than the newest that their row had seen when they came."""
    lane = groups.spread(np.arange(len(groups.rows), dtype=np.int64)) * _DAY_SPAN
    newest = np.maximum.accumulate(lane + np.maximum(days, groups.spread(before)))  # lanes only rise
    return int(np.count_nonzero(lane + days < newest))


def _fold_last(new: Ints, groups: Groups, ts: Ints, ids: Ints, bits: Ints) -> None:
    newest: npt.NDArray[np.bool_] = ts == groups.spread(groups.greatest(ts))
    candidate = np.where(newest, ids, np.iinfo(np.int64).min)
    at = groups.last_where(newest & (candidate == groups.spread(groups.greatest(candidate))))
    old_ts, old_id = new[:, row.LAST_TS], new[:, row.LAST_ID]
    later = (ts[at] > old_ts) | ((ts[at] == old_ts) & (ids[at] >= old_id)) | (new[:, row.TRADES_FOLDED] == 0)
    won = np.flatnonzero(later)
    new[won, row.LAST], new[won, row.LAST_TS], new[won, row.LAST_ID] = (
        bits[at[won]],
        ts[at[won]],
        ids[at[won]],
    )
