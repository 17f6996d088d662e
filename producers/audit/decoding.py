"""Columns of trades, bars and quotes -> pieces by symbol and minute: an object a group, not a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any
from zlib import crc32

import polars as pl

from producers.audit.comparison import Bar, Revised, Sums
from producers.audit.minutes import MINUTE, Piece
from schemas.trade_conditions import counts_in_minute
from tidewire.columns.decoded import Offsets
from tidewire.fence import LogFence

SEPARATOR = "\x1f"
OWNER = ("source", "owner_epoch")
TRADE_COLUMNS = {
    "stocks": ("symbol", "ts", "size", "conditions", "tape", *OWNER),
    "crypto": ("symbol", "ts", "size", *OWNER),
    "options": ("symbol", "ts", "size", *OWNER),
}
BAR_COLUMNS = (
    "symbol", "ts", "interval", "revision", "open", "high", "low", "close", "volume", "trade_count", "vwap",
    *OWNER,
)  # fmt: skip
_QUOTE_FIELDS: Mapping[str, Mapping[str, str]] = {
    "stocks": {
        "bid_exchange": "bx", "bid_price": "bp", "bid_size": "bs", "ask_exchange": "ax", "ask_price": "ap",
        "ask_size": "as", "conditions": "c", "tape": "z",
    },
    "crypto": {"bid_price": "bp", "bid_size": "bs", "ask_price": "ap", "ask_size": "as"},
}  # fmt: skip
"""Column -> field of the message: a quote's content, beside symbol and time."""
QUOTE_COLUMNS = {kind: ("symbol", "ts", *fields, *OWNER) for kind, fields in _QUOTE_FIELDS.items()}

_MINUTE = (pl.col("ts") - pl.col("ts") % MINUTE).alias("minute")


def owned(frame: pl.DataFrame, offsets: Offsets, fence: LogFence) -> tuple[pl.DataFrame, int]:
    """The frame with its offsets as `offset`, without what a stale owner wrote; and how many that was."""
    frame = frame.with_columns(pl.Series("offset", offsets, dtype=pl.Int64))
    stale = fence.stale_rows(frame["owner_epoch"].to_numpy(), frame["source"], offsets)
    if stale is None:
        return frame, 0
    return frame.filter(pl.Series(~stale)), int(stale.sum())


def trade_pieces(frame: pl.DataFrame) -> list[Piece]:
    """The sums of the trades that count, by symbol and minute; a minute of others alone has zeros."""
    if not frame.height:
        return []
    rules = [name for name in ("conditions", "tape") if name in frame.columns]
    if "conditions" in rules:
        frame = frame.with_columns(pl.col("conditions").list.join(SEPARATOR))
    grouped = frame.group_by(pl.col("symbol").cast(pl.String), _MINUTE, *rules).agg(
        pl.len().alias("n"), pl.col("size").sum().alias("v"), pl.col("offset").min()
    )
    return [
        Piece(row["minute"], row["symbol"], _sums(row), row["offset"])
        for row in grouped.iter_rows(named=True)
    ]


def _sums(row: Mapping[str, Any]) -> Sums:
    if "conditions" not in row:
        return Sums(row["n"], row["v"])
    letters = tuple(row["conditions"].split(SEPARATOR)) if row["conditions"] else ()
    return Sums(row["n"], row["v"]) if counts_in_minute(letters, row["tape"]) else Sums(0, 0)


def bar_pieces(frame: pl.DataFrame) -> list[Piece]:
    """Minute bars with their revisions."""
    return _bars(frame, "minute")


def day_pieces(frame: pl.DataFrame) -> list[Piece]:
    """Daily bars with their revisions; the piece's minute is the beginning of the day."""
    return _bars(frame, "day")


def _bars(frame: pl.DataFrame, interval: str) -> list[Piece]:
    chosen = frame.filter(pl.col("interval").cast(pl.String) == interval)
    return [
        Piece(row["ts"], row["symbol"], Revised(row["revision"], _bar(row)), row["offset"])
        for row in chosen.iter_rows(named=True)
    ]


def _bar(row: Mapping[str, Any]) -> Bar:
    return Bar(*(row[name] for name in Bar._fields))


def quote_pieces(kind: str, frame: pl.DataFrame, sampled: Callable[[str, int], bool]) -> list[Piece]:
    """The contents of quotes of the sampled symbols and minutes."""
    if not frame.height:
        return []
    frame = frame.with_columns(_MINUTE)
    pairs = frame.select(pl.col("symbol").cast(pl.String), "minute").unique()
    chosen = [pair for pair in pairs.iter_rows() if sampled(*pair)]
    if not chosen:
        return []
    pieces = []
    for symbol, minute in chosen:
        part = frame.filter((pl.col("symbol") == symbol) & (pl.col("minute") == minute))
        columns = [part["ts"].to_list(), *(_plain(part[name]) for name in _QUOTE_FIELDS[kind])]
        contents: Counter[Hashable] = Counter(zip(*columns, strict=True))
        offset = part["offset"].min()
        assert isinstance(offset, int)
        pieces.append(Piece(minute, symbol, contents, offset))
    return pieces


def _plain(series: pl.Series) -> list[Any]:
    return [tuple(value) for value in series.to_list()] if series.dtype == pl.List else series.to_list()


def quote_content(kind: str, message: Mapping[str, Any]) -> tuple[Any, ...]:
    """The content of a quote of the history, as `quote_pieces` has those of the log."""
    values = (message.get(field) for field in _QUOTE_FIELDS[kind].values())
    return (message["t"], *(tuple(v) if isinstance(v, list) else v for v in values))


def history_sums(kind: str, messages: Iterable[Mapping[str, Any]]) -> dict[tuple[int, str], Sums]:
    """(minute, symbol) -> the sums of trades of the history that count."""
    found: dict[tuple[int, str], Sums] = {}
    for message in messages:
        letters, tape = tuple(message.get("c") or ()), message.get("z", "")
        if kind == "stocks" and not counts_in_minute(letters, tape):
            continue
        ts = message["t"]
        place = (ts - ts % MINUTE, message["S"])
        known = found.get(place, Sums(0, 0))
        found[place] = Sums(known.trades + 1, known.volume + message["s"])
    return found


def sampler(one_of: int) -> Callable[[str, int], bool]:
    """Whether a symbol's quotes of a minute are compared: one minute of so many, the same for everybody."""

    def sampled(symbol: str, minute: int) -> bool:
        return crc32(f"{symbol}|{minute // MINUTE}".encode()) % one_of == 0

    return sampled
