"""Exits of everything that can be held, over the broker's REST: contracts, coins, fractions, short positions,
and in each session.

A user whose exit is refused for its form keeps a loss that he thought was stopped.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.integration.executor_broker import Broker, until
from tests.integration.executor_world import (
    exit_intent,
    final,
    market,
    prepared,
    running,
    send,
)
from tidewire.config import Settings

REGULAR = {"timestamp": "2026-03-02T10:00:00-05:00", "is_open": True}
PRE = {
    "timestamp": "2026-03-02T07:00:00-05:00",
    "is_open": False,
    "next_open": "2026-03-02T09:30:00-05:00",
    "next_close": "2026-03-02T16:00:00-05:00",
}
"""A Monday before the opening."""


def terms(broker: Broker) -> list[tuple[Any, ...]]:
    """What tidewire ordered."""
    return [
        (order.symbol, order.side, order.type, order.tif, order.qty, order.extended_hours, order.status)
        for order in broker.orders()
    ]


async def test_contracts_coins_fractions_and_short_positions_are_closed(
    settings: Settings, tmp_path: Path
) -> None:
    """Each class takes another form of order, and a short position is bought back."""
    async with market(tmp_path, "AAPL", "MSFT", "TSLA", "BTC/USD") as broker:
        own = await prepared(settings, broker, tmp_path)
        listed = await broker.ask("options/contracts?underlying_symbols=AAPL")
        contract = listed["option_contracts"][0]["symbol"]
        await broker.buy(contract, "3")
        await broker.buy("MSFT", "2.5")
        await broker.sell_short("TSLA", "4")
        await broker.buy("BTC/USD", "0.5")
        wanted = {
            contract: ("sell", "day", 3),
            "MSFT": ("sell", "day", Decimal("2.5")),
            "TSLA": ("buy", "day", 4),
            "BTC/USD": ("sell", "gtc", Decimal("0.5")),
        }
        async with running(own):
            intents = {symbol: exit_intent(symbol, side=side) for symbol, (side, _, _) in wanted.items()}
            await send(own, *intents.values())
            for symbol, (_, _, quantity) in wanted.items():
                done = await final(own, intents[symbol]["intent_id"])
                assert (done["outcome"], done["filled_quantity"], done["remaining"]) == (
                    "filled",
                    quantity,
                    0,
                )
        assert all(broker.held(symbol) == 0 for symbol in wanted)
        assert sorted(terms(broker)) == sorted(
            (symbol, side, "market", tif, quantity, False, "filled")
            for symbol, (side, tif, quantity) in wanted.items()
        )


async def test_a_coins_fee_and_its_dust_end_the_exit(settings: Settings, tmp_path: Path) -> None:
    """The fee is taken in coins, so less is held than was bought; too little to sell is no failure."""
    async with market(tmp_path, "AAPL", "BTC/USD") as broker:
        own = await prepared(settings, broker, tmp_path)
        broker.simulator.broker.broker.exchange.crypto_fee = Decimal("0.0025")
        await broker.buy("BTC/USD", "0.5")
        assert broker.held("BTC/USD") == Decimal("0.49875")
        await broker.says("assets/BTCUSD", min_trade_increment="0.01", min_order_size="0.01")
        async with running(own):
            first, again = exit_intent("BTC/USD"), exit_intent("BTC/USD", exit_epoch=1)
            await send(own, first)
            done = await final(own, first["intent_id"])
            await send(own, again)
            empty = await final(own, again["intent_id"])
        assert (done["outcome"], done["filled_quantity"]) == ("closed", Decimal("0.49"))
        assert done["remaining"] == empty["remaining"] == broker.held("BTC/USD") == Decimal("0.00875")
        assert done["reason"] == "dust: 0.00875 are less than the broker trades"
        assert (empty["outcome"], empty["filled_quantity"]) == ("closed", 0)
        assert len(broker.orders()) == 1


async def test_before_the_opening_only_a_limit_order_through_the_quote_is_sent(
    settings: Settings, tmp_path: Path
) -> None:
    """A market order before the opening would trade at a price that nobody has seen; an exit that its rule
    does not allow then, and contracts, wait for the session."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "limit_offset_percent = 1")
        contract = (await broker.ask("options/contracts?underlying_symbols=AAPL"))["option_contracts"][0]
        await broker.buy("AAPL", "2")
        await broker.buy("MSFT", "2")
        await broker.buy(contract["symbol"], "1")
        await broker.says("clock", **PRE)
        async with running(own):
            allowed = exit_intent("AAPL", extended_hours=True)
            forbidden, option = exit_intent("MSFT"), exit_intent(contract["symbol"], extended_hours=True)
            await send(own, allowed, forbidden, option)
            assert (await final(own, allowed["intent_id"]))["outcome"] == "filled"
            for intent, held in ((forbidden, 2), (option, 1)):
                done = await final(own, intent["intent_id"])
                assert (done["outcome"], done["remaining"]) == ("refused", held)
                assert done["reason"].startswith("trading_hours: "), done["reason"]  # not permanent
        assert terms(broker) == [("AAPL", "sell", "limit", "day", 2, True, "filled")]
        order = broker.orders()[0]
        assert order.limit_price < order.average
        assert [broker.held(symbol) for symbol in ("MSFT", contract["symbol"])] == [2, 1]


async def test_a_limit_price_of_a_rule_is_rounded_as_the_broker_takes_it(
    settings: Settings, tmp_path: Path
) -> None:
    """A percentage off a price has many digits; refused for that, the exit would never be made."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path)
        await broker.buy("AAPL", "2")
        async with running(own):
            low = exit_intent("AAPL", order_type="limit", limit_price=Decimal("1.234567890123456789"))
            await send(own, low)
            assert (await final(own, low["intent_id"]))["outcome"] == "filled"
        assert [order.limit_price for order in broker.orders()] == [Decimal("1.23")]
        await until(lambda: broker.held("AAPL") == 0)
