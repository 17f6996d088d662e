"""The accounts producer against a small broker and a real Kafka: every order event once, whatever breaks."""

from __future__ import annotations

import json
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas import cluster
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    CONNECTIONS,
    TRADE_UPDATE_FRAMES,
)
from schemas.event_id import fill_id, order_event_id
from tests.integration.accounts_world import (
    TOPICS,
    accounts,
    has,
    opened,
    running,
    until,
    until_held,
    updates,
)
from tests.integration.topic_content import decoded, held
from tests.integration.trading_server import Broker
from tidewire.config import Settings

pytestmark = pytest.mark.kafka


@pytest.fixture
async def ready(settings: Settings, tmp_path: Path) -> Settings:
    await cluster.apply(settings, TOPICS)
    return settings.model_copy(update={"tidewire_accounts_file": tmp_path / "accounts.toml"})


async def test_every_event_arrives_once_after_a_consistent_opening(ready: Settings) -> None:
    """A user's fills would be missing or doubled, or the opening balance would hold half of them."""
    broker = Broker()
    accounts(ready, one="test-key-1 test-secret-1")
    old = await broker.submit(qty="5")
    await broker.fill(old, "5")
    waiting = await broker.submit("MSFT", told=False)
    async with broker as url, running(ready, url) as (service, health):
        await until(lambda: opened(health))
        order = await broker.submit()
        message = await broker.fill(order, "4")
        await broker.say(json.dumps(message))  # once more, as text this time
        broker.binary = False
        await broker.fill(order, "6")
        await until_held(lambda: has(ready, 4))
        details: Any = service.details()
        assert details["accounts"]["one"]["connection_state"] == "CONNECTED"

    told = await updates(ready)
    assert [(u["event"], u["order_id"], u["source"]) for u in told] == [
        ("new", waiting, "rest"), ("new", order, "ws"), ("partial_fill", order, "ws"), ("fill", order, "ws"),
    ]  # fmt: skip
    assert [u["event_id"] for u in told[2:]] == [fill_id(order, "4"), fill_id(order, "10")]
    assert told[1]["event_id"] == order_event_id(order, "new", told[1]["ts"])
    assert told[3]["price"] == Decimal("100.25")
    first = (await decoded(ready, ACCOUNT_SNAPSHOTS))[0]
    assert [(p["symbol"], p["quantity"]) for p in first["positions"]] == [("AAPL", Decimal(5))]
    assert [o["order_id"] for o in first["orders"]] == [waiting]
    assert first["broker_account"] == broker.account_id
    assert first["contained_fills"] == [f"{old}:5"]
    assert first["activity_cursor"] == broker.activities[0]["id"]
    states = [r["state"] for r in await decoded(ready, CONNECTIONS)]
    assert [s for s, former in zip(states, [None, *states], strict=False) if s != former] == [
        "DISCONNECTED", "CONNECTING", "AUTHENTICATING", "CONNECTED", "DISCONNECTED",
    ]  # fmt: skip


async def test_what_happened_without_a_connection_is_in_the_log_five_seconds_after_the_reconnect(
    ready: Settings,
) -> None:
    """A fill or a cancel during a lost connection would never reach the user's positions and orders."""
    broker = Broker()
    accounts(ready, one="test-key-1 test-secret-1")
    async with broker as url, running(ready, url) as (_, health):
        await until(lambda: opened(health))
        filled, canceled, half = [await broker.submit() for _ in range(3)]
        await until_held(lambda: has(ready, 3))
        before = broker.connections
        await broker.drop()
        await broker.fill(filled, "3", told=False)
        await broker.fill(filled, "7", told=False)
        await broker.end(canceled, told=False)
        unseen = await broker.submit("MSFT", told=False)
        await broker.end(unseen, "expired", told=False)
        await until(lambda: broker.connections > before and broker.sockets)
        await until_held(lambda: has(ready, 7), 5)
        await broker.fill(half, "1", told=False)  # the stream is connected and keeps quiet
        await broker.fill(half, "1")
        await until_held(lambda: has(ready, 9), 10)
    told = await updates(ready)
    assert Counter((u["event"], u["order_id"], u["source"]) for u in told[3:]) == Counter(
        [
            ("partial_fill", filled, "rest"), ("fill", filled, "rest"), ("canceled", canceled, "rest"),
            ("expired", unseen, "rest"), ("partial_fill", half, "ws"), ("partial_fill", half, "rest"),
        ]
    )  # fmt: skip
    fills = [u for u in told if u["order_id"] == filled and u["source"] == "rest"]
    assert [(u["cumulative_quantity"], u["quantity"], u["side"], u["client_order_id"]) for u in fills] == [
        (3, 3, "buy", "mine-0"), (10, 7, "buy", "mine-0"),
    ]  # fmt: skip
    assert len({u["event_id"] for u in told}) == len(told)


