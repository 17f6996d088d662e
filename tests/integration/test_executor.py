"""The executor beside real servers and the simulated broker: an exit becomes one order, whatever happens."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from schemas.catalogue import ORDER_INTENTS
from tests.integration.executor_broker import until, until_held
from tests.integration.executor_world import (
    ACCOUNT,
    exit_intent,
    final,
    market,
    order_intent,
    prepared,
    rows,
    running,
    send,
    told,
)
from tests.integration.topic_content import held
from tidewire.config import Settings


async def test_an_exit_closes_the_position_exactly_and_once(settings: Settings, tmp_path: Path) -> None:
    """A stop that sells less leaves a loss running, one that sells more or twice opens a short position."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path)
        await broker.buy("AAPL", "7")
        await broker.buy("MSFT", "3")
        resting = {"symbol": "MSFT", "side": "sell", "type": "limit", "qty": "2", "limit_price": "99999"}
        await broker.ask("orders", resting | {"time_in_force": "day"})
        async with running(own):
            first, second = exit_intent("AAPL"), exit_intent("MSFT")
            await send(own, *([first] * 50), second)
            done = await final(own, first["intent_id"])
            assert (done["outcome"], done["filled_quantity"], done["remaining"]) == ("filled", 7, 0)
            assert done["average_price"] > 0
            freed = await final(own, second["intent_id"])
            assert (freed["outcome"], freed["filled_quantity"], freed["remaining"]) == ("filled", 3, 0)
        assert broker.held("AAPL") == broker.held("MSFT") == 0
        assert len(broker.orders()) == 2
        outcomes = [record["outcome"] for record in await told(own, first["intent_id"])]
        assert outcomes == ["accepted", "filled"]
    assert rows(own, "SELECT count(*) FROM order_attempts") == [(2,)]
    assert rows(own, "SELECT count(*) FROM order_results_outbox WHERE published_at IS NULL") == [(0,)]


async def test_what_must_not_be_ordered_is_not(settings: Settings, tmp_path: Path) -> None:
    """Invariant 9: nothing on stale data, over limits or from a replay; what is malformed is kept aside."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, 'max_quantity = 5\nmax_notional = "none"')
        await broker.buy("AAPL", "2")
        stale = exit_intent("AAPL", age=60)
        replayed = exit_intent("AAPL", exit_epoch=3, run_id="run-1")
        mixed_up = exit_intent("AAPL", exit_epoch=4) | {"trigger_id": "one:AAPL:0:5"}
        async with running(own):
            await send(own, b"\x00not avro", stale, replayed, mixed_up)
            small, naked = (
                order_intent("small", "AAPL", "buy", "5"),
                order_intent("naked", "AAPL", "sell", "3"),
            )
            await send(own, order_intent("big", "AAPL", "buy", "6"), naked, small)
            assert (await final(own, stale["intent_id"]))["outcome"] == "stale"
            refused = await final(own, "big")
            assert (refused["outcome"], refused["reason"][:9]) == ("refused", "quantity:")
            assert "short position" in (await final(own, "naked"))["reason"]
            assert (await final(own, "run-1/" + replayed["intent_id"]))["outcome"] == "replay"
            assert (await final(own, "small"))["outcome"] == "filled"
        assert broker.held("AAPL") == Decimal(7)
        assert len(broker.orders()) == 1
    letters = await held(own, ORDER_INTENTS + ".dlq")
    assert len(letters) == 2
    assert rows(own, f"SELECT count(*) FROM order_intents_ledger WHERE account = '{ACCOUNT}'") == [(4,)]


async def test_a_dry_run_says_what_it_would_do(settings: Settings, tmp_path: Path) -> None:
    """Somebody who tries his rules out must not find his positions sold."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "dry_run = true")
        await broker.buy("AAPL", "2")
        async with running(own):
            intent = exit_intent("AAPL")
            await send(own, intent)
            done = await final(own, intent["intent_id"])
        assert (done["outcome"], done["reason"]) == ("dry_run", "would sell 2 AAPL: market, day")
        assert broker.held("AAPL") == 2
        assert not broker.orders()


async def test_an_unfinished_order_is_taken_over(settings: Settings, tmp_path: Path) -> None:
    """Positions must not stay half closed because a process was restarted."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 10")
        await broker.buy("AAPL", "2")
        async with running(own):
            far = exit_intent("AAPL", order_type="limit", limit_price=Decimal("99999"))
            await send(own, far)
            await until(lambda: broker.orders())
        assert broker.orders()[0].open

        async def ended_by_somebody() -> bool:
            for order in broker.orders():
                if order.open:
                    await broker.ask(f"orders/{order.id}", method="DELETE")
            return any(record["final"] for record in await told(own, far["intent_id"]))

        async with running(own):
            await until_held(ended_by_somebody)
            done = await final(own, far["intent_id"])
        # While it is fresh each cancelled order is followed by the next; the rest is for the next exit epoch.
        assert (done["filled_quantity"], done["remaining"]) == (0, 2)
        assert not any(order.open for order in broker.orders())
        sent = len({order.client_order_id for order in broker.orders()})
        assert sent in (done["attempt"], done["attempt"] + 1)  # the last may have been too late to be sent
    assert rows(own, "SELECT fence FROM executor_owners") == [(2,)]
