"""If these fail, a message lost inside a healthy connection is never found, or never repaired.

Kafka is real; Alpaca's history is a small HTTP server; the test stands in for the backfiller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer, TopicPartition

from producers import log_tail
from producers.audit.app import Auditor
from schemas import catalogue, cluster, gaps
from schemas.codec import Codec, load_codec
from schemas.event_id import bar_id, news_id, quote_id, trade_id
from schemas.gaps import Gap
from tests.integration.service_run import running as service_running
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

MINUTE = 60_000_000_000
M0 = 1_381_152_600_000_000_000
SPEED = 25
"""The auditor's clock runs so many times as fast as ours."""
STEMS = {
    "trades": (catalogue.STOCK_TRADES, "stock_trade"),
    "quotes": (catalogue.STOCK_QUOTES, "stock_quote"),
    "bars": (catalogue.STOCK_BARS, "stock_bar"),
    "dailyBars": (catalogue.STOCK_BARS, "stock_bar"),
    "news": (catalogue.NEWS, "news"),
}
TAIL = {"source": "ws", "owner_epoch": 1, "extra": None, "received_ts": M0}
Record = dict[str, Any]


def trade(n: int, ts: int, symbol: str = "AAPL") -> Record:
    return {
        "symbol": symbol, "ts": ts, "id": n, "exchange": "P", "price": 10.0, "size": 100, "conditions": ["@"],
        "tape": "C", "event_id": trade_id(symbol, "P", n, ts), **TAIL,
    }  # fmt: skip


def quote(ts: int, size: int, symbol: str = "AAPL") -> Record:
    return {
        "symbol": symbol, "ts": ts, "bid_exchange": "Q", "bid_price": 1.0, "bid_size": size,
        "ask_exchange": "Q", "ask_price": 2.0, "ask_size": 1, "conditions": ["R"], "tape": "C",
        "event_id": quote_id(symbol, ts, "Q", 1.0, size, "Q", 2.0, 1, ["R"], "C", 0), **TAIL,
    }  # fmt: skip


def bar(minute: int, trades: int, symbol: str = "AAPL", revision: int = 0) -> Record:
    return {
        "symbol": symbol, "ts": minute, "interval": "minute", "revision": revision, "open": 10.0,
        "high": 10.0, "low": 10.0, "close": 10.0, "volume": 100 * trades, "trade_count": trades, "vwap": 10.0,
        "event_id": bar_id(symbol, "minute", minute, revision), **TAIL,
    }  # fmt: skip


def day_bar(day: int, trades: int, symbol: str = "AAPL", revision: int = 0) -> Record:
    id = bar_id(symbol, "day", day, revision)
    return bar(day, trades, symbol, revision) | {"interval": "day", "event_id": id}


def article(id: str, ts: int) -> Record:
    return {
        "id": id, "provider": "benzinga", "ts": ts, "revision": ts, "created_ts": ts, "headline": "h",
        "summary": "", "content": "", "author": "", "url": "", "symbols": ["AAPL"],
        "event_id": news_id("benzinga", id, ts), **TAIL,
    }  # fmt: skip


_WIRE = {
    "trades": {"i": "id", "x": "exchange", "p": "price", "s": "size", "c": "conditions", "z": "tape"},
    "quotes": {
        "bx": "bid_exchange", "bp": "bid_price", "bs": "bid_size", "ax": "ask_exchange", "ap": "ask_price",
        "as": "ask_size", "c": "conditions", "z": "tape",
    },
    "bars": {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "n": "trade_count",
        "vw": "vwap"},
}  # fmt: skip


def rfc3339(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"


def parsed(text: str) -> int:
    head, _, tail = text.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp())
    return whole * 10**9 + int((tail + "0" * 9)[:9])


