"""Made-up market data for measurements: always the same, shaped like a busy second of Alpaca's stream."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

SYMBOLS = tuple(f"S{n:03d}" for n in range(100))
START_NS = 1_381_152_600 * 10**9
OPEN_MS = 34_200_000
FRAME = 100
"""Messages in a frame."""


def messages(
    count: int, seed: int = 1, *, start_ns: int = START_NS, step_ns: int = 37_001
) -> Iterator[dict[str, Any]]:
    """Two quotes for each trade, 100 symbols, equal steps."""
    rng = random.Random(seed)
    price = {symbol: rng.randrange(10_000, 900_000) for symbol in SYMBOLS}
    for n in range(count):
        symbol = rng.choice(SYMBOLS)
        price[symbol] = cents = max(100, price[symbol] + rng.choice((-1, 0, 0, 1)))
        whole, rest = divmod(start_ns + n * step_ns, 10**9)
        at = msgpack.Timestamp(whole, rest)
        if n % 3 == 0:
            yield {
                "T": "t", "S": symbol, "i": n, "x": rng.choice("PQDZ"), "p": cents / 100,
                "s": rng.choice((1, 100, 283)), "c": ["@", "I"], "z": "C", "t": at,
            }  # fmt: skip
        else:
            yield {
                "T": "q", "S": symbol, "bx": "Q", "bp": cents / 100, "bs": rng.randrange(1, 40), "ax": "P",
                "ap": (cents + 1) / 100, "as": rng.randrange(1, 40), "c": ["R"], "z": "C", "t": at,
            }  # fmt: skip


def frames(count: int) -> list[bytes]:
    """The messages as msgpack frames."""
    found: list[bytes] = []
    held: list[dict[str, Any]] = []
    for message in messages(count):
        held.append(message)
        if len(held) == FRAME:
            found.append(msgpack.packb(held))
            held = []
    return found


def write_ticks(folder: Path, count: int, symbols: tuple[str, ...] = ("AAA", "BBB", "CCC", "DDD")) -> int:
    """Tick files of about `count` messages, two quotes for each trade; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    trades = count // 3 // len(symbols)
    for symbol in symbols:
        rng = random.Random(symbol)
        _write(folder / f"{symbol.lower()}_20131007_trade_tick.csv", _TRADE, _trades(rng, trades))
        _write(folder / f"{symbol.lower()}_20131007_quote_tick.csv", _QUOTE, _quotes(rng, 2 * trades))
    return 3 * trades * len(symbols)


_TRADE = "ms_since_midnight_ny,price_x10000,size,exchange,sale_condition_hex,suspicious"
_QUOTE = "ms_since_midnight_ny,bid_x10000,bid_size,ask_x10000,ask_size,exchange,quote_condition,suspicious"


def _times(rng: random.Random, count: int) -> list[int]:
    return sorted(OPEN_MS + rng.randrange(6 * 3_600_000) for _ in range(count))


def _trades(rng: random.Random, count: int) -> Iterator[str]:
    price = 500_000
    for ms in _times(rng, count):
        price = max(10_000, price + rng.choice((-100, 0, 0, 100)))
        yield f"{ms},{price},{rng.choice((1, 100, 500))},{rng.choice('PQDZ')},0,0"


def _quotes(rng: random.Random, count: int) -> Iterator[str]:
    price = 500_000
    for ms in _times(rng, count):
        price = max(10_000, price + rng.choice((-100, 0, 0, 100)))
        yield f"{ms},{price},{rng.randrange(1, 50)}00,0,0,P,1,0"
        yield f"{ms},0,0,{price + 100},{rng.randrange(1, 50)}00,Q,1,0"


def _write(path: Path, header: str, rows: Iterator[str]) -> None:
    path.write_text("\n".join([header, *rows]) + "\n", "ascii")
