"""The independent digest's arithmetic: an order-free sum of hashes that counts repeats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MODULUS = 1 << 128

Event = dict[str, Any]
Digest = dict[str, tuple[int, int]]


@dataclass
class Sums:
    """Per channel and symbol: how many events, and the sum of their hashes."""

    of: dict[str, Digest] = field(default_factory=dict)

    def add(self, channel: str, symbol: str, text: str) -> None:
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
        symbols = self.of.setdefault(channel, {})
        count, total = symbols.get(symbol, (0, 0))
        symbols[symbol] = (count + 1, (total + number) % MODULUS)

    def counts(self, channel: str) -> dict[str, int]:
        return {symbol: count for symbol, (count, _) in sorted(self.of.get(channel, {}).items())}

    def as_json(self) -> dict[str, dict[str, Any]]:
        return {
            channel: {
                symbol: {"count": n, "digest": f"{total:032x}"} for symbol, (n, total) in sorted(of.items())
            }
            for channel, of in sorted(self.of.items())
        }


TRADE = ("symbol", "ts", "id", "exchange", "price", "size")
QUOTE = (
    "symbol", "ts", "bid_exchange", "bid_price", "bid_size", "ask_exchange", "ask_price", "ask_size",
)  # fmt: skip
BAR = (
    "symbol", "ts", "interval", "revision", "open", "high", "low", "close", "volume", "trade_count", "vwap",
)  # fmt: skip
CORE = {"trades": TRADE, "quotes": QUOTE}
WHOLE = {
    "trades": (*TRADE, "conditions", "tape", "extra", "event_id"),
    "quotes": (*QUOTE, "conditions", "tape", "extra", "event_id"),
    "bars": (*BAR, "extra", "event_id"),
}


def text_of(event: Event, fields: Iterable[str]) -> str:
    return "|".join(repr(event[name]) for name in fields)
