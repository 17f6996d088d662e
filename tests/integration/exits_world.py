"""Watches and prices for the tests of the exits service, and what it wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaProducer

from processors.exits.app import EVENTS, OUTPUTS, PRICES, WHOLE
from schemas.catalogue import (
    EXIT_EVENTS,
    EXIT_TRIGGERS,
    EXIT_WATCH,
    ORDER_INTENTS,
    STOCK_QUOTES,
    STOCK_TRADES,
)
from schemas.codec import Codec
from schemas.event_id import watch_id
from schemas.exit_rules import parameters, parse, watch_key
from tests.integration.processor_process import PARTITION_OF, PARTITIONS, read_all
from tidewire.config import Settings

Record = dict[str, Any]

NEEDED = (*PRICES, *EVENTS, *OUTPUTS, *WHOLE)
SECOND = 1_000_000_000
BASE = 1_381_154_400_000_000_000
"""2013-10-07 10:00 in New York, an hour of the regular session, in ns."""
PROGRAM = (
    "import sys; from processors.exits.app import main; "
    "from tidewire.config import load; sys.exit(main(load()))"
)
ACCOUNT = "demo-1"


def partition(name: str) -> int:
    """Where a symbol's or an account's records belong."""
    return int(PARTITION_OF(name.encode(), PARTITIONS, PARTITIONS))


def a_watch(symbol: str, spec: dict[str, Any], ts: int = BASE, **changes: Any) -> Record:
    """A rule on a long position of 100 that was entered at 100, as the portfolio side would write it."""
    rule = parse(spec)
    kind, entry = rule.kind, changes.pop("entry_price", Decimal(100))
    long = changes.get("quantity", Decimal(100)) > 0
    price = rule.price
    if rule.percent is not None:
        share = rule.percent / 100
        price = entry * (1 - share if long == (kind == "stop_loss") else 1 + share)
    watch = {
        "symbol": symbol,
        "account": ACCOUNT,
        "position_symbol": symbol,
        "position_epoch": 1,
        "rule": "r1",
        "ts": ts,
        "kind": kind,
        "quantity": Decimal(100),
        "entry_price": entry,
        "stop_price": price if kind == "stop_loss" else None,
        "limit_price": price if kind == "take_profit" else None,
        "trail_price": rule.trail_price,
        "trail_percent": rule.trail_percent,
        "parameters": parameters(rule, ts, ts, "cli:test"),
        "active": True,
        "exit_epoch": 0,
        "asset_class": "us_equity",
        "held": None,
        "price_basis_ts": 0,
        "result": None,
        "received_ts": ts,
        "source": "ws",
    } | changes
    names = ("account", "position_symbol", "rule", "position_epoch", "exit_epoch", "ts")
    return watch | {"event_id": watch_id(*(watch[name] for name in names))}


def a_quote(symbol: str, ts: int, bid: float, ask: float | None = None, **changes: Any) -> Record:
    """A quote of one size; a cent wide unless told."""
    record = {"symbol": symbol, "ts": ts, "bid_exchange": "V", "bid_price": bid, "bid_size": 1}
    record |= {"ask_exchange": "V", "ask_price": round(bid + 0.01, 4) if ask is None else ask, "ask_size": 2}
    record |= {"conditions": ["R"], "tape": "C", "extra": None, "received_ts": ts, "source": "ws"}
    return record | {"owner_epoch": 1, "event_id": (ts % (1 << 62)).to_bytes(8, "big")} | changes


class Market:
    """Publishes what the exits service reads."""

    def __init__(self, settings: Settings, codec: Codec, producer: AIOKafkaProducer) -> None:
        self._prefix, self._codec, self._producer = settings.tidewire_topic_prefix, codec, producer

    async def watches(self, *watches: Record) -> None:
        name, sent = self._prefix + EXIT_WATCH, []
        for watch in watches:
            value, lane = self._codec.encode("exit_watch", watch), partition(watch["symbol"])
            sent.append(await self._producer.send(name, value, key=watch_key(watch), partition=lane))
        await asyncio.gather(*sent)

    async def quotes(self, quotes: Iterable[Record]) -> None:
        await self._send(STOCK_QUOTES, "stock_quote", quotes)

    async def trades(self, trades: Iterable[Record]) -> None:
        await self._send(STOCK_TRADES, "stock_trade", trades)

    async def raw(self, topic: str, key: bytes, value: bytes | None, symbol: str) -> None:
        name = self._prefix + topic
        await self._producer.send_and_wait(name, value, key=key, partition=partition(symbol))

    async def _send(self, topic: str, stem: str, records: Iterable[Record]) -> None:
        lanes: dict[int, list[tuple[bytes, bytes]]] = {}
        for record in records:
            pair = record["symbol"].encode(), self._codec.encode(stem, record)
            lanes.setdefault(partition(record["symbol"]), []).append(pair)
        for lane, pairs in lanes.items():
            for start in range(0, len(pairs), 100):
                batch = self._producer.create_batch()
                for key, value in pairs[start : start + 100]:
                    assert batch.append(key=key, value=value, timestamp=None) is not None, "batch too small"
                await self._producer.send_batch(batch, self._prefix + topic, partition=lane)
        await self._producer.flush()


class Outcome:
    """What stands in the service's topics now: records in the order of their partitions."""

    def __init__(self, triggers: list[Any], intents: list[Any], events: list[Any], codec: Codec) -> None:
        self.raw_triggers, self.raw_intents = triggers, intents
        self.triggers = [codec.decode(r.value)[1] for r in triggers]
        self.intents = [codec.decode(r.value)[1] for r in intents]
        self.events = [codec.decode(r.value)[1] for r in events]


async def outcome(settings: Settings, codec: Codec) -> Outcome:
    """Read them whole."""
    topics = (EXIT_TRIGGERS, ORDER_INTENTS, EXIT_EVENTS)
    triggers, intents, events = [await read_all(settings, topic) for topic in topics]
    return Outcome(triggers, intents, events, codec)


def evidence(trigger: Record) -> Record:
    """What else a trigger's decision read."""
    found: Record = json.loads(trigger["evidence"])
    return found
