"""`tidewire reconcile`: every account's fills, orders and positions compared with the broker's word, now."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from producers.accounts.owned import feed_of
from producers.accounts.requests import EVERYBODY, RECONCILE
from schemas import admin
from schemas.catalogue import AUDITS, GAPS, PORTFOLIO_POSITIONS, REQUESTS, Catalogue
from schemas.codec import Codec, Record, load_codec
from schemas.event_id import request_id
from schemas.gaps import Board, Gap
from tidewire import accounts, config, log
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.errors import ConfigError, RecordError, TidewireError, UnreachableError
from tidewire.kafka import check_reachable, client_arguments, start
from tidewire.stack import fill_in

_POLL_MS = 100


@dataclass(slots=True)
class Result:
    """What one account's round found. `found`: events that REST told; `published`: those the log lacked.

    `differing` are symbols for which something was missing or a position is not what its fills leave;
    `unexplained` positions for which two snapshots differ and no activity says why.
    """

    account: str
    answered: bool = False
    found: int = 0
    published: int = 0
    differing: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    open_gaps: int = 0
    detail: str | None = None

    @property
    def in_order(self) -> bool:
        """Whether nothing is left to explain: what was missing has been published."""
        return self.answered and not self.unexplained and (self.published > 0 or not self.differing)


def reconcile(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="All, unless named.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    seconds: Annotated[
        float, typer.Option("--timeout", min=1, help="How long to wait for the accounts service, in seconds.")
    ] = 30.0,
) -> None:
    """Have every account compared with its broker now; exit code 0 only if nothing is left unexplained."""
    settings = fill_in(config.load())
    log.configure(settings, "reconcile")
    logging.getLogger().setLevel(logging.ERROR)  # the result is the output; a lost broker is tried again
    wanted = _wanted(settings, names or [])
    results = asyncio.run(_reconcile(settings, wanted, bool(names), seconds))
    if as_json:
        print(json.dumps([asdict(result) | {"in_order": result.in_order} for result in results], indent=1))
    else:
        _show(results)
    _judge(results, seconds)


def _wanted(settings: Settings, names: list[str]) -> list[str]:
    known = [account.name for account in accounts.load(settings)]
    if not known:
        raise ConfigError([f"no accounts: neither {settings.tidewire_accounts_file} nor APCA_API_KEY_ID"])
    if unknown := [name for name in names if name not in known]:
        raise ConfigError([f"no such account: {', '.join(unknown)} (there are {', '.join(known)})"])
    return names or known


def _judge(results: list[Result], seconds: float) -> None:
    if silent := [result.account for result in results if not result.answered]:
        raise TidewireError(
            f"no accounts service answered for {', '.join(silent)} within {seconds:g} s: is one running "
            "(`tidewire up`, `tidewire service accounts`), with these accounts in its accounts.toml?"
        )
    if left := [result.account for result in results if not result.in_order]:
        raise TidewireError(f"differences are left: {', '.join(left)}")


async def _reconcile(settings: Settings, wanted: list[str], named: bool, seconds: float) -> list[Result]:
    await check_reachable(settings)
    codec, name = load_codec(settings), Catalogue(settings.tidewire_topic_prefix, 1).name
    results = {feed_of(account): Result(account) for account in wanted}
    async with _Reader(settings, [name(AUDITS)]) as audits:
        asked = await _ask(settings, codec, name(REQUESTS), wanted if named else [EVERYBODY])
        with _progress() as progress:
            task = progress.add_task("reconciling", total=len(results))
            async for record in audits.follow(codec, seconds):
                result = results.get(record["feed"])
                if result is None or record["received_ts"] < asked or result.answered:
                    continue  # a round that had begun before it was asked for
                _take(result, record)
                progress.update(task, advance=1, description=f"{result.account} compared")
                if all(r.answered for r in results.values()):
                    break
    await _look_around(settings, codec, name, results)
    return list(results.values())


def _take(result: Result, audit: Mapping[str, Any]) -> None:
    result.answered = True
    result.found, result.published = audit["expected"], audit["expected"] - audit["held"]
    result.differing, result.detail = list(audit["differing"]), audit["detail"]


async def _look_around(settings: Settings, codec: Codec, name: Any, results: Mapping[str, Result]) -> None:
    """Gaps that are open, and positions that are unexplained, as of now."""
    board, positions = Board(), dict[tuple[str, str], Record]()
    async with _Reader(settings, [name(GAPS), name(PORTFOLIO_POSITIONS)], whole=True) as reader:
        async for record in reader.rest(codec):
            if "reason" in record:
                board.put(Gap.of(record))
            else:
                positions[record["account"], record["symbol"]] = record
    for feed, result in results.items():
        result.open_gaps = sum(gap.feed == feed for gap in board.open())
        result.unexplained = sorted(
            symbol
            for (account, symbol), p in positions.items()
            if account == result.account and p["unexplained"]
        )


async def _ask(settings: Settings, codec: Codec, topic: str, targets: list[str]) -> int:
    """Write the requests; returns when they were asked, ns."""
    asked = now_ns()
    producer = AIOKafkaProducer(**client_arguments(settings), acks="all", request_timeout_ms=10_000)
    await start(producer)
    try:
        for target in targets:
            record = {
                "kind": RECONCILE, "target": target, "ts": asked, "reason": "by hand", "received_ts": asked,
                "source": "rest", "event_id": request_id(RECONCILE, target, asked),
            }  # fmt: skip
            await producer.send_and_wait(topic, codec.encode("request", record), key=target.encode())
    finally:
        await producer.stop()
    return asked


class _Reader:
    """Records of whole topics, from their ends or (`whole`) from their beginnings."""

    def __init__(self, settings: Settings, topics: list[str], *, whole: bool = False) -> None:
        self._settings, self._topics, self._whole = settings, topics, whole
        self._consumer = AIOKafkaConsumer(
            **client_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        self._ends: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> _Reader:
        await start(self._consumer)
        try:
            await self._place()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def _place(self) -> None:
        async with admin.connect(self._settings) as cluster:
            there = await cluster.topics(self._topics)
        if missing := [topic for topic in self._topics if topic not in there]:
            raise UnreachableError(f"no such topic: {', '.join(missing)}; `tidewire topics apply` creates it")
        parts = [TopicPartition(t, number) for t in self._topics for number in range(there[t].partitions)]
        self._ends = await self._consumer.end_offsets(parts)
        starts = await self._consumer.beginning_offsets(parts) if self._whole else self._ends
        self._consumer.assign(parts)
        for part, offset in starts.items():
            self._consumer.seek(part, offset)

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def follow(self, codec: Codec, seconds: float) -> Any:
        """Decoded records as they come, for so many seconds."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            for record in await self._some(codec):
                yield record

    async def rest(self, codec: Codec) -> Any:
        """Decoded records up to where the topics ended at the start."""
        left = set(self._ends)
        while left:
            for record in await self._some(codec):
                yield record
            left = {part for part in left if await self._consumer.position(part) < self._ends[part]}

    async def _some(self, codec: Codec) -> list[Record]:
        found = []
        for records in (await self._consumer.getmany(timeout_ms=_POLL_MS)).values():
            for record in records:
                try:
                    found.append(codec.decode(record.value)[1])
                except RecordError:  # a tombstone, or what its readers have dead-lettered
                    continue
        return found


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)


def _show(results: list[Result]) -> None:
    table = Table(
        "account", "found", "published", "differing", "unexplained", "open gaps", box=box.SIMPLE_HEAD
    )
    for r in results:
        if not r.answered:
            table.add_row(r.account, "-", "-", "[red]no answer", "-", "-")
            continue
        mark = "" if r.in_order else "[red]"
        table.add_row(
            r.account, str(r.found), str(r.published), mark + escape(", ".join(r.differing) or "-"),
            mark + escape(", ".join(r.unexplained) or "-"), str(r.open_gaps),
        )  # fmt: skip
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)
    for r in results:
        if r.detail:
            console.print(f"{r.account}: {r.detail}", markup=False, highlight=False, soft_wrap=True)