@dataclass
class Alpaca:
    """The history: everything that was published, answered as Alpaca does."""

    has: dict[str, list[Record]] = field(default_factory=lambda: {name: [] for name in STEMS})
    url: str = ""

    async def rows(self, request: web.Request) -> web.Response:
        name, query = request.match_info["channel"], request.query
        channel = "dailyBars" if query.get("timeframe") == "1Day" else name
        found: dict[str, list[Record]] = {}
        for record in self._between(channel, query):
            if record["symbol"] in query["symbols"].split(","):
                row = {short: record[long] for short, long in _WIRE[name].items()}
                found.setdefault(record["symbol"], []).append({**row, "t": rfc3339(record["ts"])})
        return self._answer({name: found, "next_page_token": None})

    async def news(self, request: web.Request) -> web.Response:
        rows = [
            {
                "id": int(r["id"]), "source": r["provider"], "updated_at": rfc3339(r["ts"]),
                "created_at": rfc3339(r["ts"]), "headline": "h", "symbols": ["AAPL"],
            }
            for r in self._between("news", request.query)
        ]  # fmt: skip
        return self._answer({"news": rows, "next_page_token": None})

    def _between(self, channel: str, query: Any) -> list[Record]:
        start, end = parsed(query["start"]), parsed(query["end"])
        return [r for r in self.has[channel] if start <= r["ts"] <= end]

    @staticmethod
    def _answer(body: Record) -> web.Response:
        return web.json_response(body, headers={"X-RateLimit-Limit": "10000", "X-RateLimit-Remaining": "99"})


@asynccontextmanager
async def alpaca() -> AsyncIterator[Alpaca]:
    history, app = Alpaca(), web.Application()
    app.router.add_get("/v2/stocks/{channel}", history.rows)
    app.router.add_get("/v1beta1/news", history.news)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    history.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield history
    finally:
        await runner.cleanup()


