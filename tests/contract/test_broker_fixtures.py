"""Every trading payload among the recorded fixtures is a shape that the simulator sends too.

Whoever parses Alpaca's real payloads is tested by the simulator's; a key that only Alpaca sends would meet
the code for the first time at a user's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

FIXTURES = Path(__file__).parents[3] / "shared/data/alpaca/fixtures"
KEYS = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the shared fixtures are not on this machine")

BROKER_API = "only in the Broker API's accounts and orders, which are for brokers' own back offices"
OLD_DOCS = "from an SDK's old mock with names that Alpaca's API does not have"
LOCAL_CURRENCY = "only in accounts of local-currency trading, which needs a broker"
ANOTHER_STREAM = "of the events stream /v2beta1/events/activities, which the simulator does not have"
OLD_REST = "documented for the API's first years, no longer sent"

EXCEPTIONS = {
    ("order", "commission"): BROKER_API,
    ("order", "exchange"): OLD_DOCS,
    ("order", "account_id"): OLD_DOCS,
    ("order", "timeinforce"): OLD_DOCS,
    ("order", "cancelled_at"): OLD_DOCS,
    ("order", "failured_reason"): OLD_DOCS,
    ("order", "take_profit"): "made up in a client's own test; Alpaca answers with legs",
    ("order", "stop_loss"): "made up in a client's own test; Alpaca answers with legs",
    ("position", "usd"): LOCAL_CURRENCY,
    ("position", "swap_rate"): LOCAL_CURRENCY,
    ("position", "avg_entry_swap_rate"): LOCAL_CURRENCY,
    ("position", "prev_swap_rate"): LOCAL_CURRENCY,
    ("account", "previous_close"): BROKER_API,
    ("account", "last_long_market_value"): BROKER_API,
    ("account", "last_short_market_value"): BROKER_API,
    ("account", "last_cash"): BROKER_API,
    ("account", "last_initial_margin"): BROKER_API,
    ("account", "last_regt_buying_power"): BROKER_API,
    ("account", "last_daytrading_buying_power"): BROKER_API,
    ("account", "last_buying_power"): BROKER_API,
    ("account", "last_daytrade_count"): BROKER_API,
    ("account", "clearing_broker"): BROKER_API,
    ("activity", "activity_subtype"): ANOTHER_STREAM,
    ("activity", "at"): ANOTHER_STREAM,
    ("activity", "event_id"): ANOTHER_STREAM,
    ("activity", "executed_at"): ANOTHER_STREAM,
    ("activity", "ref_id"): ANOTHER_STREAM,
    ("activity", "settle_date"): ANOTHER_STREAM,
    ("activity", "swap_fee_bps"): ANOTHER_STREAM,
    ("activity", "swap_rate"): ANOTHER_STREAM,
    ("asset", "last_close_pct_change"): OLD_REST,
    ("asset", "last_price"): OLD_REST,
    ("asset", "cusip"): "identifiers under licence; the simulated assets have none",
    ("error", "other_field"): "made up to show that clients pass unknown fields on",
}
"""(kind, key) that is never sent, and why."""

OTHER_TYPES = {
    ("order", "qty"): "numbers in SDKs' mocks; Alpaca sends text",
    ("order", "filled_qty"): "numbers in SDKs' mocks; Alpaca sends text",
    ("order", "filled_avg_price"): "numbers in SDKs' mocks; Alpaca sends text",
    ("order", "limit_price"): "numbers in SDKs' mocks; Alpaca sends text",
    ("order", "legs"): "false in a community client's own test; Alpaca sends null",
    ("account", "cash"): "numbers in a community client's own test; Alpaca sends text",
    ("account", "buying_power"): "numbers in a community client's own test; Alpaca sends text",
    ("account", "multiplier"): "a number in a community client's own test; Alpaca sends text",
    ("account", "options_approved_level"): "text in one SDK's mock; Alpaca's specification says integer",
    ("account", "options_trading_level"): "text in one SDK's mock; Alpaca's specification says integer",
}
"""(kind, key) whose fixture has another JSON type than Alpaca sends, and why."""


def fixtures(name: str) -> list[tuple[str, dict[str, Any]]]:
    """(id, object) of every payload of a kind."""
    found = []
    for line in (FIXTURES / f"{name}.jsonl").read_text().splitlines():
        record = json.loads(line)
        payload = record["payload"]
        found += [(record["id"], item) for item in (payload if isinstance(payload, list) else [payload])]
    return found


def kind_of(value: Any) -> str:
    """JSON's own types; null goes with everything."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = ((str, "string"), (int | float, "number"), (list, "array"))
    return next((name for of, name in names if isinstance(value, of)), "object")


def is_schema(item: dict[str, Any]) -> bool:
    """Some fixtures are the specification's description of the fields instead of values."""
    return any(isinstance(v, dict) and ("$ref" in v or "description" in v) for v in item.values())


def missing(kind: str, item: dict[str, Any], sent: list[dict[str, Any]]) -> list[str]:
    """What of a fixture no object that was sent has."""
    wrong = []
    for key, value in item.items():
        types = {kind_of(s[key]) for s in sent if key in s}
        if not types:
            wrong += [] if (kind, key) in EXCEPTIONS else [f"{key} is never sent"]
        elif value is not None and not is_schema(item):
            known = kind_of(value) in types or types == {"null"} or (kind, key) in OTHER_TYPES
            wrong += [] if known else [f"{key} is {kind_of(value)}, sent is {types}"]
    return wrong


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[tuple[Simulator, aiohttp.ClientSession]]:
    options = SimulatorOptions(
        symbols=("AAPL", "MSFT"),
        wait_for_subscriber=False,
        strategy=False,
        fresh=True,
        orders_per_minute=None,
    )
    simulator = Simulator(load(tidewire_home=home), options)
    await simulator.start()
    try:
        await until(lambda: all(simulator.prices.quote(s) for s in ("AAPL", "MSFT", "BTC/USD")))
        async with aiohttp.ClientSession(simulator.url, headers=KEYS) as http:
            yield simulator, http
    finally:
        await simulator.stop()


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


