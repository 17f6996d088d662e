"""Lean's equity tick files as messages of a tape: `<symbol>_<yyyymmdd>_<trade|quote>_tick.csv[.gz]`.

A quote is a bid-only row directly followed by an ask-only row of the same time; a row without such a partner
is a one-sided quote, its missing side empty. Trade ids count 1, 2, 3... in file order: the files have none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from simulator.conditions import UpdateRule, quote_letters, tape_of, trade_letters, update_rule
from simulator.lean_rows import QUOTES, TRADES, Layout, Rows, read_rows
from simulator.lines import ReadError, blocks, open_text
from simulator.rejects import Rejects
from simulator.wire import Message, QuotePacker, Streams, TradePacker, pack_conditions

NAME = re.compile(
    r"(?P<symbol>[A-Za-z][A-Za-z0-9.-]{0,15})_(?P<date>\d{8})_(?P<kind>trade|quote)_tick\.csv(\.gz)?"
)
SCALE = 10_000
_NEW_YORK = ZoneInfo("America/New_York")
_NO_SIDE = ("", 0, 0)


@dataclass(frozen=True)
class TickFile:
    """One file of the layout. `midnight` is the start of its New York day, ns since 1970 UTC."""

    path: Path
    symbol: str
    midnight: int
    kind: Literal["trade", "quote"]

    @property
    def layout(self) -> Layout:
        """The columns of its lines."""
        return TRADES if self.kind == "trade" else QUOTES

    @property
    def channel(self) -> str:
        """trades or quotes."""
        return f"{self.kind}s"


def recognise(path: Path) -> TickFile | str:
    """The tick file that a name stands for, or why it is none."""
    match = NAME.fullmatch(path.name)
    if match is None:
        return "name is not <symbol>_<yyyymmdd>_<trade|quote>_tick.csv[.gz]"
    try:
        day = datetime.strptime(match["date"], "%Y%m%d").replace(tzinfo=_NEW_YORK)
    except ValueError:
        return f"no such date: {match['date']}"
    kind: Literal["trade", "quote"] = "trade" if match["kind"] == "trade" else "quote"
    return TickFile(path, match["symbol"].upper(), int(day.timestamp()) * 1_000_000_000, kind)


def check_header(file: TickFile) -> str | None:
    """Why the file cannot be used, judged by its first line; None when it can."""
    try:
        with open_text(file.path) as text:
            line = text.readline(4096).strip()
    except (ReadError, OSError, EOFError) as error:
        return f"cannot be read: {error}"
    if not line:
        return "empty"
    fields = line.split(b",")
    if len(fields) != file.layout.width or not fields[0][:1].isalpha():
        return f"no header line of {file.layout.width} names"
    return None


def read(file: TickFile, streams: Streams, rejects: Rejects) -> Iterator[list[Message]]:
    """The messages of a file in its order, in blocks that never end within messages of one arrival time."""
    pack = _trades(file, streams) if file.kind == "trade" else _quotes(file, streams)
    line = 1
    held = Rows(np.empty(0, np.int64), [np.empty(0, np.int64) for _ in file.layout.integers], [], [])
    clock = 0

    def note(number: int, raw: bytes, reason: str) -> None:
        rejects.line(str(file.path), first + number, raw, reason, file.channel)

    try:
        with open_text(file.path) as text:
            text.readline()
            for block in blocks(text):
                first = line + 1
                line += block.count(b"\n") + (not block.endswith(b"\n"))
                rows = _join(held, read_rows(block, file.layout, note))
                whole, held = _hold_back_last_time(rows)
                if len(whole.ns):
                    messages, clock = _arrive(pack(whole), clock)
                    yield messages
    except (ReadError, OSError, EOFError) as error:
        rejects.line(str(file.path), line + 1, b"", f"the file ends here: {error}", file.channel)
    if len(held.ns):
        yield _arrive(pack(held), clock)[0]


def _join(a: Rows, b: Rows) -> Rows:
    if not len(a.ns):
        return b
    integers = [np.concatenate(pair) for pair in zip(a.integers, b.integers, strict=True)]
    return Rows(np.concatenate((a.ns, b.ns)), integers, a.exchanges + b.exchanges, a.flags + b.flags)


def _hold_back_last_time(rows: Rows) -> tuple[Rows, Rows]:
    """Split before the last run of one arrival time: its next rows may be in the next block."""
    if not len(rows.ns):
        return rows, rows
    arrival = np.maximum.accumulate(rows.ns)
    cut = int(np.searchsorted(arrival, arrival[-1]))
    return _slice(rows, slice(None, cut)), _slice(rows, slice(cut, None))


def _slice(rows: Rows, part: slice) -> Rows:
    return Rows(rows.ns[part], [c[part] for c in rows.integers], rows.exchanges[part], rows.flags[part])


def _arrive(messages: list[Message], clock: int) -> tuple[list[Message], int]:
    """Set arrival times: the event time, or that of an earlier message when the time goes back."""
    times = [message[0] for message in messages]
    if times[0] >= clock and times == sorted(times):
        return messages, times[-1]
    arrived = []
    for message in messages:
        clock = max(clock, message[1])
        arrived.append((clock, *message[1:]) if clock != message[0] else message)
    return arrived, clock


def _trades(file: TickFile, streams: Streams) -> Callable[[Rows], list[Message]]:
    tape = tape_of(file.symbol)
    packer = TradePacker(file.symbol, tape, SCALE)
    stream = streams.get("trades", file.symbol)
    conditions: dict[str, tuple[bytes, UpdateRule]] = {}
    last_id = 0

    def pack(rows: Rows) -> list[Message]:
        nonlocal last_id
        for flags in set(rows.flags).difference(conditions):
            letters = trade_letters(int(flags, 16), tape)
            conditions[flags] = (pack_conditions(letters), update_rule(letters, tape))
        times = (rows.ns + file.midnight).tolist()
        prices, sizes = (column.tolist() for column in rows.integers)
        ids = range(last_id + 1, last_id + 1 + len(times))
        last_id += len(times)
        letters_packed = [conditions[f][0] for f in rows.flags]
        packed = packer.rows(ids, rows.exchanges, prices, sizes, letters_packed, times)
        return [
            (t, t, stream, message, (price / SCALE, size, conditions[f][1]))
            for t, message, price, size, f in zip(times, packed, prices, sizes, rows.flags, strict=True)
        ]

    return pack


def _quotes(file: TickFile, streams: Streams) -> Callable[[Rows], list[Message]]:
    packer = QuotePacker(file.symbol, tape_of(file.symbol), SCALE)
    stream = streams.get("quotes", file.symbol)
    conditions: dict[int, bytes] = {}

    def letters(flags: int) -> bytes:
        if flags not in conditions:
            conditions[flags] = pack_conditions(quote_letters(flags))
        return conditions[flags]

    def pack(rows: Rows) -> list[Message]:
        bid_price, bid_size, ask_price, ask_size = rows.integers
        has_bid = (bid_price != 0) | (bid_size != 0)
        has_ask = (ask_price != 0) | (ask_size != 0)
        second = np.zeros(len(rows.ns), bool)
        second[1:] = has_bid[:-1] & ~has_ask[:-1] & has_ask[1:] & ~has_bid[1:] & (rows.ns[1:] == rows.ns[:-1])
        first = np.flatnonzero(~second)
        paired = np.append(second[1:], False)[first]
        ask_row = np.where(paired, first + 1, first)
        exchanges, flags = rows.exchanges, [int(f, 16) for f in rows.flags]
        bids = [
            (exchanges[i], p, s) if there else _NO_SIDE
            for i, p, s, there in zip(
                first.tolist(),
                bid_price[first].tolist(),
                bid_size[first].tolist(),
                has_bid[first].tolist(),
                strict=True,
            )
        ]
        asks = [
            (exchanges[i], p, s) if there else _NO_SIDE
            for i, p, s, there in zip(
                ask_row.tolist(),
                ask_price[ask_row].tolist(),
                ask_size[ask_row].tolist(),
                has_ask[ask_row].tolist(),
                strict=True,
            )
        ]
        pairs = zip(first.tolist(), ask_row.tolist(), strict=True)
        found = [letters(flags[i] | flags[j]) for i, j in pairs]
        times = (rows.ns[first] + file.midnight).tolist()
        return [
            (t, t, stream, message, None)
            for t, message in zip(times, packer.rows(bids, asks, found, times), strict=True)
        ]

    return pack
