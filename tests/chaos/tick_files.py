"""Seeded tick files in the layout that `tidewire demo --ticks` reads, for runs without recorded data."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

HEADERS = {
    "trade": "ms_since_midnight_ny,price_x10000,size,exchange,sale_condition_hex,suspicious",
    "quote": "ms_since_midnight_ny,bid_x10000,bid_size,ask_x10000,ask_size,exchange,"
    "quote_condition,suspicious",
}
OPEN_MS = 34_200_000  # 09:30 in New York


def write(
    folder: Path, symbols: tuple[str, ...], trades: int, quotes: int, seed: int, day: str = "20131007"
) -> int:
    """Write one trade and one quote file a symbol; returns the number of trade and quote messages in them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, symbol in enumerate(symbols):
        rng = random.Random(f"{seed}-{symbol}")
        price = 1_000_000 + 250_000 * number
        _write_file(
            folder / f"{symbol.lower()}_{day}_trade_tick.csv.gz", "trade", _trades(rng, price, trades)
        )
        _write_file(
            folder / f"{symbol.lower()}_{day}_quote_tick.csv.gz", "quote", _quotes(rng, price, quotes)
        )
    return len(symbols) * (trades + quotes)


def _write_file(path: Path, kind: str, rows: list[str]) -> None:
    with gzip.open(path, "wt", encoding="ascii", newline="\n") as file:
        file.write("\n".join([HEADERS[kind], *rows]) + "\n")


def _times(rng: random.Random, count: int) -> list[int]:
    """Sorted times of one session hour; equal ones are common, as in real ticks."""
    return sorted(OPEN_MS + rng.randrange(3_600_000) for _ in range(count))


def _trades(rng: random.Random, price: int, count: int) -> list[str]:
    rows = []
    for ms in _times(rng, count):
        price = max(10_000, price + rng.choice((-100, 0, 0, 0, 100)))
        size = rng.choice((1, 50, 100, 100, 200, 1_000))
        rows.append(f"{ms},{price},{size},{rng.choice('PQDNZ')},1,0")
    return rows


def _quotes(rng: random.Random, price: int, count: int) -> list[str]:
    rows = []
    for ms in _times(rng, count):
        price = max(10_000, price + rng.choice((-100, 0, 0, 0, 100)))
        exchange = rng.choice("PQNZ")
        rows.append(f"{ms},{price},{rng.randrange(1, 50) * 100},0,0,{exchange},1,0")
        rows.append(f"{ms},0,0,{price + 100},{rng.randrange(1, 50) * 100},{exchange},1,0")
    return rows