Sent = dict[str, list[dict[str, Any]]]


async def traded(home: Path) -> Sent:
    """Everything that the simulator sends in a short but varied life."""
    sent: Sent = {}
    async with running(home) as (simulator, http), http.ws_connect("/stream") as ws:
        await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates"]}})
        await ws.send_json({"action": "auth", "key": KEYS["APCA-API-KEY-ID"], "secret": "demo-secret"})
        await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates"]}})
        sent["control"] = [(await ws.receive()).json() for _ in range(3)]
        sent["error"] = []
        order = {"symbol": "AAPL", "side": "buy", "type": "market", "qty": "2", "time_in_force": "day"}
        limit = order | {"type": "limit", "limit_price": "1"}
        trail = order | {"type": "trailing_stop", "trail_percent": "50", "symbol": "MSFT"}
        coins = {
            "symbol": "BTC/USD",
            "notional": "50",
            "side": "buy",
            "type": "market",
            "time_in_force": "gtc",
        }
        exits = {"take_profit": {"limit_price": "9000"}, "stop_loss": {"stop_price": "0.5"}}
        legs = [
            {"symbol": f"AAPL351221C{strike:05d}000", "side": side, "ratio_qty": "1"}
            for strike, side in ((200, "buy"), (300, "sell"))
        ]
        spread = {"order_class": "mleg", "qty": "1", "type": "market", "time_in_force": "day", "legs": legs}
        bracket = limit | {"order_class": "bracket"} | exits
        sent["order"] = []
        for body in (order, limit, trail | {"symbol": "AAPL"}, coins, spread, bracket):
            async with http.post("/v2/orders", json=body) as answer:
                sent["order" if answer.status == 200 else "error"].append(await answer.json())
        book = simulator.broker.broker.accounts[1].book
        await until(lambda: len(book.open_positions()) == 4)
        for body in (order | {"side": "sell", "qty": "9"}, order | {"symbol": "INVALID"}, {}):
            async with http.post("/v2/orders", json=body) as answer:
                assert answer.status >= 400
                sent["error"].append(await answer.json())
        dividend = {
            "activity_type": "DIV",
            "activity_sub_type": "SDIV",
            "net_amount": "1.02",
            "symbol": "AAPL",
        }
        dividend |= {
            "qty": "2",
            "per_share_amount": "0.51",
            "group_id": "g",
            "cusip": "c",
            "description": "d",
        }
        async with http.post("/sim/trading/transfer", json=dividend) as answer:
            assert answer.status == 200
        execution = next(iter(book.executions))
        async with http.post("/sim/trading/bust", json={"execution_id": execution}) as answer:
            assert answer.status == 200
        reads = {
            "account": "/v2/account",
            "position": "/v2/positions",
            "order": "/v2/orders?status=all&nested=true",
            "activity": "/v2/account/activities",
            "asset": "/v2/assets",
            "clock": "/v2/clock",
            "history": "/v2/account/portfolio/history?timeframe=1Min",
        }
        for kind, path in reads.items():
            async with http.get(path) as answer:
                body = await answer.json()
                sent.setdefault(kind, []).extend(body if isinstance(body, list) else [body])
        sent["order"] += [leg for o in sent["order"] for leg in o["legs"] or ()]
        sent["update"] = []
        while len(sent["update"]) < simulator.broker.status()["updates"]:
            sent["update"].append((await ws.receive()).json())
    return sent


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return asyncio.run(traded(tmp_path_factory.mktemp("home")))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("order", "rest_order"),
        ("position", "rest_position"),
        ("account", "rest_account"),
        ("activity", "rest_activity"),
        ("error", "rest_error"),
        ("asset", "rest_asset"),
        ("clock", "rest_clock"),
        ("history", "rest_portfolio_history"),
    ],
)
def test_rest_payloads(sent: Sent, kind: str, name: str) -> None:
    wrong = {id: found for id, item in fixtures(name) if (found := missing(kind, item, sent[kind]))}
    assert not wrong


def test_trade_updates(sent: Sent) -> None:
    datas = [update["data"] for update in sent["update"]]
    orders = [data["order"] for data in datas]
    envelopes = [item for _, item in fixtures("ws_trade_update")]
    assert not [wrong for e in envelopes if (wrong := missing("envelope", e, sent["update"]))]
    for data in [e["data"] for e in envelopes] + [item for _, item in fixtures("ws_trade_update_data")]:
        assert not missing("update", data, datas)
        if data.get("order") != {"bad": "data"}:  # made to be refused by a parser
            assert not missing("order", data.get("order", {}), orders)


def test_control_messages(sent: Sent) -> None:
    for _, item in fixtures("ws_trading_control"):
        assert not missing("control", item, sent["control"])
        assert not missing("control.data", item["data"], [message["data"] for message in sent["control"]])


def test_every_exception_is_still_one(sent: Sent) -> None:
    """Else a shape that is sent by now would be excused for ever."""
    stale = [(k, key) for k, key in EXCEPTIONS if any(key in s for s in sent.get(k, ()))]
    assert stale == []
