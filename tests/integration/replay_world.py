"""A log with exits in it: a market that wanders, the rules of two accounts, what the service made of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaProducer

from processors.exits.app import EVENTS, PRICES
from schemas import cluster
from schemas.codec import Codec
from tests.integration.exits_world import BASE, NEEDED, PROGRAM, SECOND, Market, a_quote, a_watch
from tests.integration.processor_process import worker
from tidewire.config import Settings
from tidewire.kafka import client_arguments

INPUTS = len(PRICES) + len(EVENTS)
SYMBOLS = [f"SYM{i}" for i in range(6)]
STEP = SECOND // 10
START = BASE + SECOND
"""The first quote: whatever was traded before a rule, in event time, is none of its business in a replay."""


@asynccontextmanager
async def a_market(settings: Settings, codec: Codec) -> AsyncIterator[Market]:
    """With its topics made."""
    await cluster.apply(settings, only=NEEDED)
    async with publishing(settings, codec) as market:
        yield market


@asynccontextmanager
async def publishing(settings: Settings, codec: Codec) -> AsyncIterator[Market]:
    """Over topics that are there."""
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await client.start()
    try:
        yield Market(settings, codec, client)
    finally:
        await client.stop()


def wandering(count: int, seed: int = 1, first: int = 0) -> list[dict[str, Any]]:
    """Quotes of all symbols from 100 on, mostly falling; some late, some crossed, some of a stale owner."""
    chance = random.Random(seed)
    prices = dict.fromkeys(SYMBOLS, 100.0)
    found = []
    for number in range(first, first + count):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        prices[symbol] = round(prices[symbol] + chance.choice([-0.06, -0.02, 0.01, 0.03]), 2)
        late = chance.choice([0, 0, 0, 0, 3 * STEP])
        bid = prices[symbol] + (chance.random() < 0.03) * 0.5
        quote = a_quote(symbol, START + number * STEP - late, bid, round(prices[symbol] + 0.02, 2))
        found.append(
            quote | {"received_ts": START + number * STEP, "owner_epoch": 2 - (chance.random() < 0.01)}
        )
    return found


def rules() -> list[dict[str, Any]]:
    """Trailing stops and brackets on the symbols; two accounts hold the first of them."""
    trail = {"kind": "trailing_stop", "trail_percent": "0.4"}
    found = [a_watch(symbol, trail, rule="trail") for symbol in SYMBOLS[:4]]
    stop, target = {"kind": "stop_loss", "percent": "1"}, {"kind": "take_profit", "percent": "0.1"}
    found += [a_watch(SYMBOLS[0], spec, account="other", rule=spec["kind"]) for spec in (stop, target)]
    timed = {"kind": "time_stop", "after_seconds": 12, "reference": "mid"}
    found.append(a_watch(SYMBOLS[4], timed, rule="time", quantity=Decimal(-3)))
    return found


async def served(settings: Settings, market: Market, quotes: list[dict[str, Any]]) -> None:
    """The service sees the rules, then the quotes, and has told of all that follows."""
    with worker(settings, PROGRAM) as service:
        await market.watches(*rules())
        await service.until(
            lambda health: (
                health.get("status") == "healthy"
                and health["exits"]["watched"] == 5
                and len(health["partitions"]) == INPUTS
            )
        )
        await market.quotes(quotes)
        await service.until(
            lambda health: (
                not any(health.get("lag", {"": 1}).values())
                and health["exits"]["published"] == 6
                and not health["exits"]["pending"]
            )
        )
