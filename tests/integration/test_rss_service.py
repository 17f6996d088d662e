"""The RSS service against HTTP servers good and bad, and a real Kafka."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from producers.rss.app import Rss
from schemas import cluster, event_id
from schemas.catalogue import NEWS, NEWS_FRAMES
from schemas.codec import Codec, load_codec
from tests.integration.producer_venues import metric, until
from tests.integration.service_run import running as service_running
from tests.integration.test_portfolio_service import read_all
from tidewire import kafka
from tidewire.config import Settings

pytestmark = pytest.mark.kafka
SECRET = "token-canary-4711"
WRITTEN = format_datetime(datetime.now(UTC) - timedelta(minutes=5))


def item(number: int, title: str, **other: str) -> str:
    fields = {
        "title": title,
        "guid": f"urn:{number}",
        "link": f"https://x.com/{number}",
        "pubDate": WRITTEN,
        **other,
    }
    return "<item>" + "".join(f"<{k}>{v}</{k}>" for k, v in fields.items()) + "</item>"


def feed(*items: str) -> bytes:
    return f"<rss version='2.0'><channel><title>T</title>{''.join(items)}</channel></rss>".encode()


class Site:
    """Serves feeds and remembers how it was asked."""

    def __init__(self) -> None:
        self.good = feed()
        self.asked: list[tuple[str | None, int]] = []
        self.url = ""

    async def _good(self, request: web.Request) -> web.Response:
        etag = f'"{hash(self.good)}"'
        seen = request.headers.get("If-None-Match")
        status = 304 if seen == etag else 200
        self.asked.append((seen, status))
        return web.Response(body=b"" if status == 304 else self.good, status=status, headers={"ETag": etag})

    async def _huge(self, request: web.Request) -> web.StreamResponse:
        bomb = gzip.compress(b" " * 50_000_000)
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text="<html><body>please log in</body></html>", content_type="text/html")

    async def _gone(self, request: web.Request) -> web.Response:
        raise web.HTTPInternalServerError(text=SECRET)

    async def __aenter__(self) -> Site:
        app = web.Application()
        app.router.add_get("/good", self._good)
        app.router.add_get("/huge", self._huge)
        app.router.add_get("/page", self._page)
        app.router.add_get("/gone", self._gone)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@asynccontextmanager
async def running(settings: Settings, **other: Any) -> AsyncIterator[Rss]:
    rss = Rss(settings, start_seconds=10, **other)
    async with service_running(rss, "rss") as health:
        rss.health = health  # type: ignore[attr-defined]
        yield rss


async def news(settings: Settings, codec: Codec) -> list[dict[str, Any]]:
    return [codec.decode(r.value)[1] for r in await read_all(settings, NEWS, [*range(4)])]


async def alpaca_sends(settings: Settings, codec: Codec, id: str, headline: str) -> None:
    now = time.time_ns()
    record = {
        "id": id, "provider": "benzinga", "ts": now, "revision": now, "created_ts": now, "headline": headline,
        "summary": "", "content": "", "author": "", "url": "", "symbols": ["AAPL"], "extra": None,
        "received_ts": now, "source": "ws", "owner_epoch": 1,
        "event_id": event_id.news_id("benzinga", id, now),
    }  # fmt: skip
    async with AIOKafkaProducer(**kafka.client_arguments(settings)) as producer:
        value = codec.encode("news", record)
        await producer.send_and_wait(settings.tidewire_topic_prefix + NEWS, key=id.encode(), value=value)


async def _published(settings: Settings, codec: Codec, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 30
    while len(found := [r for r in await news(settings, codec) if r["source"] == "rss"]) < count:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)
    return found


async def test_articles_come_once_copies_never_and_a_restart_repeats_nothing(settings: Settings) -> None:
    """The backup of Alpaca's news: what only RSS has arrives, what Alpaca has too is one article."""
    await cluster.apply(settings, (NEWS, NEWS_FRAMES))
    codec = load_codec(settings)
    shared = "Apple lifts its full year forecast on strong demand"
    async with Site() as site:
        ready = settings.model_copy(
            update={"tidewire_rss_urls": (f"{site.url}/good?key={SECRET}",), "tidewire_rss_seconds": 0.05}
        )
        site.good = feed(
            item(1, "Only here (NASDAQ: MSFT)"), item(2, shared), item(3, "No link", link="javascript:x")
        )
        await alpaca_sends(ready, codec, "77", shared)
        refused = metric("tidewire_rss_articles_total", outcome="refused") or 0
        async with running(ready, hold_ns=0) as rss:
            (first,) = await _published(ready, codec, 1)
            assert (first["id"], first["provider"], first["symbols"]) == ("urn:1", "127.0.0.1", ["MSFT"])
            assert first["event_id"] == event_id.news_id("127.0.0.1", "urn:1", first["revision"])
            await until(lambda: sum(status == 304 for _, status in site.asked) > 2)
            assert metric("tidewire_rss_articles_total", outcome="refused") == refused + 1
            site.good = feed(item(4, "Something new"), item(1, "Only here (NASDAQ: MSFT)"))
            await _published(ready, codec, 2)
            details = rss.details()
            assert details["compared_with_other_sources"]["127.0.0.1"]["articles_in_common"] == 1  # type: ignore[index]
            assert SECRET not in repr(details)
        assert len(await read_all(ready, NEWS + ".dlq", [*range(4)])) == 1
        asked = len(site.asked)
        async with running(ready, hold_ns=0):
            site.good = feed(item(5, "After the restart"), item(4, "Something new"), item(2, shared))
            await _published(ready, codec, 3)
            await until(lambda: len(site.asked) > asked + 3)
        assert sorted(r["id"] for r in await news(ready, codec)) == ["77", "urn:1", "urn:4", "urn:5"]


