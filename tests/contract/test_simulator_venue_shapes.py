"""What the crypto and the news venue send has the keys and JSON types of Alpaca's own payloads.

Without this a producer that works against the simulator could fail at the first real message. The payloads
are collected from SDKs' tests and specifications; those that leave out keys must at least agree in the rest.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "alpaca" / "fixtures"
HEADERS = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}
BY_SYMBOL = ("trades", "quotes", "bars", "snapshots", "orderbooks")
Shape = Any
"""A JSON type by name, or the shapes of an object's values by key; lists are [the shape of all elements]."""

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="Alpaca's payloads are not beside the project")


def shape(value: object, key: str = "") -> Shape:
    if isinstance(value, dict):
        if key in BY_SYMBOL:
            return {"*": merged([shape(each) for each in value.values()])}
        return {name: shape(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [merged([shape(each) for each in value])]
    if isinstance(value, bool) or value is None:
        return str(type(value).__name__)
    return "number" if isinstance(value, int | float) else "text"


def merged(shapes: list[Shape]) -> Shape:
    """One shape of all: the keys of any of them, types in which they differ beside each other."""
    if not shapes:
        return "nothing"
    if all(isinstance(each, dict) for each in shapes):
        keys = {key for each in shapes for key in each}
        return {key: merged([each[key] for each in shapes if key in each]) for key in keys}
    return shapes[0]


def agrees(wanted: Shape, ours: Shape) -> bool:
    """Every key of `wanted` is in `ours`, with the same type."""
    if isinstance(wanted, dict):
        return isinstance(ours, dict) and all(k in ours and agrees(v, ours[k]) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(ours, list) and agrees(wanted[0], ours[0])
    return wanted in ("nothing", ours) or {wanted, ours} == {"NoneType", "text"}


def payloads(name: str) -> Iterator[tuple[str, Any]]:
    """(id, payload) of a file of fixtures, unwrapped where a specification wraps its example."""
    for line in (FIXTURES / name).read_text().splitlines():
        fixture = json.loads(line)
        payload = fixture["payload"]
        inner = (
            next(iter(payload.values()), None) if isinstance(payload, dict) and len(payload) == 1 else None
        )
        yield fixture["id"], inner["value"] if isinstance(inner, dict) and "value" in inner else payload


def of_crypto(payload: Any) -> bool:
    return '/USD"' in json.dumps(payload) and '"T"' not in json.dumps(payload)


@asynccontextmanager
async def market(home: Path) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """A made-up market's address, once every kind of message has come: those by their type letter."""
    options = SimulatorOptions(
        fresh=True, crypto_limit=400, crypto_messages_per_second=4_000.0, news_limit=12, news_seconds=0.02
    )
    simulator = Simulator(load(tidewire_home=home), options)
    await simulator.start()
    channels = {c: ["*"] for c in ("trades", "quotes", "bars", "dailyBars", "orderbooks")}
    seen: dict[str, Any] = {}
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{simulator.url}/v1beta3/crypto/us", headers=HEADERS) as coins,
            http.ws_connect(f"{simulator.url}/v1beta1/news", headers=HEADERS) as articles,
        ):
            await coins.send_json({"action": "subscribe", **channels})
            await articles.send_json({"action": "subscribe", "news": ["*"]})
            for ws, letters in ((coins, "tqbdo"), (articles, "n")):
                while not set(letters) <= set(seen):
                    for message in await ws.receive_json():
                        if message["T"] != "o" or message.get("r"):
                            seen.setdefault(message["T"], message)
            yield simulator.url, seen
    finally:
        await simulator.stop()


async def get(url: str) -> Any:
    for _ in range(500):
        async with aiohttp.ClientSession() as http, http.get(url, headers=HEADERS) as answer:
            assert answer.status == 200, await answer.text()
            body = await answer.json()
        if next(value for name, value in body.items() if name != "next_page_token"):
            return body
        await asyncio.sleep(0.02)
    raise AssertionError(f"nothing at {url}")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer


async def test_stream_messages_have_alpacas_keys_and_types(tmp_path: Path) -> None:
    """A message with another key or type is a dead letter, or a null where a number should be."""
    async with market(tmp_path) as (_, seen):
        for name in ("ws_orderbook", "ws_trade", "ws_quote", "ws_bar"):
            framed = [p if isinstance(p, list) else [p] for _, p in payloads(f"{name}.jsonl")]
            found = [message for frame in framed for message in frame if "/USD" in message.get("S", "")]
            assert found
            for payload in found:
                assert shape(seen[payload["T"]]) == shape(payload)
    assert set(seen["d"]) == set(seen["b"])
    assert list(seen["n"]) == [
        *("T", "id", "headline", "summary", "author", "created_at", "updated_at", "url", "content"),
        *("symbols", "source"),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("rest_trades", "trades"), ("rest_quotes", "quotes"), ("rest_bars", "bars")],
)
async def test_history_and_latest_have_alpacas_keys_and_types(tmp_path: Path, name: str, kind: str) -> None:
    """A backfill of crypto would fail at the real Alpaca only."""
    async with market(tmp_path) as (url, _):
        base = f"{url}/v1beta3/crypto/us"
        query = "symbols=BTC/USD,ETH/USD&timeframe=1Min&start=2024-01-01"
        past = shape(await get(f"{base}/{kind}?{query}"))
        latest = shape(await get(f"{base}/latest/{kind}?{query}"))
    found = [payload for _, payload in payloads(f"{name}.jsonl") if of_crypto(payload)]
    assert len(found) > 3
    for payload in found:
        wanted = shape(payload)
        assert agrees(wanted, past if isinstance(wanted[kind]["*"], list) else {**latest, **PAGE}), payload
    exact = [shape(p)[kind]["*"] for p in found]
    assert past[kind]["*"] in exact  # no key more than Alpaca has
    assert latest[kind]["*"] in exact


PAGE = {"next_page_token": "text"}


async def test_snapshots_books_and_news_have_alpacas_keys_and_types(tmp_path: Path) -> None:
    """The first thing that a client asks for after a reconnect would not be understood."""
    async with market(tmp_path) as (url, _):
        base = f"{url}/v1beta3/crypto/us"
        snapshots = shape(await get(f"{base}/snapshots?symbols=BTC/USD,ETH/USD"))
        books = shape(await get(f"{base}/latest/orderbooks?symbols=BTC/USD"))
        news = shape(await get(f"{url}/v1beta1/news?limit=2&include_content=true"))
    yesterday = {
        "prevDailyBar": snapshots["snapshots"]["*"]["dailyBar"]
    }  # there is none in a day's first run
    snapshots["snapshots"]["*"] |= yesterday
    pairs = [p for _, p in payloads("rest_snapshots.jsonl") if of_crypto(p) and "snapshots" in p]
    assert pairs
    for payload in pairs:
        assert shape(payload) == snapshots
    for _, payload in payloads("rest_orderbooks.jsonl"):
        assert shape(payload) == books
    for _, payload in payloads("rest_news.jsonl"):
        assert agrees(shape(payload), news), payload
    for _, payload in payloads("rest_news_article.jsonl"):
        assert shape(payload) == news["news"][0]
