"""Everything that is known of one symbol: its tape, its drops, its articles, and its last signals. Pure.

Each input topic has an offset of its own up to which it is folded. A record that is read again changes
nothing, but the signals that it made are given again: the crash before may have prevented their sending.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from processors.signals import flash, news
from processors.signals.flash import Crash
from processors.signals.news import Article, Spike, Verdict
from processors.signals.tape import BUCKET_NS, MICROS, WINDOW, Tape, Trade
from schemas.event_id import signal_id

REMEMBERED = 8
"""Signals that can be given again."""

State = dict[str, Any]
Record = dict[str, Any]


class Step(NamedTuple):
    """What a record has led to."""

    verdict: Verdict
    signals: list[Record]


def empty() -> State:
    """A symbol of which nothing is known."""
    tape = {"buckets": [], "pruned": False}
    return {"next": {}, "tape": tape, "flash": flash.empty(), "news": news.empty(), "told": []}


class Symbol:
    """A symbol's state while records are folded; `state` is what is kept."""

    def __init__(self, name: str, state: State) -> None:
        self._name, self.state = name, state
        kept = state["tape"]
        self._tape = Tape(kept["buckets"], pruned=kept["pruned"])

    def trade(self, topic: str, offset: int, trade: Trade | None) -> Step:
        """A trade; None: one that may not set the last price."""
        if (again := self._repeated(topic, offset)) is not None:
            return again
        if trade is None:
            return Step("filtered", [])  # its offset counts as folded
        before = self._tape.newest
        if not self._tape.add(trade):
            return Step("late", [])
        found = []
        if (crash := flash.look(self.state["flash"], self._tape, trade)) is not None:
            found.append(self._crash(crash, trade))
        if self._tape.newest != before:
            found += map(self._spike, news.look(self.state["news"], self._tape))
        return self._told(topic, offset, "applied", found)

    def article(self, topic: str, offset: int, article: Article) -> Step:
        """An analyzer's score of an article."""
        if (again := self._repeated(topic, offset)) is not None:
            return again
        verdict = news.take(self.state["news"], article, self._tape)
        found = [self._spike(spike) for spike in news.look(self.state["news"], self._tape)]
        return self._told(topic, offset, verdict, found)

    def filtered(self, topic: str, offset: int) -> Step:
        """A record that does not count."""
        return self._repeated(topic, offset) or Step("filtered", [])

    def keep(self) -> State:
        """The state as it is to be written."""
        self.state["tape"] = {"buckets": [list(b) for b in self._tape.buckets], "pruned": self._tape.pruned}
        return self.state

    def _repeated(self, topic: str, offset: int) -> Step | None:
        if offset < self.state["next"].get(topic, 0):
            told = [record for t, o, record in self.state["told"] if (t, o) == (topic, offset)]
            return Step("duplicate", [_bytes(record) for record in told])
        self.state["next"][topic] = offset + 1
        return None

    def _told(self, topic: str, offset: int, verdict: Verdict, found: list[Record]) -> Step:
        for record in found:
            self.state["told"].append([topic, offset, record])
        del self.state["told"][:-REMEMBERED]
        return Step(verdict, [_bytes(record) for record in found])

    def _crash(self, crash: Crash, trade: Trade) -> Record:
        detail = {
            "price": _usd(crash.price),
            "high": _usd(crash.high),
            "drop_ppm": crash.drop,
            "threshold_ppm": crash.threshold,
            "usual_range_ppm": crash.usual,
            "times_usual": flash.TIMES,
            "floor_ppm": flash.FLOOR_PPM,
            "trades": flash.CONFIRMED,
        }
        measured = {"value": crash.drop / 10_000, "threshold": crash.threshold / 10_000}
        window = WINDOW * BUCKET_NS
        return self._record(
            "flash_crash", crash.ts, measured, window, detail, trade.received_ts, trade.source
        )

    def _spike(self, spike: Spike) -> Record:
        detail = {
            "article": spike.article,
            "article_ts": spike.article_ts,
            "score": spike.score / 1000,
            "mean_score": spike.mean / 1000,
            "by": spike.by,
            "price_before": _usd(spike.before),
            "price": _usd(spike.price),
            "move_ppm": spike.move,
            "move_threshold_ppm": spike.move_threshold,
            "volume": spike.volume / MICROS,
            "volume_threshold": spike.volume_threshold / MICROS,
        }
        measured = {"value": spike.jump / 1000, "threshold": news.JUMP / 1000}
        window = spike.ts - spike.article_ts
        return self._record("news_spike", spike.ts, measured, window, detail, spike.received_ts, spike.source)

    def _record(
        self,
        kind: str,
        ts: int,
        measured: dict[str, float],
        window_ns: int,
        detail: dict[str, Any],
        received_ts: int,
        source: str,
    ) -> Record:
        cause = str(detail.get("article", ""))
        return {
            "symbol": self._name,
            "ts": ts,
            "kind": kind,
            **measured,
            "window_ns": window_ns,
            "detail": orjson.dumps(detail).decode(),
            "received_ts": received_ts,
            "source": source,
            "event_id": signal_id(self._name, kind, ts, cause).hex(),
        }


def _bytes(record: Record) -> Record:
    return record | {"event_id": bytes.fromhex(record["event_id"])}


def _usd(micros: int) -> str:
    """Micro-dollars as plain text."""
    whole, part = divmod(micros, MICROS)
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".")
