"""Looks at the whole line again and again: services over HTTP, Kafka by a consumer of its own, PostgreSQL.

Every source has its own loop, so one that does not answer holds up neither the others nor the screen: its
last value stays. Nothing here commits an offset or writes anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from console.screen import exposition
from console.screen.channels import CHANNELS, CRYPTO, NEWS, OPTIONS, ORDERS, STOCKS
from console.screen.completeness import CRYPTO_ROW, OPTIONS_ROW, Tracker
from console.screen.completeness_side import CompletenessSide
from console.screen.exits_side import ExitsSide
from console.screen.gateway_side import GatewaySide
from console.screen.kafka_side import KafkaSide
from console.screen.news_side import NewsSide
from console.screen.postgres_side import PostgresSide
from console.screen.rates import Rates
from console.screen.state import Observation, Process, Simulator, Symbol
from tidewire import log
from tidewire.config import STOCK_FEEDS
from tidewire.supervision.supervisor import Row

_LOOK_SECONDS = 0.5
_METRICS_SECONDS = 2.0
_COMPLETENESS_SECONDS = 1.0
_CONNECTION_STATE, _LATENCY = "tidewire_connection_state", "tidewire_feature_latency_seconds"
_METRICS = {"producer": _CONNECTION_STATE, "processor": f"{_LATENCY}_bucket"}
"""What is looked at, by service: the whole of it is work that a busy service has no time for."""
_TIMEOUT = aiohttp.ClientTimeout(total=2)

_MINUTE, _DAY = 60_000_000_000, 86_400_000_000_000
_ROWS = {
    **{channel: channel for channel in (*STOCKS, NEWS, ORDERS)},
    **dict.fromkeys(CRYPTO, CRYPTO_ROW),
    "option trades": OPTIONS_ROW,
}
"""Channel -> the row whose minutes are shown."""
_STOCK_OTHERS = {"statuses": "statuses", "bands": "lulds", "imbalances": "imbalances"}

_log = log.get("screen")


@dataclass(slots=True)
class _Service:
    """What a service said last."""

    ready: bool = False
    reason: str = "starting"
    buffered_bytes: int = 0
    samples: tuple[exposition.Sample, ...] = ()


class Observer:
    """Use as `async with Observer(...) as observer`, then `look()` at any time (it does not wait)."""

    def __init__(
        self,
        rows: Callable[[], list[Row]],
        kafka: KafkaSide,
        postgres: PostgresSide,
        news: NewsSide,
        completeness: CompletenessSide,
        exits: ExitsSide,
        simulator_url: str | None,
        client: GatewaySide | None = None,
    ) -> None:
        self._rows = rows
        self._kafka = kafka
        self._postgres = postgres
        self._news = news
        self._completeness = completeness
        self._exits = exits
        self._seen_at: dict[str, int] = {}
        self._client = client
        self._simulator_url = simulator_url
        self._simulator: Simulator | None = None
        self._services: dict[str, _Service] = {}
        self._rates = Rates(CHANNELS)
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Observer:
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=_TIMEOUT))
        self._stack.push_async_callback(self._kafka.close)
        self._stack.push_async_callback(self._postgres.close)
        self._stack.push_async_callback(self._news.close)
        self._stack.push_async_callback(self._completeness.close)
        self._stack.push_async_callback(self._exits.close)
        loops = {
            self._kafka.refresh: _LOOK_SECONDS,
            self._postgres.refresh: _LOOK_SECONDS,
            self._news.refresh: _LOOK_SECONDS,
            self._completeness.refresh: _COMPLETENESS_SECONDS,
            self._exits.refresh: _COMPLETENESS_SECONDS,
            self._look_at_simulator: _LOOK_SECONDS,
            self._look_at_services: _METRICS_SECONDS,
        }
        self._tasks = [asyncio.create_task(_again_and_again(*loop)) for loop in loops.items()]
        if self._client is not None:
            self._tasks.append(asyncio.create_task(self._client.run()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await _end(self._tasks)
        await self._stack.aclose()

    @property
    def tracker(self) -> Tracker:
        """What is known of gaps and audits."""
        return self._completeness.tracker

    def look(self) -> Observation:
        """The newest values of every source."""
        now = time.monotonic()
        producer = self._services.get("producer", _Service())
        processor = self._services.get("processor", _Service()).samples
        seen = Observation(
            at=now,
            ends=self._kafka.ends,
            begins=self._kafka.begins,
            stored=self._postgres.stored,
            committed=self._kafka.committed,
            symbols=self._kafka.symbols(),
            simulator=self._simulator,
            processes=tuple(self._process(row) for row in self._rows()),
            connection=exposition.active_label(
                producer.samples, _CONNECTION_STATE, "state", {"feed": STOCK_FEEDS}
            )
            or "-",
            buffered_bytes=producer.buffered_bytes,
            portfolio=None if self._client is None else self._client.portfolio(),
            headlines=self._news.headlines(),
            exits=self._exits.exits(),
            latency_p99=exposition.quantile(processor, _LATENCY, 0.99),
        )
        totals = {channel: seen.topic(channel) for channel in CHANNELS}
        self._note_minutes(totals, event_time(seen.symbols, time.time_ns()))
        completeness = self._completeness.tracker.show()
        return replace(seen, rates=self._rates.add(now, totals), completeness=completeness)

    def _note_minutes(self, totals: Mapping[str, int], ts: int) -> None:
        """Every channel whose topic has grown has events of this minute; a bar is that of the one before."""
        for channel, total in totals.items():
            if total > self._seen_at.get(channel, 0) and (row := _ROWS.get(channel)) is not None:
                late = _MINUTE if channel.endswith("bars") else 0
                self._completeness.tracker.saw(row, ts - late)
        self._seen_at = dict(totals)

    def _process(self, row: Row) -> Process:
        said = self._services.get(row.name)
        ready, reason = (True, "") if row.http is None else (False, "starting")
        if row.http is not None and said is not None:
            ready, reason = said.ready, said.reason
        return Process(
            row.name, row.phase, row.restarts, time.monotonic() - row.since, ready=ready, reason=reason
        )

    async def _look_at_services(self) -> None:
        running = [(row.name, row.http) for row in self._rows() if row.http is not None]
        await asyncio.gather(*(self._look_at_service(name, http) for name, http in running))

    async def _look_at_service(self, name: str, http: str) -> None:
        try:
            async with self._http.get(f"{http}/health") as answer:
                health = await answer.json()
            samples = await self._samples(name, http)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            if name in self._services:
                self._services[name] = replace(self._services[name], ready=False, reason="does not answer")
            return
        ready = health.get("status") == "healthy"
        buffered = int(health.get("buffered_bytes") or 0)
        self._services[name] = _Service(ready, str(health.get("reason") or ""), buffered, tuple(samples))

    async def _samples(self, name: str, http: str) -> list[exposition.Sample]:
        if (wanted := _METRICS.get(name)) is None:
            return []
        async with self._http.get(f"{http}/metrics", params=[("name[]", wanted)]) as answer:
            return exposition.parse(await answer.text())

    async def _look_at_simulator(self) -> None:
        if self._simulator_url is None:
            return
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
            async with self._http.get(f"{self._simulator_url}/sim/status") as answer:
                said = await answer.json()
            self._simulator = Simulator(
                state=str(said["state"]),
                published=_published(said),
                rejected=int(said.get("rejected", 0)),
                skipped_files=tuple(f"{s['file']}: {s['reason']}" for s in said.get("skipped_files", ())),
                elapsed_seconds=float(said.get("elapsed_seconds", 0.0)),
            )


def event_time(symbols: Sequence[Symbol], now_ns: int) -> int:
    """The market's time (ns): the clock's, unless what comes in is of another day (a recorded tape)."""
    newest = max((symbol.ts for symbol in symbols), default=now_ns)
    return newest if abs(now_ns - newest) > _DAY else now_ns


def _published(status: Mapping[str, Any]) -> dict[str, int]:
    """The simulator's counts by channel of the screen."""
    venues = status.get("venues", {})
    crypto = venues.get("crypto", {}).get("published", {})
    counts = {channel: status["published"].get(channel, 0) for channel in STOCKS}
    stocks = status["published"]
    counts |= {channel: stocks.get(name, 0) for channel, name in _STOCK_OTHERS.items()}
    counts["corrections"] = stocks.get("corrections", 0) + stocks.get("cancelErrors", 0)
    counts["order books"] = crypto.get("orderbooks", 0)
    options = venues.get("options", {}).get("published", {})
    counts |= {channel: options.get(channel.removeprefix("option "), 0) for channel in OPTIONS}
    counts |= {channel: crypto.get(channel.removeprefix("crypto "), 0) for channel in CRYPTO}
    counts[NEWS] = venues.get("news", {}).get("published", {}).get("news", 0)
    counts[ORDERS] = status.get("trading", {}).get("updates", 0)
    return {channel: int(count) for channel, count in counts.items()}


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel until all are over: aiokafka's clients may swallow a cancellation while they stop."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)


async def _again_and_again(refresh: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        try:
            await refresh()
        except Exception as error:  # the screen must outlive whatever it looks at
            _log.debug("no answer", source=refresh.__qualname__, error=repr(error))
        await asyncio.sleep(seconds)
