"""A made-up market for the tests of the processor: trades, quotes, and what must come of them."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from schemas.catalogue import STOCK_FEATURES
from schemas.codec import Codec
from tests.integration.processor_process import read_all
from tidewire.config import Settings

SYMBOLS = [f"SYM{i}" for i in range(9)]
BASE = 1_381_150_800_000_000_000


def a_trade(number: int, chance: random.Random) -> dict[str, Any]:
    return {
        "symbol": chance.choice(SYMBOLS),
        "ts": BASE + number * 1000 - chance.choice([0, 0, 0, 5_000, 90_000_000_000_000]),
        "id": number,
        "exchange": "V",
        "price": chance.randint(100_000, 2_000_000) / 10_000,
        "size": chance.randint(1, 5_000),
        "conditions": ["@"],
        "tape": "C",
        "extra": None,
        "received_ts": BASE + number,
        "source": "ws",
        "owner_epoch": 1,
        "event_id": number.to_bytes(8, "big"),
    }


def a_quote(number: int, chance: random.Random) -> dict[str, Any]:
    bid = chance.randint(100_000, 2_000_000) / 10_000
    prices = {"bid_exchange": "V", "bid_price": bid, "bid_size": 1, "ask_exchange": "V"}
    more = {"ask_price": bid + 0.01, "ask_size": 2, "conditions": ["R"], "tape": "C", "extra": None}
    tail = {"received_ts": BASE + number, "source": "ws", "owner_epoch": 1, "event_id": b"12345678"}
    ts = BASE + number * 1000 - chance.choice([0, 3_000])
    return {"symbol": chance.choice(SYMBOLS), "ts": ts} | prices | more | tail


def naive(trades: list[dict[str, Any]], quotes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The values that must be right to the last digit, by plain Python (two days: the base is 09:00)."""
    features: dict[str, dict[str, Any]] = {}
    for symbol in SYMBOLS:
        mine = [t for t in trades if t["symbol"] == symbol]
        session = [t for t in mine if t["ts"] > BASE - 30_000_000_000_000]  # the others are of the day before
        quoted = [q for q in quotes if q["symbol"] == symbol]
        last = max(mine, key=lambda t: (t["ts"], t["id"]))
        quote = max(reversed(quoted), key=lambda q: q["ts"])
        features[symbol] = {
            "last": last["price"],
            "bid": quote["bid_price"],
            "ask": quote["ask_price"],
            "high": max(t["price"] for t in session),
            "low": min(t["price"] for t in session),
            "volume": sum(t["size"] for t in session),
            "trade_count": len(session),
            "trades_folded": len(mine),
            "quotes_folded": len(quoted),
            "notional": sum((Decimal(repr(t["price"])) * t["size"] for t in session), Decimal(0)),
        }
    return features


def is_healthy(health: dict[str, Any]) -> bool:
    return health.get("status") == "healthy"


def has_keys(health: dict[str, Any]) -> bool:
    return is_healthy(health) and health["keys"] > 0


async def last_features(settings: Settings, codec: Codec) -> dict[str, dict[str, Any]]:
    return {r.key.decode(): codec.decode(r.value)[1] for r in await read_all(settings, STOCK_FEATURES)}


def assert_equal(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> None:
    assert found.keys() == expected.keys()
    for symbol, reference in expected.items():
        notional, record = reference.pop("notional"), found[symbol]
        wrong = {n: (record[n], value) for n, value in reference.items() if record[n] != value}
        assert not wrong, f"{symbol}: (found, expected) {wrong}"
        vwap = notional / reference["volume"]
        assert abs(Decimal(record["vwap"]) - vwap) <= vwap * Decimal("1e-9")
