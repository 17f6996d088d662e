"""`tidewire backfill`: fetch an interval by hand, and watch it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from console.commands.backfill_request import DEFAULT_CHANNELS, moment, requested
from producers.backfill.app import Backfiller
from producers.backfill.membership import served
from producers.contact import check_topics
from producers.history.client import RECENT_SECONDS, keys
from schemas.catalogue import GAPS, Catalogue
from schemas.codec import Codec, load_codec
from schemas.gaps import CLOSED, Board, Gap
from tidewire import config, kafka, log
from tidewire.clock import NS_PER_SECOND, now_ns
from tidewire.config import Settings
from tidewire.errors import ConfigError, RecordError
from tidewire.health import Health
from tidewire.stack import fill_in

_POLL_MS = 250
_SIP = ("stocks:sip", "stocks:delayed_sip")
_RECENT_NS = (RECENT_SECONDS + 1) * NS_PER_SECOND


def backfill(
    symbols: Annotated[
        list[str],
        typer.Argument(help="Stocks, crypto pairs as BTC/USD, option contracts.", metavar="SYMBOL..."),
    ],
    from_: Annotated[
        str, typer.Option("--from", help="First event time: 2026-11-20, 2026-11-20T14:30, or 2h (ago).")
    ],
    to: Annotated[
        str, typer.Option("--to", help="Last event time, as --from; a date with its whole day.")
    ] = "now",
    channel: Annotated[
        str,
        typer.Option("--channel", help="Channels, comma separated: trades, quotes, bars, dailyBars, news."),
    ] = ",".join(DEFAULT_CHANNELS),
    feed: Annotated[
        str | None,
        typer.Option("--feed", help="iex, sip, us, indicative ... or news; default: as the settings say."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Fetch an interval over REST and publish what the topics lack of it.

    Times without a zone are New York's. What the topics hold is not published again, so it may be broken off
    (Ctrl-C) and repeated at will. A running backfiller does the work; without one it is done here. Exits 1
    when something could not be had.

    Example: tidewire backfill AAPL MSFT --from 2026-11-20T09:30 --to 2026-11-20T16:00 --channel trades
    """
    settings = fill_in(config.load())
    log.configure(settings, "backfill")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # joining the group is no news
    logging.getLogger("backfiller").setLevel(logging.WARNING)
    now = now_ns()
    channels = [name.strip() for name in channel.split(",") if name.strip()]
    chosen = "news" if feed is None and channels == ["news"] else feed
    start, end = moment("--from", from_, now), moment("--to", to, now, end=True)
    wanted = requested(settings, symbols, channels, start, end, now, chosen)
    if settings.tidewire_plan == "basic" and any(gap.feed in _SIP for gap in wanted):
        if end > now - _RECENT_NS:
            _say("the newest 15 minutes of SIP are left out: the basic plan has no history of them yet")
        wanted = requested(settings, symbols, channels, start, min(end, now - _RECENT_NS), now, chosen)
    try:
        found = asyncio.run(_follow(settings, wanted, quiet=as_json))
    except KeyboardInterrupt:
        _say("left: what is not closed stays open, a backfiller goes on with it (`tidewire gaps` shows it)")
        raise
    _report(found, as_json)
    raise typer.Exit(1 if any(gap.unrecoverable for gap in found) else 0)


