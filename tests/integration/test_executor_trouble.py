"""The executor when something beside it fails: the broker's limit and errors, a suspended account, PostgreSQL
or Kafka away, the kill switch while an intent is on its way.

In each a user must end with exactly one order, or with none and the reason.
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from psycopg import conninfo
from pydantic import SecretStr

from schemas.catalogue import TRADE_UPDATES
from schemas.codec import load_codec
from sinks.executor import actions, kill_file
from sinks.postgres import connection
from tests import tcp_proxy
from tests.integration.executor_broker import Broker, until, until_held
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
from tests.portfolio_history import an_update
from tidewire.clock import NS_PER_SECOND
from tidewire.config import Settings
from tidewire.kafka import client_arguments
from tidewire.metrics import EXECUTOR_POSTS
from tidewire.stack import LocalStack


async def test_limits_and_errors_of_the_broker_cost_time_and_nothing_else(
    settings: Settings, tmp_path: Path
) -> None:
    """429 is waited out as long as the broker says; an answer that is lost is looked up, not sent again."""
    async with market(tmp_path, "AAPL", "MSFT", "TSLA") as broker:
        own = await prepared(settings, broker, tmp_path)
        for symbol in ("AAPL", "MSFT", "TSLA"):
            await broker.buy(symbol, "2")
        orders = {"method": "POST", "path": "/v2/orders"}
        async with running(own):
            limited, lost, failed = (exit_intent(symbol) for symbol in ("AAPL", "MSFT", "TSLA"))
            await broker.inflict(kind="status_http", code=429, retry_after=2, **orders)
            began = time.time_ns()
            await send(own, limited)
            assert (await final(own, limited["intent_id"]))["outcome"] == "filled"
            sent = next(order for order in broker.orders() if order.symbol == "AAPL")
            assert sent.submitted - began >= NS_PER_SECOND  # two seconds, less what a whole second hides
            assert (await broker.posts())[sent.client_order_id] == 2

            await broker.inflict(kind="answer_lost", **orders)
            by_id = "/v2/orders:by_client_order_id"
            await broker.inflict(kind="status_http", code=503, count=2, method="GET", path=by_id)
            await send(own, lost)
            assert (await final(own, lost["intent_id"]))["outcome"] == "filled"
            assert "unknown" in [each["outcome"] for each in await told(own, lost["intent_id"])]

            await broker.inflict(kind="status_http", code=500, count=3, method="GET", path="/v2/positions")
            await broker.inflict(kind="answer_http", code=504, **orders)
            await send(own, failed)
            assert (await final(own, failed["intent_id"]))["outcome"] == "filled"
        assert [broker.held(symbol) for symbol in ("AAPL", "MSFT", "TSLA")] == [0, 0, 0]
        assert sorted((await broker.posts()).values()) == [1, 1, 2]
        assert len(broker.orders()) == 3


async def test_a_suspended_account_refuses_and_a_later_epoch_closes(
    settings: Settings, tmp_path: Path
) -> None:
    """suspend_trade is the kill switch's last word, and somebody lifts it: the exit must then be made."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path)
        await broker.buy("AAPL", "2")
        async with running(own):
            await broker.ask("account/configurations", {"suspend_trade": True}, "PATCH")
            first, later = exit_intent("AAPL"), exit_intent("AAPL", exit_epoch=1)
            await send(own, first, order_intent("buy", "AAPL", "buy", "1"))
            done = await final(own, first["intent_id"])
            # Not permanent, and something may be left: the watches are armed again, after a pause.
            assert (done["outcome"], done["remaining"]) == ("rejected", None)
            assert done["reason"] == "trading is suspended by user (suspend_trade)"
            assert (await final(own, "buy"))["reason"].startswith("account: ")
            await broker.ask("account/configurations", {"suspend_trade": False}, "PATCH")
            await send(own, later)
            assert (await final(own, later["intent_id"]))["outcome"] == "filled"
        assert broker.held("AAPL") == 0
        assert len(broker.orders()) == 1


async def test_the_kill_switch_stops_an_intent_that_is_on_its_way(settings: Settings, tmp_path: Path) -> None:
    """It is for the moment in which orders are being sent, not for the next ones."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path)
        await broker.buy("AAPL", "2")
        async with running(own):
            await broker.inflict(
                kind="status_http", code=429, retry_after=3, method="POST", path="/v2/orders"
            )
            killed, later = exit_intent("AAPL"), exit_intent("AAPL", exit_epoch=1)
            await send(own, killed)
            await until_held(lambda: _posted(broker))
            kill_file.set_on(own.tidewire_home, ACCOUNT, "enough")
            done = await final(own, killed["intent_id"])
            assert (done["outcome"], done["reason"][:12]) == ("refused", "kill_switch:")
            assert not broker.orders()
            kill_file.set_off(own.tidewire_home, ACCOUNT)
            await send(own, later)
            assert (await final(own, later["intent_id"]))["outcome"] == "filled"
        assert len(broker.orders()) == 1


async def test_a_kill_switch_that_nobody_can_read_holds_an_exit_and_does_not_refuse_it(
    settings: Settings, tmp_path: Path
) -> None:
    """A slow moment of PostgreSQL is no order to stop: the stop loss must go out once it answers."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 600")
        await broker.buy("AAPL", "2")
        unread = EXECUTOR_POSTS.labels("unread")._value
        before = unread.get()
        async with running(own):
            held = exit_intent("AAPL")
            with connection.open_connection(connection.url(own)) as other, other.transaction():
                other.execute("LOCK TABLE kill_switch IN ACCESS EXCLUSIVE MODE")
                await send(own, held)
                await until(lambda: unread.get() > before)
                assert not broker.orders()
            assert (await final(own, held["intent_id"]))["outcome"] == "filled"
        assert len(broker.orders()) == 1


