"""Topics, rows and a ledger as a whole run leaves them, for tests of the report to damage in one place."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass, field
from typing import Any

import msgpack
import psycopg
from aiokafka import AIOKafkaProducer
from rich.console import Console

from schemas import cluster
from schemas.catalogue import (
    AUDITS,
    GAPS,
    SIMULATOR_TICKS,
    STOCK_BARS,
    STOCK_FEATURES,
    STOCK_QUOTES,
    STOCK_TRADES,
)
from schemas.codec import load_codec
from schemas.event_id import bar_id, quote_id, trade_id
from schemas.gaps import Gap
from sinks.postgres import migrate
from tidewire.config import Settings
from tidewire.dead_letters import DeadLetter, publish
from tidewire.kafka import client_arguments
from verify import report, screen

T0 = 1_381_152_600_000_000_123
TAIL = {"source": "ws", "owner_epoch": 0, "extra": None}


def trade(n: int, symbol: str = "BAC") -> dict[str, Any]:
    ts, price = T0 + n * 1_000_003, (1395 + n) / 100
    return {
        "symbol": symbol, "ts": ts, "id": n, "exchange": "P", "price": price, "size": 100 * n,
        "conditions": ["@", "F"], "tape": "A", "received_ts": ts + n * 1_000_000_000,
        "event_id": trade_id(symbol, "P", n, ts), **TAIL,
    }  # fmt: skip


def quote(n: int, ordinal: int = 0, symbol: str = "IBM") -> dict[str, Any]:
    ts = T0 + n * 1_000_003
    return {
        "symbol": symbol, "ts": ts, "bid_exchange": "", "bid_price": 0.0, "bid_size": 0, "ask_exchange": "Q",
        "ask_price": 183.63, "ask_size": n, "conditions": [], "tape": "A", "received_ts": ts,
        "event_id": quote_id(symbol, ts, "", 0.0, 0, "Q", 183.63, n, [], "A", ordinal), **TAIL,
    }  # fmt: skip


def bar(n: int, symbol: str = "BAC") -> dict[str, Any]:
    ts = T0 // 60_000_000_000 * 60_000_000_000 + n * 60_000_000_000
    return {
        "symbol": symbol, "ts": ts, "interval": "minute", "revision": 0, "open": 1.0, "high": 2.0, "low": 0.5,
        "close": 1.5, "volume": 100, "trade_count": 1, "vwap": 1.25, "received_ts": ts,
        "event_id": bar_id(symbol, "minute", ts, 0), **TAIL,
    }  # fmt: skip


_WIRE = {
    "trades": {"S": "symbol", "i": "id", "x": "exchange", "p": "price", "s": "size",
        "c": "conditions", "z": "tape"},
    "quotes": {
        "S": "symbol", "bx": "bid_exchange", "bp": "bid_price", "bs": "bid_size", "ax": "ask_exchange",
        "ap": "ask_price", "as": "ask_size", "c": "conditions", "z": "tape",
    },
    "bars": {
        "S": "symbol", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "n": "trade_count",
        "vw": "vwap",
    },
}  # fmt: skip
_TOPICS = {"trades": STOCK_TRADES, "quotes": STOCK_QUOTES, "bars": STOCK_BARS}
_STEMS = {"trades": "stock_trade", "quotes": "stock_quote", "bars": "stock_bar"}


def message(channel: str, record: dict[str, Any]) -> dict[str, Any]:
    at = msgpack.Timestamp(*divmod(record["ts"], 10**9))
    return {"T": channel[0], **{k: record[name] for k, name in _WIRE[channel].items()}, "t": at}


@dataclass
class World:
    """What the test put where; `write` makes it so."""

    settings: Settings
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    places: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    folded: dict[str, int] = field(default_factory=dict)
    sent_more: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    audits: list[dict[str, Any]] = field(default_factory=list)

    def name(self, topic: str) -> str:
        return self.settings.tidewire_topic_prefix + topic

    def write(self) -> None:
        asyncio.run(self._kafka())
        self._rows()
        self._ledger()

    async def _kafka(self) -> None:
        topics = [*_TOPICS.values(), STOCK_FEATURES, SIMULATOR_TICKS, GAPS, AUDITS]
        await cluster.apply(self.settings, topics)
        codec = load_codec(self.settings)
        producer = AIOKafkaProducer(**client_arguments(self.settings))
        await producer.start()
        try:
            for channel, records in self.records.items():
                for record in records:
                    value, key = codec.encode(_STEMS[channel], record), record["symbol"].encode()
                    sent = await producer.send_and_wait(self.name(_TOPICS[channel]), value, key=key)
                    self.places[record["event_id"]] = (sent.partition, sent.offset)
            for gap in self.gaps:
                value = codec.encode("gap", gap.record())
                await producer.send_and_wait(self.name(GAPS), value, key=gap.key)
            for audit in self.audits:
                await producer.send_and_wait(self.name(AUDITS), codec.encode("audit", audit), key=b"k")
            for value in self.raw:
                await producer.send_and_wait(self.name(STOCK_TRADES), value, key=b"BAC", partition=0)
            await publish(producer, self.letters)
            for symbol, counts in self._features().items():
                value = codec.encode("stock_features", counts)
                await producer.send_and_wait(self.name(STOCK_FEATURES), value, key=symbol.encode())
        finally:
            await producer.stop()

    async def append(self, channel: str, record: dict[str, Any]) -> None:
        """One more record at the end of its topic, and nowhere else."""
        producer = AIOKafkaProducer(**client_arguments(self.settings))
        await producer.start()
        try:
            value = load_codec(self.settings).encode(_STEMS[channel], record)
            await producer.send_and_wait(self.name(_TOPICS[channel]), value, key=record["symbol"].encode())
        finally:
            await producer.stop()

    def _features(self) -> dict[str, dict[str, Any]]:
        names = "last last_ts bid ask quote_ts mid spread vwap high low"
        blank = dict.fromkeys(names.split())
        return {
            "BAC": {
                **blank, "symbol": "BAC", "ts": T0, "session": 20131007, "volume": 0, "trade_count": 0,
                "staleness_ns": None, "trades_folded": self.folded["trades"],
                "quotes_folded": self.folded["quotes"], "received_ts": T0, "source": "ws",
            }
        }  # fmt: skip

    def _rows(self) -> None:
        assert self.settings.database_url is not None
        migrate.apply(self.settings.database_url.get_secret_value())
        with psycopg.connect(self.settings.database_url.get_secret_value()) as connection:
            for channel, records in self.records.items():
                connection.execute(f"CREATE TABLE {channel}_all PARTITION OF {channel} DEFAULT")
                for record in records:
                    self._row(connection, channel, record)

    def _row(self, connection: psycopg.Connection[Any], channel: str, record: dict[str, Any]) -> None:
        renamed = {"trades": {"id": "trade_id"}, "bars": {"interval": "bar_interval"}, "quotes": {}}[channel]
        row = {renamed.get(k, k): v for k, v in record.items() if k not in ("owner_epoch", "ts")}
        row["ts_nanos"] = record["ts"] % 1000
        row["k_part"], row["k_offset"] = self.places[record["event_id"]]
        micros = record["ts"] // 1000
        connection.execute(
            f"INSERT INTO {channel} (ts, {', '.join(row)}) VALUES "
            f"(timestamptz 'epoch' + %s * interval '1 microsecond', {', '.join(['%s'] * len(row))})",
            (micros, *row.values()),
        )

    def _ledger(self) -> None:
        folder = self.settings.tidewire_home / "simulator" / "ledger"
        folder.mkdir(parents=True)
        messages = [message(c, r) for c, records in self.records.items() for r in records] + self.sent_more
        with (folder / "000001.frames").open("wb") as file:
            for start in range(0, len(messages), 3):
                body = msgpack.packb(messages[start : start + 3])
                file.write(len(body).to_bytes(4, "big") + body)
            file.write(b"\0\0\1\0half an en")
        (folder / "ledger.json").write_text('{"complete_from": 0}')

    def sql(self, statement: str) -> None:
        assert self.settings.database_url is not None
        with psycopg.connect(self.settings.database_url.get_secret_value()) as connection:
            connection.execute(statement)

    def report(self, **more: Any) -> dict[str, Any]:
        found = report.build(self.settings, **({"wait_seconds": 0.0} | more))
        shown = io.StringIO()
        Console(file=shown, width=200).print(screen.render(found))
        assert ("NOT complete" in shown.getvalue()) != found.complete
        body: dict[str, Any] = json.loads(found.text())
        return body
