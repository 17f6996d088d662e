"""Marks out of the processor on a real Kafka: for held symbols only, to the partitions of their holders.

If these fail, positions keep an old price or none, or every tick of the market floods the account side.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from schemas import cluster
from schemas.catalogue import CRYPTO_QUOTES, CRYPTO_TRADES, PORTFOLIO_MARKS, PORTFOLIO_POSITIONS, STOCK_QUOTES
from schemas.codec import Codec, load_codec
from tests.integration.processor_process import NEEDED, PARTITION_OF, PARTITIONS, Feeder, read_all, worker
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

BASE = 1_381_150_800_000_000_000
MS = 1_000_000
COMMON = {"source": "ws", "owner_epoch": 1, "event_id": b"12345678", "extra": None}

Marks = list[tuple[int, dict[str, Any]]]


def stock_quote(symbol: str, ms: int, bid: float) -> dict[str, Any]:
    ts = BASE + ms * MS
    sizes = {"bid_exchange": "V", "bid_size": 1, "ask_exchange": "V", "ask_size": 2}
    more = {"conditions": ["R"], "tape": "C", "received_ts": ts}
    return {"symbol": symbol, "ts": ts, "bid_price": bid, "ask_price": bid + 0.5} | sizes | more | COMMON


def crypto_quote(pair: str, ms: int, bid: float) -> dict[str, Any]:
    ts = BASE + ms * MS
    prices = {"bid_price": bid, "bid_size": 0.1, "ask_price": bid + 1, "ask_size": 2.5}
    return {"symbol": pair, "ts": ts, "received_ts": ts} | prices | COMMON


def position(account: str, symbol: str, quantity: str) -> dict[str, Any]:
    money = dict.fromkeys(("average_price", "cost_basis", "realized_pnl"), Decimal(1))
    times = {"ts": BASE, "opened_ts": BASE, "received_ts": BASE}
    what = {"account": account, "symbol": symbol, "asset_class": "us_equity", "epoch": 1}
    rest = {"quantity": Decimal(quantity), "multiplier": Decimal(1), "source": "ws", "event_id": b"12345678"}
    return what | times | money | rest


def partition(account: str) -> int:
    return int(PARTITION_OF(account.encode(), PARTITIONS, PARTITIONS))


class Side:
    """What the test writes and reads beside the processor."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self.settings, self.codec, self.producer = settings, load_codec(settings), producer
        self.feeder = Feeder(settings, producer)

    async def hold(self, account: str, symbol: str, quantity: str) -> None:
        name = self.settings.tidewire_topic_prefix + PORTFOLIO_POSITIONS
        value = self.codec.encode("portfolio_position", position(account, symbol, quantity))
        key = f"{account}:{symbol}".encode()
        await self.producer.send_and_wait(name, value, key=key, partition=partition(account))

    async def send(self, topic: str, stem: str, *records: dict[str, Any]) -> None:
        await self.feeder.send(topic, [(r["symbol"], self.codec.encode(stem, r)) for r in records])

    async def until(self, wanted: Callable[[Marks], bool]) -> Marks:
        deadline, found = time.monotonic() + 30, []
        while time.monotonic() < deadline:
            stored = await read_all(self.settings, PORTFOLIO_MARKS)
            found = [(r.partition, self.codec.decode(r.value)[1]) for r in stored]
            if wanted(found):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError([(p, m["symbol"], m["ts"] - BASE, m["price"]) for p, m in found])


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
async def side(settings: Settings) -> AsyncIterator[Side]:
    await cluster.apply(settings, only=NEEDED)
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True, max_batch_size=1 << 20)
    await client.start()
    yield Side(settings, client)
    await client.stop()


async def test_marks_go_to_the_holders_and_the_trailing_one_comes(settings: Settings, side: Side) -> None:
    """Two accounts hold one symbol, one a pair, nobody another symbol; then somebody buys that."""
    await side.hold("alpha", "HELD", "10")
    await side.hold("beta-2", "HELD", "-3")
    await side.hold("alpha", "BTC/USD", "0.5")
    await side.hold("gamma", "HELD", "7")
    await side.hold("gamma", "HELD", "0")
    holders = {partition("alpha"), partition("beta-2")}
    with worker(settings) as running:
        await running.until(lambda h: h.get("status") == "healthy" and h["marks"]["held"] == 2)
        # 200 quotes within 200 ms of event time: the first goes at once, the last at the next commit.
        burst = [stock_quote("HELD", ms, 100 + ms / 4) for ms in range(200)]
        free = [stock_quote("FREE", ms, 50 + ms / 4) for ms in range(200)]
        await side.send(STOCK_QUOTES, "stock_quote", *burst, *free)
        await side.send(
            CRYPTO_QUOTES, "crypto_quote", *(crypto_quote("BTC/USD", ms, 60_000.1) for ms in range(9))
        )

        def arrived(marks: Marks) -> bool:
            last = {(p, m["symbol"]): m["price"] for p, m in marks}
            stocks = [last.get((p, "HELD")) == Decimal("150") for p in holders]
            return all(stocks) and last.get((partition("alpha"), "BTC/USD")) == Decimal("60000.6")

        marks = await side.until(arrived)
        assert {m["symbol"] for _, m in marks} == {"HELD", "BTC/USD"}
        assert {p for p, m in marks if m["symbol"] == "HELD"} == holders
        assert {p for p, m in marks if m["symbol"] == "BTC/USD"} == {partition("alpha")}
        for lane in holders:  # the batch's newest, or its newest and a trailing one a commit: never the flood
            assert len([m for p, m in marks if p == lane and m["symbol"] == "HELD"]) <= 5
        await side.hold("delta", "FREE", "1")
        marks = await side.until(lambda marks: any(m["symbol"] == "FREE" for _, m in marks))
        (found,) = [(p, m) for p, m in marks if m["symbol"] == "FREE"]
        assert found[0] == partition("delta")
        assert (found[1]["price"], found[1]["bid"]) == (Decimal("100"), Decimal("99.75"))
        health = await running.until(lambda h: h["marks"]["held"] == 3)
        assert health["marks"]["sent"] == len(marks)


async def test_a_broken_crypto_record_is_a_dead_letter_and_its_neighbours_make_marks(
    settings: Settings, side: Side
) -> None:
    """A NaN bid would else value every position in the pair."""
    await side.hold("alpha", "BTC/USD", "0.5")
    bad = crypto_quote("BTC/USD", 5, float("nan"))
    with worker(settings) as running:
        await running.until(lambda h: h.get("status") == "healthy" and h["marks"]["held"] == 1)
        await side.send(CRYPTO_QUOTES, "crypto_quote", crypto_quote("BTC/USD", 1, 60_000.0), bad)
        await side.until(bool)
        trade = {"symbol": "BTC/USD", "ts": BASE + 900 * MS, "received_ts": BASE, "id": 1, "size": 0.1}
        await side.send(
            CRYPTO_TRADES, "crypto_trade", trade | {"price": 59_000.5, "taker_side": "B"} | COMMON
        )
        marks = await side.until(lambda marks: any(m["last"] for _, m in marks))
    assert marks[-1][1]["price"] == Decimal("60000.5")
    assert marks[-1][1]["last"] == Decimal("59000.5")
    letters = await read_all(settings, CRYPTO_QUOTES + ".dlq")
    assert [dict(r.headers)["stage"] for r in letters] == [b"marks"]
    assert b"is not a price" in dict(letters[0].headers)["reason"]