@dataclass
class Log:
    """What the test puts into Kafka and reads from it."""

    settings: Settings
    codec: Codec
    producer: AIOKafkaProducer

    async def put(self, channel: str, *records: Record) -> list[str]:
        topic, stem = STEMS[channel]
        name, places = self.settings.tidewire_topic_prefix + topic, []
        for record in records:
            key = str(record.get("symbol") or record["id"]).encode()
            sent = await self.producer.send_and_wait(name, self.codec.encode(stem, record), key=key)
            places.append(f"{name}:{sent.partition}:{sent.offset}:{sent.offset}")
        return places

    async def close(self, gap: Gap, placed: list[str], published: int) -> None:
        """What the backfiller writes in the end."""
        over = gap.at(gap.ts + 1, state=gaps.CLOSED, found=1, published=published, placed=tuple(placed))
        await self.producer.send_and_wait(
            self.settings.tidewire_topic_prefix + catalogue.GAPS,
            self.codec.encode("gap", over.record()),
            key=over.key,
        )

    async def all(self, topic: str) -> list[Record]:
        async with log_tail.reader(client_arguments(self.settings)) as consumer:
            name = self.settings.tidewire_topic_prefix + topic
            partitions = [TopicPartition(name, n) for n in range(4)]
            ends = await log_tail.ends(consumer, partitions)
            found = await log_tail.read(consumer, {tp: (0, end) for tp, end in ends.items()})
        records = [self.codec.decode(r.value)[1] for rs in found.values() for r in rs]
        return sorted(records, key=lambda r: r["received_ts"])

    async def gaps(self) -> list[Gap]:
        board = gaps.Board()
        for record in await self.all(catalogue.GAPS):
            board.put(Gap.of(record))
        return [*board.open(), *board.closed()]

    async def audited(self) -> dict[tuple[str, int, str], bool]:
        """(channel, minute's number, symbol) -> whether the newest record calls it equal."""
        found = {}
        for record in await self.all(catalogue.AUDITS):
            for symbol in record["symbols"]:
                place = (record["channel"], (record["ts"] - M0) // MINUTE, symbol)
                found[place] = symbol not in record["differing"]
        return found


@asynccontextmanager
async def world(settings: Settings) -> AsyncIterator[tuple[Settings, Alpaca, Log]]:
    async with alpaca() as history:
        changed = settings.model_copy(
            update={
                "tidewire_data_url": history.url, "tidewire_symbols": ("AAPL", "MSFT"),
                "tidewire_crypto_symbols": (), "tidewire_option_symbols": (), "tidewire_audit_quotes": 1,
                "tidewire_news_symbols": ("*",),
            }
        )  # fmt: skip
        topics = [*{topic for topic, _ in STEMS.values()}, catalogue.GAPS, catalogue.AUDITS]
        await cluster.apply(changed, topics)
        producer = AIOKafkaProducer(**client_arguments(changed), acks="all")
        await producer.start()
        try:
            yield changed, history, Log(changed, load_codec(changed), producer)
        finally:
            await producer.stop()


@asynccontextmanager
async def auditor(settings: Settings) -> AsyncIterator[None]:
    begin = time.time_ns()
    service = Auditor(settings, clock=lambda: begin + (time.time_ns() - begin) * SPEED)
    async with service_running(service, "auditor"):
        yield


async def until(what: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = await what()
        if found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.2)


async def play(history: Alpaca, log: Log, lost: dict[str, list[Record]]) -> None:
    """Two minutes and the beginning of a later one are published; the log has them but for what is lost."""
    trades = [trade(n, M0 + n * 1_000_000_000, s) for n in range(1, 80, 7) for s in ("AAPL", "MSFT")]
    later = [trade(900, M0 + 8 * MINUTE, s) for s in ("AAPL", "MSFT")]
    counts: dict[tuple[int, str], int] = {}
    for one in trades:
        place = ((one["ts"] - M0) // MINUTE, one["symbol"])
        counts[place] = counts.get(place, 0) + 1
    published = {
        "trades": trades + later,
        "bars": [bar(M0 + minute * MINUTE, n, symbol) for (minute, symbol), n in counts.items()],
        "quotes": [quote(M0 + n * 10_000_000_000, n) for n in range(1, 8)],
        "news": [article("1", M0 + 1), article("2", M0 + 2 * MINUTE)],
    }
    for channel, records in published.items():
        history.has[channel] = records
        gone = [r["event_id"] for r in lost.get(channel, ())]
        await log.put(channel, *(r for r in records if r["event_id"] not in gone))


def test_what_was_lost_in_silence_is_found_asked_for_and_then_called_audited(settings: Settings) -> None:
    """A trade, a bar, a quote and an article, dropped while the connection was healthy."""
    lost = {
        "trades": [trade(8, M0 + 8 * 1_000_000_000)],
        "bars": [bar(M0 + MINUTE, 3, "MSFT")],
        "quotes": [quote(M0 + 70_000_000_000, 7)],
        "news": [article("2", M0 + 2 * MINUTE)],
    }

    async def case() -> None:
        async with world(settings) as (changed, history, log):
            await play(history, log, lost)

            async def asked() -> list[Gap] | None:
                found = await log.gaps()
                return found if len(found) >= 4 else None

            async def repaired() -> bool:
                found = await log.audited()
                return len(found) >= 12 and all(found.values())

            async with auditor(changed):
                found = await until(asked)
                assert found, await log.gaps()
                expected = {
                    ("trades", ("AAPL",), M0, M0 + MINUTE - 1),
                    ("bars", ("MSFT",), M0 + 2 * MINUTE, M0 + 3 * MINUTE - 1),
                    ("quotes", ("AAPL",), M0 + MINUTE, M0 + 2 * MINUTE - 1),
                    ("news", ("*",), M0 + 2 * MINUTE, M0 + 2 * MINUTE),
                }
                assert {(g.channel, g.symbols, g.from_ts, g.until_ts) for g in found} == expected
                assert {g.reason for g in found} == {gaps.AUDIT}
                before = await log.audited()
                assert before["trades", 0, "MSFT"]
                assert not before["trades", 0, "AAPL"]
                for gap in found:
                    again = [{**r, "source": "rest"} for r in lost[gap.channel]]
                    await log.close(gap, await log.put(gap.channel, *again), len(again))
                assert await until(repaired), await log.audited()
            assert len(await log.gaps()) == 4

    asyncio.run(case())


def test_a_difference_that_a_repair_leaves_is_named_once_and_a_restart_goes_on(settings: Settings) -> None:
    """Else the same minute is fetched for ever, or a restart compares everything anew."""
    lost = {"trades": [trade(8, M0 + 8 * 1_000_000_000)]}

    async def case() -> None:
        async with world(settings) as (changed, history, log):
            await play(history, log, lost)

            async def told(word: str) -> list[Record] | None:
                records = [r for r in await log.all(catalogue.AUDITS) if word in (r["detail"] or "")]
                return records or None

            async with auditor(changed):
                assert await until(lambda: told("asked for"))
                (gap,) = await log.gaps()
            async with auditor(changed):  # one that was stopped while the repair was under way
                await log.close(gap, [], 0)
                (named,) = await until(lambda: told("found nothing"))
                assert (named["symbols"], named["expected"], named["held"]) == (["AAPL"], 9, 8)
            known = {r["event_id"] for r in await log.all(catalogue.AUDITS)}
            more = trade(950, M0 + 20 * MINUTE), trade(951, M0 + 20 * MINUTE, "MSFT")
            history.has["trades"] += more
            await log.put("trades", *more)

            async def later() -> list[Record] | None:
                new = [r for r in await log.all(catalogue.AUDITS) if r["event_id"] not in known]
                done = ("trades", 8, "MSFT") in await log.audited()
                return [r for r in new if r["channel"] == "trades"] or None if done else None

            async with auditor(changed):
                new = await until(later)
            assert min(r["ts"] for r in new) >= M0 + 8 * MINUTE  # what was compared is not compared again
            assert len(await log.gaps()) == 1

    asyncio.run(case())


def test_a_days_bars_are_compared_once_its_session_is_over(settings: Settings) -> None:
    """The last word on a day was lost in silence, of one symbol, and its whole bar of another."""
    day = M0 - 34_200 * 10**9  # midnight in New York
    evening = day + 20 * 60 * MINUTE

    async def case() -> None:
        async with world(settings) as (changed, history, log):
            final = [day_bar(day, 9, revision=1), day_bar(day, 5, "MSFT")]
            history.has["dailyBars"] = final
            await log.put("dailyBars", day_bar(day, 8))
            before = trade(1, evening - 3 * MINUTE), trade(2, evening - 3 * MINUTE, "MSFT")
            history.has["trades"] += before
            await log.put("trades", *before)

            async def asked() -> list[Gap] | None:
                return [g for g in await log.gaps() if g.channel == "dailyBars"] or None

            async def told() -> dict[str, bool]:
                found = {
                    s: same for (what, _, s), same in (await log.audited()).items() if what == "dailyBars"
                }
                return found if set(found.values()) == {True} else {}

            async with auditor(changed):
                found = await until(asked)
                assert found, "a session that is over is compared"
                assert {s for g in found for s in g.symbols} == {"AAPL", "MSFT"}
                assert {(g.from_ts, g.until_ts, g.reason) for g in found} == {
                    (day, day + MINUTE - 1, gaps.AUDIT)
                }
                placed = await log.put("dailyBars", *({**r, "source": "rest"} for r in final))
                for gap in found:
                    await log.close(gap, placed, len(gap.symbols))
                assert await until(told) == {"AAPL": True, "MSFT": True}
            known = {r["event_id"] for r in await log.all(catalogue.AUDITS)}
            more = trade(3, evening + 5 * MINUTE), trade(4, evening + 5 * MINUTE, "MSFT")
            history.has["trades"] += more
            await log.put("trades", *more)

            async def later() -> list[Record]:
                new = [r for r in await log.all(catalogue.AUDITS) if r["event_id"] not in known]
                return [r for r in new if r["ts"] == evening + 5 * MINUTE]

            async with auditor(changed):
                assert await until(later), "the one that was started again goes on"
            new = [r for r in await log.all(catalogue.AUDITS) if r["event_id"] not in known]
            assert not [r for r in new if r["channel"] == "dailyBars"], "a day is compared once"

    asyncio.run(case())
