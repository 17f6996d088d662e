"""Faults as a client meets them over real sockets and REST; the truth in the ledger stays whole.

Without these the harness over the simulator would measure other misfortunes than those that it names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from simulator.app import Simulator, SimulatorOptions
from tests.ledger_files import messages
from tidewire.config import load

AUTH = {"action": "auth", "key": "demo-key", "secret": "demo-secret"}
KEYS = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}
PACKED = {"Content-Type": "application/msgpack", **KEYS}
FEEDS = {"stocks": "/v2/sip", "crypto": "/v1beta3/crypto/us", "news": "/v1beta1/news"}
ALL = {"stocks": {"trades": ["*"], "quotes": ["*"]}, "crypto": {"trades": ["*"]}, "news": {"news": ["*"]}}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer


class Market:
    """A running simulator from a client's side."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession, home: Path) -> None:
        self.simulator = simulator
        self.http = http
        self._home = home

    async def fault(self, kind: str, status: int = 200, **body: object) -> dict[str, Any]:
        async with self.http.post("/sim/faults", json={"kind": kind, **body}) as answer:
            assert answer.status == status, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def skipped(self, count: int, venue: str) -> list[dict[str, Any]]:
        """The messages that were skipped, once there are so many."""
        for _ in range(1_500):
            async with self.http.get(f"/sim/skipped?venue={venue}") as answer:
                found: list[dict[str, Any]] = await answer.json()
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"{len(found)} of {count} were skipped")

    async def rest(self, path: str) -> Any:
        async with self.http.get(path, headers=KEYS) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    @asynccontextmanager
    async def socket(self, venue: str = "stocks") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Signed in and subscribed to everything."""
        async with self.http.ws_connect(FEEDS[venue], headers=PACKED, max_msg_size=0) as ws:
            assert [(await next_of(ws))[0]["T"] for _ in range(2)] == ["success", "success"]
            await ws.send_bytes(msgpack.packb({"action": "subscribe", **ALL[venue]}))
            assert (await next_of(ws))[0]["T"] == "subscription"
            yield ws

    def ledger(self, *names: str) -> list[dict[str, Any]]:
        return list(messages(self._home.joinpath("simulator", *names) / "ledger"))


async def next_of(ws: aiohttp.ClientWebSocketResponse) -> Any:
    message = await ws.receive(30)
    return msgpack.unpackb(message.data) if message.type == aiohttp.WSMsgType.BINARY else message.type.name


async def gather(ws: aiohttp.ClientWebSocketResponse, enough: Callable[[list[Any]], bool]) -> list[Any]:
    got: list[Any] = []
    while not enough(got):
        got += await next_of(ws)
    return got


@asynccontextmanager
async def market(home: Path, **options: Any) -> AsyncIterator[Market]:
    defaults: dict[str, Any] = {
        "symbols": ("AAPL", "MSFT"), "messages_per_second": 2_000.0, "crypto_messages_per_second": 500.0,
        "news_seconds": 0.02, "strategy": False, "orders_per_minute": None, "fresh": True,
    }  # fmt: skip
    simulator = Simulator(load(tidewire_home=home), SimulatorOptions(**(defaults | options)))
    await simulator.start()
    try:
        async with aiohttp.ClientSession(simulator.url) as http:
            yield Market(simulator, http, home)
    finally:
        await simulator.stop()


def key(message: dict[str, Any]) -> Any:
    """What tells the messages of these tests apart."""
    if "id" in message:  # a revision has its article's id
        return message["id"], message["updated_at"].to_unix_nano()
    return message["T"], message["S"], message.get("i"), message["t"].to_unix_nano()


@pytest.mark.parametrize(
    ("venue", "body"),
    [
        ("stocks", {"channels": ["trades"], "symbols": ["AAPL"]}),
        ("crypto", {"channels": ["trades"]}),
        ("news", {}),
    ],
)
async def test_skipped_messages_are_everywhere_but_on_the_socket(
    tmp_path: Path, venue: str, body: dict[str, Any]
) -> None:
    """What an audit must find would not be there to be found, or not be missing at all."""
    async with market(tmp_path) as m, m.socket(venue) as ws:
        got = await gather(ws, lambda seen: len(seen) > 3)
        answer = await m.fault("skip", venue=venue, count=5, every=2, **body)
        assert answer["remaining"] == 5
        skipped = await m.skipped(5, venue)
        assert len(skipped) == 5
        mark = len(m.ledger(*([] if venue == "stocks" else [venue])))
        got += await gather(ws, lambda seen: len(got) + len(seen) > mark)
        published = m.ledger(*([] if venue == "stocks" else [venue]))
        if venue == "stocks":
            page = await m.rest("/v2/stocks/trades?symbols=AAPL&start=2020-01-01&limit=10000")
            assert {e["message"]["i"] for e in skipped} <= {row["i"] for row in page["trades"]["AAPL"]}
            assert {e["message"]["S"] for e in skipped} == {"AAPL"}
        elif venue == "news":
            page = await m.rest("/v1beta1/news?limit=50&sort=asc&start=2020-01-01")
            assert {e["message"]["id"] for e in skipped} <= {a["id"] for a in page["news"]}
    received = {key(message) for message in got}
    lacking = [message for message in published[: len(got) + 5] if key(message) not in received]
    assert [e["ts"] for e in skipped] == [
        (message.get("updated_at") or message["t"]).to_unix_nano() for message in lacking
    ]


async def test_a_skipped_trade_update_is_in_the_journal_and_in_the_account(tmp_path: Path) -> None:
    """A lost fill that the account does not show either could never be found."""
    async with (
        market(tmp_path, wait_for_subscriber=False) as m,
        m.http.ws_connect("/stream") as ws,
    ):
        await ws.send_json({"action": "auth", "key": "demo-key", "secret": "demo-secret"})
        await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates"]}})
        for _ in range(2):
            await ws.receive()
        while m.simulator.prices.quote("AAPL") is None:
            await asyncio.sleep(0.02)
        answer = await m.fault("skip", venue="trading", channels=["fill"], symbols=["AAPL"], accounts=[1])
        assert answer == {"kind": "skip", "sockets": 0, "remaining": 1}
        order = {"symbol": "AAPL", "side": "buy", "type": "market", "qty": "1", "time_in_force": "day"}
        async with m.http.post("/v2/orders", json=order, headers=KEYS) as made:
            assert made.status == 200
        [entry] = await m.skipped(1, "trading")
        await m.fault("repeat", venue="trading")
        async with m.http.post("/v2/orders", json=order, headers=KEYS) as made:
            second = (await made.json())["id"]
        seen: list[dict[str, Any]] = []
        while not any(u["event"] == "fill" for u in seen):
            seen.append((await ws.receive()).json()["data"])
        activities = await m.rest("/v2/account/activities/FILL")
        journal = (tmp_path / "simulator" / "trading" / "updates.jsonl").read_text()
    assert entry["message"]["data"]["event"] == entry["channel"] == "fill"
    assert (entry["account"], entry["symbol"]) == (1, "AAPL")
    assert [u["order"]["id"] for u in seen if u["event"] == "fill"] == [second]
    assert len(seen) == len({u["event_id"] for u in seen}) + 1
    assert {a["order_id"] for a in activities} == {second, entry["message"]["data"]["order"]["id"]}
    assert entry["message"]["data"]["event_id"] in journal


async def test_data_that_is_held_back_or_shuffled_all_arrives(tmp_path: Path) -> None:
    """A slow feed would be a lossy one."""
    async with market(tmp_path) as m, m.socket() as ws:
        await m.fault("reorder", frames=20, window=6)
        await m.fault("delay", seconds=0.3)
        mark = len(m.ledger()) + 500
        got = await gather(ws, lambda seen: len(seen) > mark)
        published = m.ledger()
    sent = [key(message) for message in got]
    assert sorted(sent) == sorted(key(message) for message in published[: len(sent)])
    assert sent != sorted(sent, key=lambda k: k[3])


async def test_a_huge_frame_is_followed_by_the_others(tmp_path: Path) -> None:
    """The reconnect loop of a client with a size limit could not be provoked."""
    async with market(tmp_path) as m, m.socket() as ws:
        await m.fault("huge", size=1_500_000)
        got = await gather(ws, lambda seen: any(len(x.get("padding", "")) == 1_500_000 for x in seen))
        got += await gather(ws, lambda seen: len(seen) > 100)
        published = m.ledger()
    real = [message for message in got if "padding" not in message]
    assert real == published[: len(real)]


async def test_handshakes_are_refused_reset_and_held(tmp_path: Path) -> None:
    """How a producer waits out 429, an outage and 406 could not be seen."""
    async with market(tmp_path) as m:
        await m.fault("refuse_http", count=1, retry_after=7)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await m.http.ws_connect("/v2/sip")
        assert refused.value.headers is not None
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "7")
        async with m.socket() as ws:
            assert (await m.fault("outage", seconds=0.4))["sockets"] == 1
            while not isinstance(await next_of(ws), str):
                pass
        with pytest.raises(aiohttp.ClientError):
            await m.http.ws_connect("/v2/sip")
        await asyncio.sleep(0.4)
        await m.fault("hold", seconds=3600)
        async with m.http.ws_connect("/v2/sip") as ws:
            await ws.receive()
            await ws.send_json(AUTH)
            assert (await ws.receive_json())[0]["code"] == 406
        await m.fault("hold", seconds=0)
        async with m.socket():
            pass
        await m.fault("hold", 400, venue="trading")
        await m.fault("refuse_http", venue="trading", code=503)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await m.http.ws_connect("/stream")
        async with m.http.ws_connect("/stream"):
            pass


async def test_symbols_are_refused_until_that_is_lifted(tmp_path: Path) -> None:
    """Whether the rest stays subscribed when one symbol is refused could not be tested."""
    async with market(tmp_path) as m, m.http.ws_connect("/v2/sip", headers=KEYS) as ws:
        for _ in range(2):
            await ws.receive()

        async def subscribe(*symbols: str) -> dict[str, Any]:
            await ws.send_json({"action": "subscribe", "bars": list(symbols)})
            reply: dict[str, Any] = (await ws.receive_json())[0]
            return reply

        await m.fault("refuse_symbols", symbols=["BAD", "WORSE"], code=405)
        assert (await subscribe("AAPL"))["bars"] == ["AAPL"]
        assert (await subscribe("MSFT", "BAD"))["code"] == 405
        assert (await subscribe("MSFT"))["bars"] == ["AAPL", "MSFT"]
        await m.fault("refuse_symbols", symbols=[])
        assert (await subscribe("BAD"))["bars"] == ["AAPL", "BAD", "MSFT"]


async def test_rest_fails_as_often_as_asked(tmp_path: Path) -> None:
    """A backfill that gives up at the first 503 would look sound."""
    async with market(tmp_path) as m, m.socket() as ws:
        await next_of(ws)
        await m.fault("status_http", code=429, count=2, retry_after=1, path="/v2/stocks/trades")
        await m.fault("status_http", code=500, venue="trading")
        codes, waits = [], []
        for path in ("quotes", "trades", "trades", "trades"):
            async with m.http.get(f"/v2/stocks/{path}?symbols=AAPL", headers=KEYS) as answer:
                codes.append(answer.status)
                waits.append(answer.headers.get("Retry-After"))
                assert answer.headers["X-RateLimit-Limit"] == "10000"
        assert (codes, waits) == ([200, 429, 429, 200], [None, "1", "1", None])
        for expected in (500, 200):
            async with m.http.get("/v2/account", headers=KEYS) as answer:
                assert answer.status == expected