async def _follow(settings: Settings, wanted: Sequence[Gap], *, quiet: bool) -> list[Gap]:
    """Write the gaps and return when all are closed; their last states."""
    kafka.bootstrap(settings)  # says what is wrong, before anything else does
    await kafka.check_reachable(settings)
    topic = Catalogue(settings.tidewire_topic_prefix, 1).name(GAPS)
    await check_topics(settings, [topic])
    codec = load_codec(settings)
    here = not await served(settings)
    if here:
        keys(settings)  # without them nothing is opened that nobody could fill
        _say("no backfiller is running: the work is done here")
    consumer = AIOKafkaConsumer(
        **kafka.client_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await kafka.start(consumer)
    try:
        await _stand_at_the_end(consumer, topic)
        async with _worker(settings, here) as worker:
            await _write(settings, codec, topic, wanted)
            return await _closed(consumer, codec, wanted, worker, quiet=quiet)
    finally:
        await consumer.stop()


async def _stand_at_the_end(consumer: AIOKafkaConsumer, topic: str) -> None:
    consumer.subscribe([topic])  # without a group: all partitions
    while not consumer.assignment():
        await consumer.getmany(timeout_ms=_POLL_MS)
    await consumer.seek_to_end()
    for partition in consumer.assignment():
        await consumer.position(partition)


@asynccontextmanager
async def _worker(settings: Settings, here: bool) -> AsyncIterator[asyncio.Task[None] | None]:
    """A backfiller in this process while none else is there."""
    if not here:
        yield None
        return
    stop = asyncio.Event()
    task = asyncio.create_task(Backfiller(settings).run(Health("backfill"), stop))
    try:
        yield task
    finally:
        stop.set()
        with suppress(Exception):  # it was told by `_closed`
            await task


async def _write(settings: Settings, codec: Codec, topic: str, wanted: Sequence[Gap]) -> None:
    producer = AIOKafkaProducer(**kafka.client_arguments(settings), acks="all")
    await kafka.start(producer)
    try:
        sent = [await producer.send(topic, key=g.key, value=codec.encode("gap", g.record())) for g in wanted]
        for future in sent:
            await future
    finally:
        await producer.stop()


async def _closed(
    consumer: AIOKafkaConsumer,
    codec: Codec,
    wanted: Sequence[Gap],
    worker: asyncio.Task[None] | None,
    *,
    quiet: bool,
) -> list[Gap]:
    board = Board()
    for gap in wanted:
        board.put(gap)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True, disable=quiet,
    ) as bar:  # fmt: skip
        line = bar.add_task("intervals", total=len(wanted), counts="")
        while True:
            states = [found for gap in wanted if (found := board.get(gap.id)) is not None]
            done = sum(gap.state == CLOSED for gap in states)
            bar.update(line, completed=done, counts=_counts(states))
            if done == len(wanted):
                return states
            if worker is not None and worker.done():
                await worker  # raises what ended it
                raise ConfigError(["the backfiller ended before its work was done"])
            for batch in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in batch:
                    _put(board, codec, record.value)


def _put(board: Board, codec: Codec, value: bytes | None) -> None:
    with suppress(RecordError):  # not ours to judge: whoever stores the topic dead-letters it
        stem, record = codec.decode(value)
        if stem == "gap" and board.get(record["id"]) is not None:
            board.put(Gap.of(record))


def _counts(states: Sequence[Gap]) -> str:
    return f"{sum(g.found for g in states):,} found, {sum(g.published for g in states):,} published"


def _report(found: Sequence[Gap], as_json: bool) -> None:
    lost = [gap for gap in found if gap.unrecoverable]
    if as_json:
        print(json.dumps(_as_json(found)))
        return
    print(f"{len(found) - len(lost)} of {len(found)} intervals fetched: {_counts(found)}")
    for gap in lost:
        symbols = ", ".join(gap.symbols[:5]) + (" ..." if len(gap.symbols) > 5 else "")
        print(f"not to be had: {gap.feed} {gap.channel} of {symbols}: {gap.detail}")


def _as_json(found: Sequence[Gap]) -> dict[str, Any]:
    names = ("id", "feed", "channel", "from_ts", "until_ts", "found", "published", "detail")
    return {
        "found": sum(gap.found for gap in found),
        "published": sum(gap.published for gap in found),
        "complete": not any(gap.unrecoverable for gap in found),
        "gaps": [
            {name: getattr(gap, name) for name in names}
            | {"symbols": list(gap.symbols), "unrecoverable": bool(gap.unrecoverable)}
            for gap in found
        ],
    }


def _say(text: str) -> None:
    print(f"tidewire backfill: {text}", file=sys.stderr)