async def test_a_restart_goes_on_where_the_log_ends(ready: Settings) -> None:
    """After a crash a user's fills would be missing, or counted twice."""
    broker = Broker()
    accounts(ready, one="test-key-1 test-secret-1")
    async with broker as url:
        async with running(ready, url) as (_, health):
            await until(lambda: opened(health))
            order, canceled = await broker.submit(), await broker.submit()
            await broker.fill(order, "1")
            await until_held(lambda: has(ready, 3))
        await broker.fill(order, "2", told=False)
        await broker.end(canceled, told=False)
        async with running(ready, url) as (_, health):
            await until_held(lambda: has(ready, 5))
            await until(lambda: opened(health))
            message = await broker.fill(order, "3")
            await broker.end(canceled, late=700)  # the stream's own time of the same end
            await broker.say(json.dumps(message).encode())
            await until_held(lambda: has(ready, 6))
    told = await updates(ready)
    of_order = [u for u in told if u["order_id"] == order]
    assert [(u["event"], u["cumulative_quantity"], u["source"]) for u in of_order] == [
        ("new", 0, "ws"), ("partial_fill", 1, "ws"), ("partial_fill", 3, "rest"), ("partial_fill", 6, "ws"),
    ]  # fmt: skip
    assert [u["event"] for u in told if u["order_id"] == canceled] == ["new", "canceled"]


async def test_one_refused_account_costs_itself_only(ready: Settings) -> None:
    """One revoked key would stop every other account of the installation."""
    broker = Broker()
    accounts(ready, one="test-key-1 test-secret-1", two="test-key-2 wrong-secret-2")
    async with broker as url, running(ready, url) as (service, health):
        await until(lambda: len(service.watches) == 2 and service.watches[1].refused)
        await until(lambda: service.watches[0].reason is None)
        connections = broker.connections
        await broker.submit()
        await until_held(lambda: has(ready, 1))
        assert broker.connections == connections  # refused keys are not tried again
        await until(lambda: "account two: " in str(health.not_ready))
    assert {r["account"] for r in await decoded(ready, ACCOUNT_SNAPSHOTS)} == {"one"}
    last = [r for r in await decoded(ready, CONNECTIONS) if r["feed"] == "trading:two"][-1]
    assert last["state"] == "DISCONNECTED"
    assert "unauthorized" in last["reason"]


async def test_a_name_never_changes_its_brokerage_account(ready: Settings) -> None:
    """Fills of one brokerage account would be added to the positions of another."""
    accounts(ready, one="test-key-1 test-secret-1")
    async with Broker() as url, running(ready, url) as (_, health):
        await until(lambda: opened(health))
    other = Broker()
    async with other as url, running(ready, url) as (service, _health):
        await until(lambda: service.watches and service.watches[0].refused)
        assert "another brokerage account" in str(service.watches[0].refused)
        assert other.connections == 0
    assert len({r["broker_account"] for r in await decoded(ready, ACCOUNT_SNAPSHOTS)}) == 1


async def test_no_half_snapshot_is_published_and_the_rate_limit_is_kept(ready: Settings) -> None:
    """Positions would vanish from a snapshot because one of its requests failed."""
    broker = Broker()
    accounts(ready, one="test-key-1 test-secret-1")
    await broker.fill(await broker.submit(qty="5"), "5")
    reset = time.time() + 1.5
    limited = web.json_response({}, status=429, headers={"X-RateLimit-Reset": str(reset)})
    broker.faults["account/activities/FILL"] = [limited]
    broker.faults["positions"] = [web.Response(status=500, body=b"{")]
    async with broker as url, running(ready, url) as (_, health):
        await until(lambda: opened(health))
        assert time.time() >= reset
    snapshots = await decoded(ready, ACCOUNT_SNAPSHOTS)
    assert [len(s["positions"]) for s in snapshots] == [1]
    assert broker.requests["positions"] == 2


async def test_what_is_no_trade_update_is_kept_with_its_bytes(ready: Settings) -> None:
    """A message that we do not understand would be lost without a trace, or end the stream."""
    broker = Broker()
    accounts(ready, one="test-key-1 test-secret-1")
    bad = [
        b"{not json", b"[1]", b'{"stream":"other"}', b'{"stream":"trade_updates","data":{"event":"fill"}}',
        b"\xff\x00", b'{"stream":"trade_updates","data":{"event":"new","order":{"id":7}}}',
    ]  # fmt: skip
    async with broker as url, running(ready, url) as (_, health):
        await until(lambda: opened(health))
        for raw in bad:
            await broker.say(raw)
        await broker.submit()
        await until_held(lambda: has(ready, 1))
    letters = await held(ready, TRADE_UPDATE_FRAMES + ".dlq")
    assert [letter.value for letter in letters] == bad
    assert all(dict(letter.headers)["reason"] for letter in letters)
    assert {letter.key for letter in letters} == {b"one"}


async def test_without_accounts_the_service_is_ready_and_idle(ready: Settings) -> None:
    """`tidewire up` would not start for those who only want market data."""
    async with running(ready, "http://127.0.0.1:9") as (_, health):
        await until(lambda: opened(health))
