"""The independent digest's own reading of the tick files, and its naive fold of them in Decimal."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.e2e.digest_sums import CORE, Event, Sums, text_of

NEW_YORK = ZoneInfo("America/New_York")
NAME = re.compile(r"^(?P<symbol>[^_]+)_(?P<date>\d{8})_(?P<kind>trade|quote)_tick\.csv(\.gz)?$")


@dataclass
class Fold:
    """The naive fold of one symbol, in Decimal."""

    day: str = ""
    volume: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)
    trade_count: int = 0
    high: Decimal | None = None
    low: Decimal | None = None
    last: tuple[int, int, Decimal] | None = None
    quote: tuple[int, Decimal, Decimal] | None = None

    def trade(self, day: str, ts: int, number: int, price: Decimal, size: Decimal) -> None:
        if day > self.day:
            self.day, self.volume, self.notional, self.trade_count = day, Decimal(0), Decimal(0), 0
            self.high = self.low = None
        if self.last is None or (ts, number) > self.last[:2]:
            self.last = (ts, number, price)
        if day < self.day:
            return
        self.volume += size
        self.notional += price * size
        self.trade_count += 1
        self.high = price if self.high is None else max(self.high, price)
        self.low = price if self.low is None else min(self.low, price)

    def book(self, ts: int, bid: Decimal, ask: Decimal) -> None:
        if self.quote is None or ts >= self.quote[0]:
            self.quote = (ts, bid, ask)


def tick_files(paths: Iterable[Path]) -> Iterator[tuple[Path, str, str, str]]:
    found = {p for path in paths for p in (path.iterdir() if path.is_dir() else [path])}
    named = sorted((m["date"], m["symbol"], m["kind"], p) for p in found if (m := NAME.match(p.name)))
    for date, symbol, kind, path in named:
        yield path, symbol.upper(), date, kind


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Data rows; a row that is no row of whole numbers is left out (it is named in the dead letters)."""
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
        header = next(csv.reader([file.readline()]))
        for row in csv.reader(file):
            if len(row) == len(header) and all(v.isdigit() for v in row[: len(header) - 3]):
                yield dict(zip(header, row, strict=True))


def read_files(paths: Iterable[Path]) -> tuple[Sums, dict[str, Fold]]:
    sums, folds = Sums(), dict[str, Fold]()
    for path, symbol, date, kind in tick_files(paths):
        fold = folds.setdefault(symbol, Fold())
        events = (
            trades_of(path, symbol, date, fold) if kind == "trade" else quotes_of(path, symbol, date, fold)
        )
        channel = f"{kind}s"
        for event in events:
            sums.add(channel, symbol, text_of(event, CORE[channel]))
    return sums, folds


def midnight(date: str) -> int:
    """UTC nanoseconds of the New York midnight that a file's times count from."""
    start = datetime.strptime(date, "%Y%m%d").replace(tzinfo=NEW_YORK)
    return int(start.timestamp()) * 10**9


def trades_of(path: Path, symbol: str, date: str, fold: Fold) -> Iterator[Event]:
    start = midnight(date)
    for number, row in enumerate(read_rows(path), 1):
        ts, whole, size = (
            start + int(row["ms_since_midnight_ny"]) * 10**6,
            int(row["price_x10000"]),
            int(row["size"]),
        )
        fold.trade(date, ts, number, Decimal(whole) / 10000, Decimal(size))
        yield {
            "symbol": symbol, "ts": ts, "id": number, "exchange": row["exchange"], "price": whole / 10000,
            "size": size,
        }  # fmt: skip


def quotes_of(path: Path, symbol: str, date: str, fold: Fold) -> Iterator[Event]:
    start = midnight(date)
    waiting: dict[str, str] | None = None
    for row in read_rows(path):
        bid_only = row["ask_x10000"] == "0" and row["ask_size"] == "0"
        if waiting is not None:
            if not bid_only and row["ms_since_midnight_ny"] == waiting["ms_since_midnight_ny"]:
                yield quote(symbol, start, waiting, row, fold)
                waiting = None
                continue
            yield quote(symbol, start, waiting, None, fold)
            waiting = None
        if bid_only:
            waiting = row
        else:
            yield quote(symbol, start, None, row, fold)
    if waiting is not None:
        yield quote(symbol, start, waiting, None, fold)


def quote(
    symbol: str, start: int, bid: dict[str, str] | None, ask: dict[str, str] | None, fold: Fold
) -> Event:
    row = bid or ask
    assert row is not None
    ts = start + int(row["ms_since_midnight_ny"]) * 10**6
    bid_price, ask_price = int(bid["bid_x10000"]) if bid else 0, int(ask["ask_x10000"]) if ask else 0
    fold.book(ts, Decimal(bid_price) / 10000, Decimal(ask_price) / 10000)
    return {
        "symbol": symbol, "ts": ts,
        "bid_exchange": bid["exchange"] if bid else "", "bid_price": bid_price / 10000,
        "bid_size": int(bid["bid_size"]) if bid else 0,
        "ask_exchange": ask["exchange"] if ask else "", "ask_price": ask_price / 10000,
        "ask_size": int(ask["ask_size"]) if ask else 0,
    }  # fmt: skip
