"""The executor's broker against the simulator, over real sockets, with every fault of its REST.

A user would lose money in each: an order sent twice, an order taken for refused that stands at the broker,
keys in a log.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import LimitOrderRequest
from pydantic import SecretStr

from simulator.app import Simulator, SimulatorOptions
from sinks.executor.broker import AlpacaBroker
from sinks.executor.broker_types import (
    BrokerError,
    LastCheck,
    Limited,
    NewOrder,
    Refused,
    Stopped,
    Unknown,
)
from tidewire.clock import NS_PER_SECOND, now_ns
from tidewire.config import load

KEYS = ("demo-key", "demo-secret")
CANARY = ("CANARYKEYID0000000001", "CANARYSECRET00000000000000000000000002")
_names = itertools.count()


async def never() -> None:
    """A switch that is off."""


@asynccontextmanager
async def trading(
    home: Path, switch: LastCheck = never, seconds: float = 10, **options: Any
) -> AsyncIterator[tuple[Simulator, AlpacaBroker, ClientSession]]:
    chosen = {
        "symbols": ("AAPL",),
        "wait_for_subscriber": False,
        "strategy": False,
        "orders_per_minute": None,
    }
    simulator = Simulator(load(_env_file=None, tidewire_home=home), SimulatorOptions(**{**chosen, **options}))
    await simulator.start()
    try:
        async with ClientSession() as session:
            while simulator.prices.quote("AAPL") is None or simulator.prices.quote("BTC/USD") is None:
                await asyncio.sleep(0.01)
            yield simulator, broker(session, simulator.url, switch, seconds), session
    finally:
        await simulator.stop()


def broker(
    session: ClientSession,
    url: str,
    switch: LastCheck = never,
    seconds: float = 10,
    keys: tuple[str, str] = KEYS,
) -> AlpacaBroker:
    key, secret = map(SecretStr, keys)
    return AlpacaBroker(session, url, url, key, secret, switch, request_seconds=seconds)


def resting(**fields: Any) -> NewOrder:
    """An order far below the market: it stays where it is."""
    plain: dict[str, Any] = {
        "client_order_id": f"tw-test-{next(_names)}",
        "symbol": "AAPL",
        "side": "buy",
        "type": "limit",
        "time_in_force": "day",
        "quantity": Decimal(1),
        "limit_price": Decimal("1.25"),
    }
    return NewOrder(**(plain | fields))


async def inflict(session: ClientSession, url: str, **fault: Any) -> None:
    async with session.post(f"{url}/sim/faults", json={"venue": "trading", **fault}) as answer:
        assert answer.status == 200, await answer.text()


async def posts(session: ClientSession, url: str) -> dict[str, int]:
    async with session.get(f"{url}/sim/trading/requests") as answer:
        counted: dict[str, int] = (await answer.json())["orders"]
        return counted


def placed(simulator: Simulator, order: NewOrder) -> int:
    """How many orders stand at the broker under this id."""
    orders = simulator.broker.broker.accounts[1].orders.values()
    return sum(one.client_order_id == order.client_order_id for one in orders)


REFUSED_40310000 = {"code": 40310000, "message": "insufficient qty available for order"}


@pytest.mark.parametrize(
    ("fault", "wanted", "orders"),
    [
        ({"kind": "answer_late", "seconds": 5}, Unknown, 1),
        ({"kind": "answer_http", "code": 504}, Unknown, 1),
        ({"kind": "answer_http", "code": 500}, Unknown, 1),
        ({"kind": "answer_http", "code": 408}, Unknown, 1),
        ({"kind": "answer_lost"}, Unknown, 1),
        ({"kind": "status_http", "code": 500}, Unknown, 0),
        ({"kind": "status_http", "code": 503}, Unknown, 0),
        ({"kind": "status_http", "code": 403, "message": REFUSED_40310000}, Refused, 0),
        ({"kind": "status_http", "code": 429, "retry_after": 30}, Limited, 0),
        ({"kind": "answer_late", "seconds": 0.2}, None, 1),
    ],
    ids=lambda value: "-".join(map(str, list(value.values())[:2])) if isinstance(value, dict) else None,
)
async def test_every_fault_has_its_class_and_no_order_is_sent_twice(
    tmp_path: Path, fault: dict[str, Any], wanted: type[BrokerError] | None, orders: int
) -> None:
    """An order that stands and is taken for refused would be sent again: twice the shares are sold."""
    async with trading(tmp_path, seconds=1) as (simulator, ours, session):
        await inflict(session, simulator.url, **fault)
        order = resting()
        if wanted is None:
            assert (await ours.submit(order)).client_order_id == order.client_order_id
        else:
            with pytest.raises(wanted):
                await ours.submit(order)
        assert await posts(session, simulator.url) == {order.client_order_id: 1}
        assert placed(simulator, order) == orders
        if wanted is not Limited:  # then nothing may be asked for half a minute
            found = await ours.by_client_order_id(order.client_order_id)
            assert (found is not None) == bool(orders)
        if wanted is Unknown:  # the same id again: a second order cannot come of it
            if orders:
                with pytest.raises(Refused) as caught:
                    await ours.submit(order)
                assert (caught.value.status, caught.value.code) == (422, 40010001)
            else:
                await ours.submit(order)
            assert placed(simulator, order) == 1


async def test_a_limit_says_when_to_come_again(tmp_path: Path) -> None:
    """Else the executor would hammer the broker until the account is shut out for longer."""
    async with trading(tmp_path) as (simulator, ours, session):
        await inflict(session, simulator.url, kind="status_http", code=429, retry_after=30)
        before = now_ns()
        with pytest.raises(Limited) as caught:
            await ours.submit(resting(), exit=True)
        assert before + 28 * NS_PER_SECOND <= caught.value.until_ns <= now_ns() + 31 * NS_PER_SECOND


async def test_nobody_listens(tmp_path: Path) -> None:
    """An order that never left must not be taken for one that stands; treating it as unknown is safe."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with ClientSession() as session:
            with pytest.raises(Unknown) as caught:
                await broker(session, url).submit(resting())
            assert not caught.value.sent


