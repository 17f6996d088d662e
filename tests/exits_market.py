"""A small market for tests of exits: watches, quotes and trades with their coordinates, crashes included."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from processors.columns.records import Records
from processors.exits.fold import VERSION, Coordinates, Outcome, PartitionExits
from processors.exits.hours import ALWAYS, CRYPTO, Session, day_bounds

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
OPENS = int(datetime(2026, 6, 1, 13, 30, tzinfo=UTC).timestamp()) * SECOND
"""9:30 in New York on a Monday."""
NOON = OPENS + 150 * MINUTE

QUOTES, TRADES, WATCHES, OTHERS = "stocks.quotes", "stocks.trades", "exits.watch", "others"


class Weekdays:
    """9:30 to 16:00 on each weekday, with extended hours; no calendar has to be loaded."""

    def session(self, asset_class: str, ts: int) -> Session | None:
        """The session of the New York day of `ts` (ns)."""
        if asset_class == CRYPTO:
            return ALWAYS
        begin = day_bounds(ts)[0]
        if datetime.fromtimestamp(begin // SECOND + 12 * 3600, UTC).weekday() >= 5:
            return None
        hours = [begin + minutes * MINUTE for minutes in (240, 570, 960, 1200)]
        return Session(*hours)


def a_watch(kind: str = "stop_loss", **more: Any) -> dict[str, Any]:
    """An exit_watch: 100 AAPL of account a, bought at 100, stop at 95; parameters as keywords too."""
    known = {
        "symbol": "AAPL",
        "account": "a",
        "position_symbol": "AAPL",
        "position_epoch": 1,
        "rule": "r",
        "ts": OPENS,
        "kind": kind,
        "quantity": Decimal(100),
        "entry_price": Decimal(100),
        "stop_price": Decimal(95) if kind == "stop_loss" else None,
        "limit_price": Decimal(110) if kind == "take_profit" else None,
        "trail_price": None,
        "trail_percent": None,
        "active": True,
        "exit_epoch": 0,
        "asset_class": "us_equity",
        "held": None,
        "price_basis_ts": 0,
        "result": None,
        "received_ts": 5,
        "source": "ws",
        "event_id": b"12345678",
    }
    parameters = {name: value for name, value in more.items() if name not in known}
    for name in ("quantity", "entry_price", "stop_price", "limit_price", "trail_price", "trail_percent"):
        if more.get(name) is not None:
            more[name] = Decimal(str(more[name]))
    fields = {name: value for name, value in more.items() if name in known}
    return {**known, **fields, "parameters": json.dumps(parameters)}


class Market:
    """A partition and its log; `crash` loads it anew and plays the log again from the last commit."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now
        self.offsets: dict[str, int] = {}
        self.rows: dict[bytes, bytes] = {}
        self.triggers: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.log: list[tuple[str, tuple[Any, ...]]] = []
        self.exits = self._loaded()

    def _loaded(self) -> PartitionExits:
        return PartitionExits(Records(VERSION, self.rows), Weekdays())

    def at(self, topic: str) -> Coordinates:
        """Where the next record of a topic stands."""
        offset = self.offsets.get(topic, 0)
        self.offsets[topic] = offset + 1
        return Coordinates(topic, 0, offset)

    def put(self, method: str, *arguments: Any) -> str:
        """Fold an input and remember it."""
        self.log.append((method, arguments))
        return self._fold(method, arguments)

    def _fold(self, method: str, arguments: tuple[Any, ...]) -> str:
        result: str = getattr(self.exits, method)(*arguments)
        self._gather(self.exits.take())
        return result

    def _gather(self, outcome: Outcome) -> None:
        self.rows.update(outcome.rows)
        self.triggers += outcome.triggers
        self.events += outcome.events

    def commit(self, rows: int | None = None) -> None:
        """All rows go to the changelog and the log is done with; `rows`: a crash amid it, after so many."""
        changed = list(self.exits.records.take_changed().items())
        for key, value in changed[:rows]:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        if rows is None:
            self.log.clear()

    def crash(self) -> None:
        """Load it anew and play the log again from the last commit."""
        self.exits = self._loaded()
        self._gather(self.exits.take())
        for method, arguments in self.log:
            self._fold(method, arguments)

    def watch(self, record: dict[str, Any]) -> str:
        """A watch."""
        return self.put("watch", record, self.at(WATCHES))

    def quote(
        self, bid: float, ask: float, ts: int | None = None, symbol: str = "AAPL", source: str = "ws"
    ) -> str:
        """A quote; the next millisecond unless told."""
        ts = self._time(ts)
        at = self.at(QUOTES)
        return self.put("quote", symbol, bid, ask, 1, 1, (), ts, ts + 7, at, source)

    def trade(
        self,
        price: float,
        conditions: Sequence[str] = (),
        ts: int | None = None,
        symbol: str = "AAPL",
        source: str = "ws",
    ) -> str:
        """A trade."""
        ts = self._time(ts)
        at = self.at(TRADES)
        return self.put("trade", symbol, price, 100, conditions, "V", ts, ts + 7, at, source, "C")

    def other(self, method: str, record: dict[str, Any]) -> str:
        """A status, LULD band, corporate action or signal."""
        whole = {"symbol": "AAPL", "ts": self.now, "received_ts": self.now + 7, "source": "ws", **record}
        return self.put(method, whole, self.at(OTHERS))

    def told(self, event: str) -> list[tuple[str, str]]:
        """Gate and reason of each event of a kind."""
        return [(e["gate"], e["reason"]) for e in self.events if e["event"] == event]

    def fired(self) -> list[str]:
        """Ids of the triggers, in order."""
        return [t["trigger_id"] for t in self.triggers if t["state"] == "pending"]

    def _time(self, ts: int | None) -> int:
        self.now = self.now + SECOND // 1000 if ts is None else ts
        return self.now


def guarded(**more: Any) -> Market:
    """A stop at 95 under prices of 100."""
    market = Market()
    market.watch(a_watch(**more))
    if more.get("reference") == "last":
        market.trade(100.0)
    market.quote(100.0, 100.1)
    market.events.clear()
    return market
