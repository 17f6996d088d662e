"""The folds of trades.py and quotes.py for a few records, in plain integers: the same words, in less time.

`None` from either means: not one of these records was folded, columns must do it (a record that must not be
folded, a symbol that has no row yet, a volume that does not fit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct

import numpy as np

from processors.columns.few import Record
from processors.columns.matrix import Matrix
from processors.features import row
from processors.features.conflation import leaves
from processors.features.folded import Closed, Folded
from processors.features.session import session_day

Records = Sequence[tuple[int, Record]]
_pack, _unpack = Struct("<d").pack, Struct("<q").unpack
_CODES = {source: code for code, source in enumerate(row.SOURCES)}


def trades(matrix: Matrix, records: Records) -> Folded | None:
    """Fold trades in offset order."""
    if not all(_sound_trade(record) for _, record in records):
        return None
    return _fold(matrix, records, _TRADES)


def quotes(matrix: Matrix, records: Records) -> Folded | None:
    """Fold quotes in offset order."""
    if not all(_sound_quote(record) for _, record in records):
        return None
    return _fold(matrix, records, _QUOTES)


@dataclass(frozen=True, slots=True)
class _Component:
    """Words of one part of a row, and how a record is added to it."""

    next_word: int
    newest_word: int
    folded_word: int
    add: Callable[[list[int], Record], bool]


def _fold(matrix: Matrix, records: Records, component: _Component) -> Folded | None:
    rows: dict[int, list[int]] = {}
    touched: dict[int, None] = {}
    closed: list[tuple[int, list[int]]] = []
    applied = repeated = late = 0
    for offset, record in records:
        number = matrix.find(record["symbol"])
        if number is None:
            return None
        again = number in touched
        touched[number] = None
        words = rows.get(number)
        if words is None:
            words = matrix.values[number].tolist()
        if offset < words[component.next_word]:
            repeated += 1
            continue
        rows[number] = words
        leaving = words[component.folded_word] and leaves(words[component.newest_word], record["ts"])
        if leaving and (again or matrix.announced(np.array([number], matrix.row_type))[0]):
            closed.append((number, words.copy()))
        late += component.add(words, record)
        words[row.VERSION], words[component.next_word] = row.CURRENT, offset + 1
        applied += 1
    if any(words[row.VOLUME] > row.GREATEST for words in rows.values()):
        return None
    if rows:
        matrix.put(np.array(list(rows), matrix.row_type), np.array(list(rows.values()), np.int64))
    return Folded(
        np.array(sorted(touched), matrix.row_type), applied, repeated, late, _closed(matrix, closed)
    )


def _closed(matrix: Matrix, states: Sequence[tuple[int, list[int]]]) -> tuple[Closed, ...]:
    if not states:
        return ()
    numbers, words = zip(*states, strict=True)
    return (Closed(np.array(numbers, matrix.row_type), np.array(words, np.int64)),)


def _trade(words: list[int], record: Record) -> bool:
    """Fold one trade; returns whether it came after a newer day's."""
    price, size, ts = record["price"], record["size"], record["ts"]
    bits, day = _bits(price), session_day(ts)
    if words[row.TRADES_FOLDED] == 0 or (ts, record["id"]) >= (words[row.LAST_TS], words[row.LAST_ID]):
        words[row.LAST], words[row.LAST_TS], words[row.LAST_ID] = bits, ts, record["id"]
    if day > words[row.SESSION]:
        words[row.SESSION], words[row.HIGH], words[row.LOW] = day, -1, int(row.GREATEST)
        for word in row.SESSION_SUMS:
            words[word] = 0
    late = day < words[row.SESSION]
    if not late:
        notional = (
            (words[row.NOTIONAL_HIGH] << 32) + words[row.NOTIONAL_LOW] + round(price * row.MICROS) * size
        )
        words[row.NOTIONAL_HIGH], words[row.NOTIONAL_LOW] = notional >> 32, notional & 0xFFFFFFFF
        words[row.TRADE_COUNT] += 1
        words[row.VOLUME] += size
        words[row.HIGH], words[row.LOW] = max(words[row.HIGH], bits), min(words[row.LOW], bits)
    words[row.TRADES_FOLDED] += 1
    words[row.TRADE_RECEIVED], words[row.TRADE_SOURCE] = record["received_ts"], _CODES[record["source"]]
    return late


def _quote(words: list[int], record: Record) -> bool:
    if record["ts"] >= words[row.QUOTE_TS] or words[row.QUOTES_FOLDED] == 0:
        words[row.QUOTE_TS] = record["ts"]
        words[row.BID], words[row.ASK] = _bits(record["bid_price"]), _bits(record["ask_price"])
    words[row.QUOTES_FOLDED] += 1
    words[row.QUOTE_RECEIVED], words[row.QUOTE_SOURCE] = record["received_ts"], _CODES[record["source"]]
    return False


_TRADES = _Component(row.TRADES_NEXT, row.LAST_TS, row.TRADES_FOLDED, _trade)
_QUOTES = _Component(row.QUOTES_NEXT, row.QUOTE_TS, row.QUOTES_FOLDED, _quote)


def _bits(price: float) -> int:
    bits: int = _unpack(_pack(price + 0.0))[0]  # + 0.0: no negative zero
    return bits


def _sound_trade(record: Record) -> bool:
    price, size = record["price"], record["size"]
    return bool(
        0 <= price < row.MAX_PRICE
        and 0 <= size <= row.MAX_SIZE
        and price * size < row.MAX_NOTIONAL
        and 0 <= record["ts"] < row.MAX_TS
    )


def _sound_quote(record: Record) -> bool:
    return bool(
        0 <= record["bid_price"] < row.MAX_PRICE
        and 0 <= record["ask_price"] < row.MAX_PRICE
        and 0 <= record["ts"] < row.MAX_TS
    )
