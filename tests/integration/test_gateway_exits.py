"""Exit rules by REST. Lost otherwise: other people's exits, seen or changed, and with them their money."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from schemas import cluster
from schemas.catalogue import EXIT_RULES, EXIT_WATCH
from schemas.exit_rules import parameters, parse, rule_key, watch_key
from tests.integration.gateway_world import World, serving, world
from tests.integration.test_portfolio_service import read_all
from tests.integration.topic_content import decoded
from tidewire.config import Settings
from tidewire.placing import partition_of

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

STOP = {"kind": "stop_loss", "percent": 5}


@pytest.fixture
async def place(settings: Settings) -> AsyncIterator[World]:
    async with world(settings) as made:
        await cluster.apply(made.settings, only=[EXIT_RULES, EXIT_WATCH])
        yield made


class Client:
    """A user's program."""

    def __init__(self, http: aiohttp.ClientSession, url: str, cookie: str | None) -> None:
        self._http, self._url = http, url + "/api/exits"
        self._headers = {} if cookie is None else {"Cookie": cookie}

    async def ask(self, method: str, **more: Any) -> tuple[int, dict[str, Any]]:
        headers = self._headers | more.pop("headers", {})
        async with self._http.request(method, self._url, headers=headers, **more) as answer:
            return answer.status, await answer.json()

    async def set(self, **body: Any) -> tuple[int, dict[str, Any]]:
        return await self.ask("POST", json=body)

    async def rules(self) -> list[tuple[str, str, str]]:
        status, body = await self.ask("GET")
        assert status == 200, body
        return [(e["account"], e["symbol"], e["rule"]) for e in body["exits"]]

    async def until(self, wanted: Callable[[list[tuple[str, str, str]]], bool]) -> None:
        deadline = time.monotonic() + 20
        while not wanted(await self.rules()):
            assert time.monotonic() < deadline, await self.rules()
            await asyncio.sleep(0.05)


async def a_watch(place: World, account: str, symbol: str, rule: str, active: bool = True) -> None:
    spec = parse({"kind": "trailing_stop", "trail_percent": 3})
    watch = {
        "symbol": symbol, "account": account, "position_symbol": symbol, "rule": rule, "kind": spec.kind,
        "quantity": Decimal(10), "entry_price": Decimal(200), "trail_percent": Decimal(3), "active": active,
        "parameters": parameters(spec, 1, 0, "policy"), "position_epoch": 1,
    }  # fmt: skip
    await place.send(EXIT_WATCH, "exit_watch", watch_key(watch).decode(), watch)


async def test_nobody_sees_or_changes_the_exits_of_others(place: World) -> None:
    """Each user's rules stay theirs, whatever is asked; pages of other origins and guests get nowhere."""
    async with serving(place) as gateway, aiohttp.ClientSession() as http:
        url = str(gateway.url)
        anna, ben = Client(http, url, place.cookie("anna")), Client(http, url, place.cookie("ben"))
        carl, guest = Client(http, url, place.cookie("carl")), Client(http, url, None)
        await ready(anna)

        assert (await anna.set(symbol="aapl", spec=STOP))[0] == 201
        assert (await ben.set(account="two", symbol="AAPL", spec=STOP, rule="mine"))[0] == 201
        assert (await carl.set(account="four", symbol="BTC/USD", spec=STOP))[0] == 201
        await a_watch(place, "one", "TSLA", "default")
        await anna.until(lambda r: r == [("one", "AAPL", "stop_loss"), ("one", "TSLA", "default")])
        await ben.until(lambda r: r == [("two", "AAPL", "mine")])
        await carl.until(lambda r: r == [("four", "BTC/USD", "stop_loss")])

        written = len(await decoded(place.settings, EXIT_RULES))
        for stranger in (ben, carl):
            for body in ({"account": "one"}, {"account": "One"}, {"account": "nobody"}):
                assert (await stranger.set(**body, symbol="AAPL", spec=STOP))[0] == 404
            wanted = {"account": "one", "symbol": "AAPL", "rule": "stop_loss"}
            assert (await stranger.ask("DELETE", params=wanted))[0] == 404
        assert (await carl.set(symbol="AAPL", spec=STOP))[0] == 404, "which of the two accounts?"
        for method in ("GET", "POST", "DELETE"):
            assert (await guest.ask(method))[0] == 401
        evil = {"Origin": "https://evil.example"}
        assert (await anna.ask("POST", json={"symbol": "X", "spec": STOP}, headers=evil))[0] == 403
        gone = {"symbol": "AAPL", "rule": "stop_loss"}
        assert (await anna.ask("DELETE", params=gone, headers=evil))[0] == 403
        form = {"Content-Type": "text/plain"}
        assert (await anna.ask("POST", data='{"symbol": "X"}', headers=form))[0] == 400
        assert len(await decoded(place.settings, EXIT_RULES)) == written, "nothing of that was written"


async def test_rules_are_set_with_every_mistake_at_once_and_removed(place: World) -> None:
    """A user would try mistakes one by one, or believe in a rule that stands in the wrong partition."""
    async with serving(place) as gateway, aiohttp.ClientSession() as http:
        anna = Client(http, str(gateway.url), place.cookie("anna"))
        await ready(anna)
        status, told = await anna.set(
            symbol=" ", rule="NO", spec={"kind": "stop_loss", "trail_price": 1}, x=1
        )
        assert status == 400
        for mistake in ("unknown key x", "trail_price does not belong", "needs price or percent"):
            assert mistake in told["error"]
        assert (await anna.set(symbol="A B", rule="NO", spec=STOP))[1]["error"].count(";") == 1
        status, told = await anna.set(
            symbol="brk.b", rule="floor", spec={"kind": "stop_loss", "price": "400.10"}
        )
        assert (status, told["spec"]) == (201, {"kind": "stop_loss", "price": "400.1"})
        await a_watch(place, "one", "TSLA", "default")
        await anna.until(lambda r: r == [("one", "BRK.B", "floor"), ("one", "TSLA", "default")])
        (rule,) = await decoded(place.settings, EXIT_RULES)
        assert (rule["set_by"], rule["symbol"], rule["active"]) == ("api:anna", "BRK.B", True)
        await at_home(place, rule)
        for symbol, name in (("brk.b", "floor"), ("TSLA", "default")):
            assert (await anna.ask("DELETE", params={"symbol": symbol, "rule": name}))[0] == 200
        assert (await anna.ask("DELETE", params={"symbol": "TSLA", "rule": "other"}))[0] == 404
        await a_watch(place, "one", "TSLA", "default", active=False)
        await anna.until(lambda r: r == [])
        removed = [r for r in await decoded(place.settings, EXIT_RULES) if not r["active"]]
        assert {(r["symbol"], r["rule"]) for r in removed} == {("BRK.B", "floor"), ("TSLA", "default")}


async def ready(client: Client) -> None:
    deadline = time.monotonic() + 20
    while (await client.ask("GET"))[0] == 503:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def at_home(place: World, rule: dict[str, Any]) -> None:
    """The rule stands in the partition of its account."""
    partitions = place.settings.tidewire_partitions or 0
    home = partition_of(rule["account"].encode(), partitions)
    (record,) = await read_all(place.settings, EXIT_RULES, list(range(partitions)))
    assert (record.partition, record.key) == (home, rule_key(rule["account"], rule["symbol"], rule["rule"]))
