"""The executor and what moves meanwhile: signals on their topic, and a market that leaves a limit behind.

If these fail, a strategy buys into a crash, or a stop waits for a price that nobody pays.
"""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from schemas import cluster
from schemas.catalogue import SIGNALS
from schemas.codec import load_codec
from tests.integration.executor_world import (
    exit_intent,
    final,
    market,
    order_intent,
    prepared,
    running,
    send,
    told,
)
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(180)]

RISK = """
block_entries_on = ["flash_crash"]
limit_order_seconds = 1
max_notional = "none"
"""


async def crash(settings: Settings, symbol: str) -> None:
    """A signal as the processor writes it."""
    now = time.time_ns()
    signal = {
        "symbol": symbol, "ts": now, "kind": "flash_crash", "value": 3.0, "threshold": 1.5,
        "window_ns": 60_000_000_000, "detail": None, "received_ts": now, "source": "ws",
        "event_id": b"12345678",
    }  # fmt: skip
    producer = AIOKafkaProducer(**client_arguments(settings))
    await producer.start()
    try:
        value = load_codec(settings).encode("signal", signal)
        await producer.send_and_wait(
            settings.tidewire_topic_prefix + SIGNALS, value, key=symbol.encode(), partition=0
        )
    finally:
        await producer.stop()


async def test_signals_block_entries_and_a_limit_that_does_not_fill_is_priced_anew(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    """A signal of before the start counts; what closes goes through; an exit's next order has a new price."""
    async with market(tmp_path, "AAPL", "MSFT") as broker:
        own = await prepared(settings, broker, tmp_path, RISK)
        await cluster.apply(settings, (SIGNALS,))
        await crash(own, "AAPL")
        await broker.buy("AAPL", "10")
        async with running(own):
            await send(own, order_intent("entry", "AAPL", "buy", "5"))
            refused = await final(own, "entry")
            assert (refused["outcome"], refused["reason"].split(":")[0]) == ("refused", "signal")
            await send(own, order_intent("other", "MSFT", "buy", "5"))
            assert (await final(own, "other"))["outcome"] == "filled"
            await send(own, order_intent("out", "AAPL", "sell", "4"))
            assert (await final(own, "out"))["outcome"] == "filled"

            intent = exit_intent("AAPL", order_type="limit", limit_price=Decimal(99_999))
            await send(own, intent)
            result = await final(own, intent["intent_id"])
            assert (result["outcome"], result["attempt"], result["filled_quantity"]) == ("filled", 1, 6)
            results = [(r["outcome"], r["attempt"]) for r in await told(own, intent["intent_id"])]
            assert ("canceled", 0) in results
            assert broker.held("AAPL") == 0
            ours = [order.status for order in broker.orders() if order.client_order_id.startswith("tw-")]
            assert sorted(ours).count("canceled") == 1