async def test_an_article_that_waits_gives_way_to_alpacas(settings: Settings) -> None:
    """Without this a user would read each article twice whenever RSS is quicker."""
    await cluster.apply(settings, (NEWS, NEWS_FRAMES))
    codec = load_codec(settings)
    shared = "Apple lifts its full year forecast on strong demand"
    async with Site() as site:
        ready = settings.model_copy(
            update={"tidewire_rss_urls": (f"{site.url}/good",), "tidewire_rss_seconds": 0.05}
        )
        site.good = feed(item(2, shared), item(1, "Only here"))
        async with running(ready) as rss:
            await until(lambda: rss.details()["waiting_articles"] == 2)
            await alpaca_sends(ready, codec, "77", shared)
            await until(lambda: rss.details()["waiting_articles"] == 1)
            found = rss.details()["compared_with_other_sources"]
            assert found["127.0.0.1"]["articles_in_common"] == 1  # type: ignore[index]
        # The end does not forget what waited.
        assert sorted(r["id"] for r in await news(ready, codec)) == ["77", "urn:1"]


async def test_a_hostile_feed_costs_only_itself(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bomb, a login page and a dead server beside a good feed: the good one's news must arrive."""
    await cluster.apply(settings, (NEWS, NEWS_FRAMES))
    codec = load_codec(settings)
    async with Site() as site:
        urls = tuple(f"{site.url}/{path}?key={SECRET}" for path in ("huge", "page", "gone", "good"))
        ready = settings.model_copy(
            update={"tidewire_rss_urls": (*urls, f"http://127.0.0.1:1/{SECRET}"), "tidewire_rss_seconds": 0.2}
        )
        site.good = feed(item(1, "Only here"))
        async with running(ready, hold_ns=0) as rss:
            await _published(ready, codec, 1)
            await until(lambda: None not in [f["trouble"] for f in _feeds(rss)[:3]])
            await until(lambda: "not yet" not in repr(_feeds(rss)))
            huge, page, gone, good, away = (feed["trouble"] for feed in _feeds(rss))
            assert "more than" in huge
            assert "not a feed" in page
            assert "HTTP 500" in gone
            assert good is None
            assert "ClientConnectorError" in away
            assert rss.health.not_ready is None  # type: ignore[attr-defined]
            assert SECRET not in repr(rss.details())
        (letter,) = await read_all(ready, NEWS_FRAMES + ".dlq", [*range(4)])
        assert b"log in" in letter.value
    out = capsys.readouterr()
    assert SECRET not in out.out + out.err


def _feeds(rss: Rss) -> list[dict[str, Any]]:
    feeds: Any = rss.details()["feeds"]
    return list(feeds)
