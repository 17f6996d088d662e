"""The executor before a broker that hangs: it takes connections and says nothing, stops in the middle of an
answer, takes an order and never says so.

If these fail, a broker that is slow to die sells twice, or holds up exits that have nothing to do with it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from schemas.event_id import intent_event_id
from schemas.order_ids import client_order_id, trigger_name
from sinks.executor import actions, broker, kill_file, kill_setup, machine, trading_http
from sinks.executor.kill import Wish
from tests.integration.executor_broker import KEYS, until, until_held
from tests.integration.executor_world import (
    ACCOUNT,
    exit_intent,
    final,
    finals,
    market,
    order_intent,
    prepared,
    rows,
    running,
    send,
    told,
)
from tidewire import accounts
from tidewire.clock import NS_PER_SECOND
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(180)]
NEVER = 3_600
ORDERS = {"method": "POST", "path": "/v2/orders"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the real patience: what is tested does not depend on it."""
    monkeypatch.setattr(trading_http, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr(broker.AlpacaBroker.__init__, "__kwdefaults__", _with(request_seconds=2.0))
    monkeypatch.setattr(machine, "SETTLE_NS", 4 * NS_PER_SECOND)
    monkeypatch.setattr(actions, "LONGEST_RETRY", 0.5)


def _with(**changed: Any) -> dict[str, Any]:
    return {**(broker.AlpacaBroker.__init__.__kwdefaults__ or {}), **changed}


async def test_an_order_whose_answer_never_comes_is_found_and_sent_once(
    settings: Settings, tmp_path: Path
) -> None:
    """Taken and never answered, answered by half, never taken and never answered, answered too late."""
    symbols = ("SILENT", "HALF", "LOST", "LATE", "FREE")
    async with market(tmp_path, *symbols) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 600")
        for symbol in symbols:
            await broker.buy(symbol, "2")
        async with running(own):
            faults = {
                "SILENT": {"kind": "answer_late", "seconds": NEVER},
                "HALF": {"kind": "answer_stalled", "seconds": NEVER},
                "LOST": {"kind": "status_http", "seconds": NEVER, "code": 504},
                "LATE": {"kind": "answer_late", "seconds": 3},
            }
            names = []
            for symbol, fault in faults.items():
                await broker.inflict(**fault, **ORDERS)
                intent = exit_intent(symbol)
                names.append(intent["intent_id"])
                before = sum((await broker.posts()).values())
                await send(own, intent)

                async def posted(before: int = before) -> bool:
                    return sum((await broker.posts()).values()) > before

                await until_held(posted)
            free = exit_intent("FREE")  # while all four of them hang
            await send(own, free)
            done = await finals(own, [free["intent_id"], *names])
            assert [each["outcome"] for each in done] == ["filled"] * 5
            for name in names:
                assert "unknown" in [each["outcome"] for each in await told(own, name)]
        assert [broker.held(symbol) for symbol in symbols] == [0] * 5
        assert sorted(order.symbol for order in broker.orders()) == sorted(symbols)
        assert rows(own, "SELECT count(*), max(attempt) FROM order_attempts") == [(5, 0)]
        assert sorted((await broker.posts()).values()) == [1, 1, 1, 1, 2]  # the lost one, under the same id


async def test_what_hangs_holds_up_nothing_else(settings: Settings, tmp_path: Path) -> None:
    """A hundred looks of one account hang: another account, the switch and the end of the service do not."""
    others = tuple(f"A{n}" for n in range(40))
    async with market(tmp_path, "AAPL", *others) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 60")
        second = _second_account(own)
        orders = {"symbol": "AAPL", "side": "buy", "type": "market", "qty": "2", "time_in_force": "day"}
        await _ask_second(broker.url, orders)
        async with running(own) as (executor, health):
            await broker.inflict(
                kind="status_http", code=504, seconds=NEVER, accounts=[1], path="/v2/", count=100_000
            )
            hanging = [order_intent(f"hang {n}", name, "buy", "1") for n, name in enumerate(others)]
            await send(own, *hanging)
            await until(lambda: executor.details()["accounts"][ACCOUNT]["working"] == len(others))  # type: ignore[index]
            began = time.monotonic()
            name = trigger_name(second, "AAPL", 0, 0)
            named: dict[str, Any] = {
                "intent_id": name, "trigger_id": name, "client_order_id": client_order_id(name, 0),
                "event_id": intent_event_id(second, name),
            }  # fmt: skip
            await send(own, exit_intent("AAPL", account=second, **named))
            assert (await final(own, name))["outcome"] == "filled"
            assert time.monotonic() - began < 40  # forty looks of 4 s, one after the other, are 160
            assert health.not_ready is None
            async with aiohttp.ClientSession() as session:
                known = accounts.load(own)
                kill = kill_setup.of_settings(own, known, session)
                kill._patience = 2.0
                report = await asyncio.wait_for(kill.turn(Wish(on=True, by="test")), 60)
            assert not report.confirmed  # the broker of the first has said nothing
            assert [each.suspended for each in report.accounts] == [None, True]
            assert kill_file.why_on(own.tidewire_home, ACCOUNT) is not None
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 40
        assert not broker.orders()
        assert not await broker.posts()


async def test_an_exit_passes_the_looks_of_orders_at_its_own_symbol(
    settings: Settings, tmp_path: Path
) -> None:
    """Quotes that never come are what a strategy waits for; the stop of the same symbol must not."""
    async with market(tmp_path) as broker:
        own = await prepared(settings, broker, tmp_path, "max_age_seconds = 45")
        await broker.buy("AAPL", "2")
        async with running(own) as (executor, _):
            # Only strategies' orders ask for the account.
            await broker.inflict(
                kind="status_http", code=504, seconds=NEVER, path="/v2/account", method="GET", count=100_000
            )
            entries = [order_intent(f"buy {n}", "AAPL", "buy", "1") for n in range(60)]
            await send(own, *entries)
            await until(lambda: executor.details()["accounts"][ACCOUNT]["working"] == 60)  # type: ignore[index]
            intent = exit_intent("AAPL")
            await send(own, intent)
            done = await final(own, intent["intent_id"], 20)
            assert (done["outcome"], done["filled_quantity"]) == ("filled", 2)
        assert [order.symbol for order in broker.orders()] == ["AAPL"]


def _second_account(settings: Settings) -> str:
    """Another account at the same simulator."""
    key, secret = KEYS.split()
    folder = settings.tidewire_accounts_file.parent
    keys = folder / "two.keys"
    keys.write_text(f"{key}-2\n{secret}-2\n")
    keys.chmod(0o600)
    with settings.tidewire_accounts_file.open("a") as file:
        file.write('\n[accounts.two]\nkey_file = "two.keys"\n[accounts.two.risk]\nmax_age_seconds = 45\n')
    return "two"


async def _ask_second(url: str, order: dict[str, str]) -> None:
    key, secret = KEYS.split()
    headers = {"APCA-API-KEY-ID": f"{key}-2", "APCA-API-SECRET-KEY": f"{secret}-2"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{url}/v2/orders", json=order) as answer:
            placed = await answer.json()
        while placed["status"] != "filled":
            async with session.get(f"{url}/v2/orders/{placed['id']}") as answer:
                placed = await answer.json()