async def test_every_question_is_answered(tmp_path: Path) -> None:
    """The executor takes side and quantity from these answers: what is misread is ordered wrongly."""
    async with trading(tmp_path) as (_, ours, __):
        bought = await ours.submit(resting(type="market", limit_price=None, quantity=Decimal("2.5")))
        while (now := await ours.order(bought.id)) is None or not now.terminal:
            await asyncio.sleep(0.02)
        assert (now.filled_quantity, now.remaining, now.side) == (Decimal("2.5"), Decimal(0), "buy")
        waiting = await ours.submit(
            resting(
                side="sell", quantity=Decimal(1), limit_price=Decimal(9999), position_intent="sell_to_close"
            )
        )
        position = await ours.position("AAPL")
        assert position is not None
        assert (position.quantity, position.qty_available) == (Decimal("2.5"), Decimal("1.5"))
        assert (position.exit_side, position.side, position.asset_class) == ("sell", "long", "us_equity")
        assert await ours.positions() == [position] or (await ours.positions())[0].quantity == Decimal("2.5")
        assert [order.id for order in await ours.open_orders("AAPL")] == [waiting.id]
        assert await ours.open_orders("MSFT") == []
        await ours.cancel(waiting.id)
        assert await ours.open_orders() == []
        with pytest.raises(Refused) as caught:
            await ours.cancel(waiting.id)
        assert caught.value.status == 422
        account = await ours.account()
        assert account.may_trade
        assert account.equity > 0
        stock, pair = await ours.asset("AAPL"), await ours.asset("BTC/USD")
        assert stock is not None
        assert pair is not None
        assert (stock.tradable, stock.fractionable, stock.shortable) == (True, True, True)
        assert (pair.asset_class, pair.shortable) == ("crypto", False)
        assert await ours.asset("NOSUCH") is None
        assert await ours.position("MSFT") is None
        assert await ours.order("00000000-0000-4000-8000-000000000000") is None
        clock = await ours.clock()
        assert clock.now_ns < clock.next_close_ns
        for symbol in ("AAPL", "BTC/USD"):
            quote = await ours.latest_quote(symbol)
            assert quote is not None
            assert 0 < quote.bid <= quote.ask


async def test_crypto_keeps_its_slash(tmp_path: Path) -> None:
    """Positions of pairs come as BTCUSD: an exit of BTC/USD would find nothing to close."""
    async with trading(tmp_path) as (_, ours, __):
        order = resting(
            symbol="BTC/USD", type="market", limit_price=None, quantity=Decimal("0.01"), time_in_force="gtc"
        )
        bought = await ours.submit(order)
        while (now := await ours.order(bought.id)) is None or not now.terminal:
            await asyncio.sleep(0.02)
        position = await ours.position("BTC/USD")
        assert position is not None
        assert position.symbol == "BTC/USD"
        assert Decimal("0.009") < position.quantity <= Decimal("0.01")


