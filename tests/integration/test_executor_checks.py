"""Strategies' orders through the whole service: each check refuses once and says why on orders.results, what
cannot be an order is kept aside, and the rest is bought.

A user finds out by these results alone why his strategy did not trade.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.integration.executor_world import (
    Record,
    exit_intent,
    final,
    finals,
    market,
    order_intent,
    prepared,
    refused_records,
    running,
    send,
)
from tidewire.config import Settings

LIMITS = """max_quantity = 10
max_notional = 20000
price_band_percent = 50
max_daily_loss = 1000
orders_per_minute = 4
"""


def buy(name: str, symbol: str = "AAPL", quantity: str | None = "1", **more: Any) -> Record:
    """A strategy's order to buy."""
    intent = order_intent(name, symbol, "buy", quantity or "1", **more)
    return intent if quantity is not None else intent | {"quantity": None}


def limited(price: int) -> Record:
    return {"order_type": "limit", "limit_price": Decimal(price)}


async def test_each_check_refuses_once_and_says_why(settings: Settings, tmp_path: Path) -> None:
    """A check that does not stand between the log and the broker protects nobody."""
    async with market(tmp_path, "AAPL", "MSFT", "TSLA", "BTC/USD") as broker:
        own = await prepared(settings, broker, tmp_path, LIMITS)
        await broker.says("assets/MSFT", fractionable=False)
        await broker.says("assets/TSLA", tradable=False, status="inactive")
        refused = {
            "quantity": buy("q", quantity="11"),
            "notional": buy("n", quantity="10", **limited(3000), reference_price=Decimal(3000)),
            "price_band": buy("p", **limited(151), reference_price=Decimal(100)),
            "fractionable": buy("f", "MSFT", "1.5"),
            "asset": buy("a", "TSLA"),
            "shortable": order_intent("s", "AAPL", "sell", "1"),
            "permanent: order_type": buy("t", "BTC/USD", "0.01"),  # for the day: coins have none
        }
        async with running(own):
            await send(own, *refused.values(), buy("nobody", "NOPE"))
            await refusals(own, refused)
            assert (await final(own, "nobody"))["reason"] == "asset: NOPE is not tradable at the broker"

            sent = [
                buy("first"),
                buy("some", quantity=None, notional=Decimal(50)),
                buy("coin", "BTC/USD", "0.001", time_in_force="gtc"),
            ]
            await send(own, *sent, buy("twin"))
            ends = await finals(own, [each["intent_id"] for each in sent])
            assert [end["outcome"] for end in ends] == ["filled"] * 3
            bought = ends[1]["filled_quantity"] * ends[1]["average_price"]
            assert abs(bought - 50) < Decimal("0.01")  # USD: as many shares as that buys
            assert (await final(own, "twin"))["reason"].startswith("duplicate: intent first")

            equity = Decimal((await broker.ask("account"))["equity"])
            await broker.says("account", buying_power="0.5")
            await send(own, buy("poor", quantity="2"))
            await refusals(own, {"buying_power": buy("poor")})
            await broker.says("account", buying_power="999999", last_equity=str(equity + 1001))
            await send(own, buy("loser", quantity="2"))
            await refusals(own, {"daily_loss": buy("loser")})
            await broker.says("account", last_equity=str(equity), trading_blocked=True)
            await send(own, buy("blocked", quantity="2"))
            await refusals(own, {"account": buy("blocked")})
            await broker.says("account", trading_blocked=False)
            await send(own, buy("fourth", quantity="2"))
            assert (await final(own, "fourth"))["outcome"] == "filled"
            await send(own, buy("fifth", quantity="3"))
            await refusals(own, {"orders_per_minute": buy("fifth")})
        assert len(broker.orders()) == 4
    assert await refused_records(own) == []


async def test_outside_the_session_an_order_is_refused(settings: Settings, tmp_path: Path) -> None:
    """One that waits at the broker would trade tomorrow, on today's reasons."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path)
        evening = {"timestamp": "2026-03-02T17:00:00-05:00", "next_open": "2026-03-03T09:30:00-05:00"}
        await broker.says("clock", is_open=False, **evening)
        async with running(own):
            await send(own, buy("late"))
            await refusals(own, {"trading_hours": buy("late")})
        assert not broker.orders()


async def test_what_cannot_be_an_order_is_kept_aside_with_its_reason(
    settings: Settings, tmp_path: Path
) -> None:
    """An intent that vanishes, or one that takes the name of another, is an order that somebody counts on."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "duplicate_seconds = 0")
        await broker.buy("AAPL", "3")
        async with running(own):
            genuine = buy("one", quantity="2")
            await send(own, genuine, genuine, genuine | {"ts": genuine["ts"] + 1})
            await send(own, genuine | {"quantity": Decimal(5)})  # the same id, and something else
            exit = exit_intent("AAPL")
            await send(own, order_intent(exit["intent_id"], "AAPL", "buy", "1"), exit)
            await send(own, exit | {"origin": "exit:other", "reason": "the position's other rule"})
            mistakes: dict[str, Record] = {
                "both": {"notional": Decimal(5)},
                "zero": {"quantity": Decimal(0)},
                "price": {"limit_price": Decimal(5)},
                "type": {"order_type": "trailing"},
                "side": {"side": "hold"},
                "account": {"account": "two"},
            }
            await send(own, *(buy(name) | mistake for name, mistake in mistakes.items()), buy("last"))
            assert (await final(own, "last"))["outcome"] == "filled"
            assert (await final(own, "one"))["filled_quantity"] == 2
            assert (await final(own, exit["intent_id"]))["outcome"] == "filled"
        assert len(broker.orders()) == 3
    reasons = await refused_records(own)
    assert len(reasons) == 8, reasons
    ours = [reason for reason in reasons if "no such account" not in reason]  # that one has its own partition
    assert ours[0] == "another intent has the id one, with other content"
    assert ours[1] == "the intent_id of an order must not be shaped like an exit's"


async def refusals(settings: Settings, refused: dict[str, Record]) -> None:
    """Each is refused by the check that it is for."""
    ends = await finals(settings, [intent["intent_id"] for intent in refused.values()])
    for (check, _), end in zip(refused.items(), ends, strict=True):
        assert end["outcome"] == "refused", (check, end)
        assert end["reason"].startswith(f"{check}: "), (check, end["reason"])
