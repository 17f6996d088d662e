"""A page of history over HTTP to acknowledged Kafka records, against parsing and Avro encoding alone."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import fastavro
import orjson

from benchmarks import market
from benchmarks.ingest import cpu_seconds, quote_record, trade_record
from benchmarks.process import sample
from benchmarks.results import Sample, compared
from benchmarks.servers import Servers

MESSAGES = 120_000
PAGE_ROWS = 10_000
_CHANNELS = {"trades": "t", "quotes": "q"}

Pages = dict[str, list[bytes]]
"""Channel -> the bodies of its pages."""


def measure(servers: Servers, repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Ratio of records per CPU-second of the process; the server of the pages is another one."""
    ours: list[Sample] = []
    reference: list[Sample] = []
    for n in range(repetitions):
        say(f"run {n + 1} of {repetitions}")
        with servers.topics(f"backfill{n}") as mine:  # of its own: what a log holds is read as well
            ours.append(sample("benchmarks.backfill:fill", {"count": MESSAGES}, mine.env()))
            reference.append(sample("benchmarks.backfill:encode_only", {"count": MESSAGES}, mine.env()))
    return compared(ours, reference)


def pages(count: int) -> Pages:
    """The made-up market as Alpaca's REST shows it: by symbol, then time, 10,000 rows a page."""
    from producers.history.times import show

    found: Pages = {}
    messages = sorted(market.messages(count), key=lambda m: (m["S"], m["t"].to_unix_nano()))
    for channel, kind in _CHANNELS.items():
        rows = [m for m in messages if m["T"] == kind]
        bodies: list[bytes] = []
        for start in range(0, len(rows), PAGE_ROWS):
            by_symbol: dict[str, list[dict[str, Any]]] = {}
            for m in rows[start : start + PAGE_ROWS]:
                row = {name: value for name, value in m.items() if name not in ("T", "S")}
                row["t"] = show(m["t"].to_unix_nano())
                by_symbol.setdefault(m["S"], []).append(row)
            token = str(len(bodies) + 1) if start + PAGE_ROWS < len(rows) else None
            bodies.append(orjson.dumps({channel: by_symbol, "next_page_token": token}))
        found[channel] = bodies
    return found


def fill(count: int) -> dict[str, float]:
    """Ours: the backfiller's own work on two gaps, from the request to the closing record."""
    with _served(pages(count)) as url:
        return asyncio.run(_fill(url, count))


async def _fill(url: str, count: int) -> dict[str, float]:
    from aiohttp import ClientSession

    from producers.backfill.placing import PlacingPublisher
    from producers.backfill.work import Means
    from producers.backfill.work import fill as fill_gap
    from producers.history.client import History
    from producers.history.pace import Pace
    from producers.session import Session
    from schemas import gaps
    from schemas.catalogue import GAPS, STOCK_QUOTES, STOCK_TRADES, Catalogue
    from schemas.codec import load_codec
    from tidewire import config
    from tidewire.clock import now_ns
    from tidewire.kafka import client_arguments

    settings = config.load(tidewire_data_url=url, tidewire_trading_url=url)
    name = Catalogue(settings.tidewire_topic_prefix, 1).name
    arguments = client_arguments(settings)
    publisher = PlacingPublisher(Session(arguments))
    events = [name(STOCK_TRADES), name(STOCK_QUOTES)]
    await publisher.start([*events, name(GAPS)], events)
    codec = load_codec(settings)
    start, end = market.START_NS, market.START_NS + count * 40_000
    wanted = [
        gap
        for channel in _CHANNELS
        for gap in gaps.opened("stocks:iex", channel, market.SYMBOLS, gaps.REQUEST, start, now_ns(),
                               until_ts=end)
    ]  # fmt: skip
    async with ClientSession() as session:
        history = History(settings, session, Pace(1e9))
        means = Means(history, publisher, codec, name, arguments, now_ns, 7, settle_seconds=0)
        cpu, wall = cpu_seconds(), time.perf_counter()
        closed = [await fill_gap(gap, means, lambda: True) for gap in wanted]
        answer = {"records": count, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    await publisher.stop()
    assert sum(gap.published for gap in closed) == count, "nothing was held"
    return answer


def encode_only(count: int) -> dict[str, float]:
    """The reference: pages to dicts, times to ns, records to Avro by fastavro. No HTTP, ids, log or Kafka."""
    from producers.history.times import reader
    from schemas.catalogue import schema

    bodies = pages(count)
    write, out, read, size = fastavro.schemaless_writer, io.BytesIO(), reader(), 0
    cpu, wall = cpu_seconds(), time.perf_counter()
    for channel, stem, record in (
        ("trades", "stock_trade", trade_record),
        ("quotes", "stock_quote", quote_record),
    ):
        parsed = fastavro.parse_schema(schema(stem))
        for body in bodies[channel]:
            received = time.time_ns()
            for symbol, rows in orjson.loads(body)[channel].items():
                for row in rows:
                    row["S"], row["t"] = symbol, read(row["t"])
                    out.seek(0)
                    out.truncate()
                    write(out, parsed, record(row, received))
                    size += len(out.getvalue())
    answer = {"records": count, "wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    assert size > 50 * count, "the encoder has done its work"
    return answer


@contextmanager
def _served(found: Pages) -> Iterator[str]:
    """The address of a server of these pages, in a process of its own."""
    ours, its = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(found, its), daemon=True)
    server.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        server.terminate()
        server.join()


def _serve(found: Pages, told: Connection) -> None:
    from aiohttp import web

    async def page(request: web.Request) -> web.Response:
        bodies = found[request.match_info["channel"]]
        body = bodies[int(request.query.get("page_token", "0"))]
        return web.Response(body=body, content_type="application/json")

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/v2/stocks/{channel}", page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())