async def test_more_open_orders_than_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that is not seen still holds its shares: the exit behind it would be refused for ever."""
    monkeypatch.setattr("sinks.executor.broker.PAGE", 20)
    async with trading(tmp_path) as (simulator, ours, _):
        for n in range(45):
            body = {"symbol": "AAPL", "side": "buy", "type": "limit", "time_in_force": "day", "qty": "1"}
            simulator.broker.broker.submit(1, body | {"limit_price": "1", "client_order_id": f"many-{n}"})
        found = await ours.open_orders("AAPL")
        assert sorted(order.client_order_id for order in found) == sorted(f"many-{n}" for n in range(45))


async def test_the_last_checks_come_just_before_the_order(tmp_path: Path) -> None:
    """What was allowed when the order began to wait may be forbidden when its turn comes."""
    asked: list[str] = []

    async def switch() -> None:
        asked.append("switch")
        raise Stopped("kill switch on")

    async def last_check() -> None:
        asked.append("check")

    async with trading(tmp_path, switch) as (simulator, ours, session):
        with pytest.raises(Stopped):
            await ours.submit(resting(), last_check=last_check)
        assert asked == ["check", "switch"]
        assert await posts(session, simulator.url) == {}


async def test_suspension_is_read_back(tmp_path: Path) -> None:
    """A suspension that is only believed lets a process that wakes up order on."""
    async with trading(tmp_path, seconds=1) as (simulator, ours, session):
        assert await ours.suspend(True)
        with pytest.raises(Refused) as caught:
            await ours.submit(resting())
        assert (caught.value.status, caught.value.code) == (403, 40310000)
        assert (await ours.account()).may_trade is False
        path = "/v2/account/configurations"
        await inflict(session, simulator.url, kind="status_http", code=500, path=path, method="PATCH")
        assert await ours.suspend(False) is False  # it was not done, and what is read back says so
        await inflict(session, simulator.url, kind="answer_lost", path=path, method="PATCH")
        assert await ours.suspend(False) is True  # it was done although the answer was lost
        await inflict(session, simulator.url, kind="status_http", code=500, path=path, method="GET")
        with pytest.raises(Unknown):
            await ours.suspended()


async def test_alpacas_own_client_and_ours_order_the_same(tmp_path: Path) -> None:
    """Alpaca knows its own client's requests: what ours leaves out or names otherwise could be refused."""
    async with trading(tmp_path) as (simulator, ours, _):
        order = resting(limit_price=Decimal("1.25"), quantity=Decimal(2), extended_hours=True)
        mine = await ours.submit(order)
        client = TradingClient(*KEYS, url_override=simulator.url, raw_data=True)
        request = LimitOrderRequest(
            symbol="AAPL", qty=2, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, limit_price=1.25,
            extended_hours=True, client_order_id="theirs",
        )  # fmt: skip
        theirs = await asyncio.to_thread(client.submit_order, request)
        client._session.close()
        assert isinstance(theirs, dict)
        both = await asyncio.gather(ours.order(mine.id), ours.order(str(theirs["id"])))
        assert both[0] is not None
        assert both[1] is not None
        for name in ("symbol", "side", "type", "time_in_force", "quantity", "limit_price", "extended_hours"):
            assert getattr(both[0], name) == getattr(both[1], name)


async def test_keys_are_in_no_error_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key in a log is a key that others can trade with."""
    caplog.set_level(logging.DEBUG)

    async def echo(request: web.Request) -> web.Response:
        said = " ".join(f"{name}: {value}" for name, value in request.headers.items())
        status = int(request.headers.get("X-Status", "0")) or statuses.pop()
        return web.json_response({"code": 1, "message": said}, status=status)

    statuses = [200, 302, 403, 422, 429, 500, 504]
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    texts: list[str] = []
    async with ClientSession() as session:
        while statuses:
            ours = broker(session, url, keys=CANARY)
            with pytest.raises(BrokerError) as caught:
                await ours.submit(resting())
            error: BaseException | None = caught.value
            texts.append(repr(ours))
            while error is not None:
                texts += [str(error), repr(error), repr(error.__context__), repr(vars(error))]
                error = error.__cause__ or error.__context__
    await runner.cleanup()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with ClientSession() as session:
            with pytest.raises(Unknown) as unknown:
                await broker(session, f"http://127.0.0.1:{taken.getsockname()[1]}", keys=CANARY).submit(
                    resting()
                )
            texts += [str(unknown.value), repr(unknown.value.__cause__)]
    everything = "\n".join([*texts, caplog.text])
    assert not [canary for canary in CANARY if canary in everything]
    assert "[redacted]" in everything
