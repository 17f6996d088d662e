"""The broker's limit of requests, as the simulator enforces it: a rush of a strategy, and exits in its midst.

If these fail, a stop waits a minute behind orders that could have waited themselves, or an order that the
broker has refused for the rate is lost or sent twice.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator import rest_guard
from sinks.executor import limiter
from tests.integration.executor_broker import until_held
from tests.integration.executor_world import (
    exit_intent,
    final,
    finals,
    market,
    order_intent,
    prepared,
    rows,
    running,
    send,
)
from tidewire.clock import NS_PER_SECOND
from tidewire.config import Settings
from tidewire.metrics import BROKER_REQUESTS

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(240)]
RISK = """
max_age_seconds = 12
duplicate_seconds = 0
orders_per_minute = 200
"""


async def test_an_exit_passes_a_rush_and_nothing_is_lost_or_sent_twice(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty orders of a strategy use up what the broker allows; the stop goes out on what is kept for it."""
    # Minutes of four seconds; the broker allows half of what we think, so its headers decide.
    monkeypatch.setattr(rest_guard, "MINUTE", 4)
    monkeypatch.setattr(limiter, "_MINUTE", 4 * NS_PER_SECOND)
    async with market(tmp_path, "AAPL", "MSFT", "TSLA", per_minute=100) as broker:
        own = await prepared(settings, broker, tmp_path, RISK)
        for symbol in ("AAPL", "TSLA"):
            await broker.buy(symbol, "2")
        async with running(own):
            rush = [order_intent(f"rush {n}", ("MSFT", "AAPL")[n % 2], "buy", "1") for n in range(60)]
            await send(own, *rush)

            async def begun() -> bool:
                return len(await broker.posts()) >= 3

            await until_held(begun, 60)
            stop = exit_intent("AAPL")
            await send(own, stop)
            done = await final(own, stop["intent_id"], 60)
            assert done["outcome"] == "filled"
            taken, before = _between(own, stop["client_order_id"])
            assert before <= 5, "orders of the strategy that left after the stop was known, and before it"
            assert taken < 10 * NS_PER_SECOND

            ends = await finals(own, [each["intent_id"] for each in rush], 120)
            filled = [each for each in ends if each["outcome"] == "filled"]
            assert {each["outcome"] for each in ends} <= {"filled", "stale"}
            late = "SELECT max(ended_at - taken_at) < interval '30 s' FROM order_intents_ledger"
            assert rows(own, f"{late} WHERE outcome = 'stale'") in ([(True,)], [(None,)])
            assert len(broker.orders()) == len(filled) + 1
            assert rows(own, "SELECT count(*) FROM order_intents_ledger WHERE phase = 'done'") == [(61,)]

            refused = _refused()
            for _ in range(130):  # somebody else uses up the account's requests
                await broker.ask("clock")
            await broker.inflict(
                kind="status_http", code=429, retry_after=2, method="POST", path="/v2/orders"
            )
            second = exit_intent("TSLA")
            await send(own, second)
            assert (await final(own, second["intent_id"], 60))["outcome"] == "filled"
            assert 1 <= _refused() - refused <= 8  # told once, it waits: no hammering
        posts = await broker.posts()
        assert posts[second["client_order_id"]] == 2
        assert sum(order.symbol == "TSLA" for order in broker.orders()) == 1


def _between(settings: Settings, name: str) -> tuple[int, int]:
    """How long a stop took from its intent to the broker (ns), and how many other orders left meanwhile."""
    mine = (
        "SELECT taken_at, sent_at FROM order_intents_ledger JOIN order_attempts USING (intent_id)"
        f" WHERE client_order_id = '{name}'"
    )
    ((known, sent),) = rows(settings, mine)
    others = f"SELECT count(*) FROM order_attempts WHERE kind = 'order' AND sent_at > '{known}'"
    ((before,),) = rows(settings, f"{others} AND sent_at < '{sent}'")
    return int((sent - known).total_seconds() * NS_PER_SECOND), before


def _refused() -> float:
    return sum(float(BROKER_REQUESTS.labels(name, "429")._value.get()) for name in ("GET", "POST"))