async def _posted(broker: Broker) -> bool:
    return bool(await broker.posts())


async def test_without_postgresql_nothing_is_ordered_and_afterwards_all_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    """An order without a durable intent would be sent again by whoever comes next."""
    direct = connection.url(settings)
    parts = conninfo.conninfo_to_dict(direct)
    async with (
        tcp_proxy.before(str(parts.get("host", "localhost")), int(parts.get("port") or 5432)) as postgres,
        market(tmp_path) as broker,
    ):
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 600")
        url = conninfo.make_conninfo(direct, host="127.0.0.1", port=postgres.port)
        through = own.model_copy(update={"database_url": SecretStr(url)})
        await broker.buy("AAPL", "2")
        await broker.buy("MSFT", "2")
        async with running(through) as (_, health):
            far = exit_intent("MSFT", order_type="limit", limit_price=Decimal(99999))
            await send(own, far)
            await until(lambda: broker.orders())
            await until_held(lambda: _has(own, far["intent_id"]))
            postgres.cut()
            near = exit_intent("AAPL")
            await send(own, near)
            broker.fill(broker.orders()[0].id, "2")
            await until(lambda: "PostgreSQL" in (health.not_ready or ""))
            assert len(broker.orders()) == 1
            assert rows(own, "SELECT count(*) FROM order_intents_ledger") == [(1,)]
            postgres.mend()
            for intent in (near, far):
                done = await final(own, intent["intent_id"])
                assert (done["outcome"], done["filled_quantity"], done["remaining"]) == ("filled", 2, 0)
            await until(lambda: health.not_ready is None)
        assert sorted((await broker.posts()).values()) == [1, 1]


async def _has(settings: Settings, intent_id: str) -> bool:
    return bool(await told(settings, intent_id))


async def test_news_of_an_order_is_followed_at_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between polls of an order that rests lie 15 s, in which the rest of a position would stay unsold."""
    monkeypatch.setattr(actions, "FIRST_POLL", 3_600.0)
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 600")
        await broker.buy("AAPL", "2")
        async with running(own):
            far = exit_intent("AAPL", order_type="limit", limit_price=Decimal(99999))
            await send(own, far)
            await until_held(lambda: _has(own, far["intent_id"]))
            order = broker.orders()[0]
            broker.fill(order.id, "2")
            encode = load_codec(own).encoder("trade_update")
            value = encode(an_update("fill", order.id, time.time_ns(), account=ACCOUNT))
            producer = AIOKafkaProducer(**client_arguments(own))
            await producer.start()
            try:

                async def ended() -> bool:
                    # More than once: whoever follows the end of a topic may not have begun.
                    await producer.send_and_wait(own.tidewire_topic_prefix + TRADE_UPDATES, value)
                    return any(each["final"] for each in await told(own, far["intent_id"]))

                await until_held(ended)
            finally:
                await producer.stop()
        assert (await final(own, far["intent_id"]))["outcome"] == "filled"


@pytest.mark.timeout(180)
async def test_without_kafka_an_order_ends_and_is_told_once_later(settings: Settings, tmp_path: Path) -> None:
    """Results that wait must not hold up the ledger, nor come twice."""
    stack = LocalStack(tmp_path / "stack", brokers=1)
    (tmp_path / "stack").mkdir()
    try:
        bootstrap = await asyncio.to_thread(stack.start_kafka)
        alone = settings.model_copy(update={"kafka_bootstrap_servers": bootstrap})
        async with market(tmp_path) as broker:
            own = await prepared(alone, broker, tmp_path, "max_age_seconds = 600")
            await broker.buy("AAPL", "2")
            async with running(own):
                far = exit_intent("AAPL", order_type="limit", limit_price=Decimal(99999))
                await send(own, far)
                await until_held(lambda: _has(own, far["intent_id"]))
                await asyncio.to_thread(stack.brokers[0].stop)
                broker.fill(broker.orders()[0].id, "2")
                done = "SELECT phase, outcome FROM order_intents_ledger"
                await until(lambda: rows(own, done) == [("done", "filled")])
                waiting = "SELECT count(*) FROM order_results_outbox WHERE published_at IS NULL"
                assert rows(own, waiting) == [(1,)]
                await asyncio.to_thread(stack.brokers[0].start)
                assert (await final(own, far["intent_id"], 60))["outcome"] == "filled"
                assert [each["outcome"] for each in await told(own, far["intent_id"])] == [
                    "accepted",
                    "filled",
                ]
    finally:
        await asyncio.to_thread(stack.down)
