"""The client of Alpaca's history against a small server that refuses, limits and breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web

from producers.history.client import History, keys
from producers.history.errors import HistoryError
from producers.history.pace import Pace
from tidewire import config
from tidewire.config import Settings
from tidewire.errors import ConfigError

Answer = Callable[[web.Request], web.StreamResponse]


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def history(*answers: Answer, clock: Clock | None = None) -> AsyncIterator[History]:
    """A client whose requests get these answers one after the other."""
    left = list(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        return left.pop(0)(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    chosen = config.load(_env_file=None, tidewire_data_url=url, tidewire_trading_url=url)
    clock = clock or Clock()
    pace = Pace(6_000, clock=clock, wall=clock, sleep=clock.sleep)
    try:
        async with ClientSession() as session:
            yield History(chosen, session, pace, sleep=clock.sleep)
    finally:
        await runner.cleanup()


def body(value: Any, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return lambda _: web.json_response(value, status=status, headers=named)


def page(*ids: int, token: str | None = None) -> Answer:
    rows = [{"i": i, "x": "V", "p": 1, "s": 1, "c": [], "z": "C", "t": "2024-01-02T15:00:00Z"} for i in ids]
    return body({"trades": {"A": rows}, "next_page_token": token})


async def ids(client: History) -> list[int]:
    return [m["i"] async for page in client.pages("stocks", "trades", ["A"], 0, 10**18) for m in page]


async def test_all_pages_are_read() -> None:
    """The rows behind the first 10,000 are as missing as those before."""
    asked: list[str | None] = []

    def noting(answer: Answer) -> Answer:
        def reply(request: web.Request) -> web.StreamResponse:
            asked.append(request.query.get("page_token"))
            return answer(request)

        return reply

    async with history(noting(page(1, 2, token="x")), noting(page(3))) as client:
        assert await ids(client) == [1, 2, 3]
    assert asked == [None, "x"]


async def test_what_passes_is_asked_again() -> None:
    """A restart of Alpaca's server in the middle of a backfill must not cost the gap."""
    clock = Clock()
    answers = (body({}, 500), body({"message": "slow"}, 429, Retry_After="7"), page(1))
    async with history(*answers, clock=clock) as client:
        assert await ids(client) == [1]
    assert any(seconds >= 7 for seconds in clock.slept)


async def test_the_limit_is_waited_for_before_it_is_broken() -> None:
    """Others use the same keys: when nothing remains, the next request waits for the reset."""
    clock = Clock()
    first = body(
        {"trades": {}, "next_page_token": "x"}, X_RateLimit_Remaining="0", X_RateLimit_Reset="1030",
        X_RateLimit_Limit="200",
    )  # fmt: skip
    async with history(first, page(1), clock=clock) as client:
        assert await ids(client) == [1]
        assert client.pace.per_minute == 200
    assert 1030 <= clock.now < 1032


async def test_the_share_of_the_limit_is_kept() -> None:
    """Ten workers on one pair of keys must not send ten times the limit."""
    clock = Clock()
    pace = Pace(200, share=0.1, clock=clock, wall=clock, sleep=clock.sleep)
    for _ in range(41):
        await pace.take()
    assert 115 <= clock.now - 1_000 <= 125


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (body({"message": "forbidden."}, 403), "refused"),
        (body({"message": "not found"}, 404), "refused"),
        (body({"code": 42210000, "message": "recent SIP data"}, 403), "too_recent"),
    ],
)
async def test_what_does_not_pass_is_told_at_once(answer: Answer, kind: str) -> None:
    """A gap that can never be fetched must be named, not tried for ever; a recent one only waits."""
    async with history(answer) as client:
        with pytest.raises(HistoryError) as caught:
            await ids(client)
    assert caught.value.kind == kind
    assert caught.value.again_ns == (10**18 + 900 * 10**9 if kind == "too_recent" else None)


async def test_an_endless_failure_ends() -> None:
    """Somebody waits for the answer."""
    async with history(*[body({}, 503)] * 5) as client:
        with pytest.raises(HistoryError) as caught:
            await ids(client)
    assert caught.value.kind == "failed"
    assert caught.value.status == 503


async def test_an_answer_that_echoes_the_keys_is_redacted() -> None:
    """Errors end in logs and on topics."""
    async with history(lambda r: web.json_response({"message": str(dict(r.headers))}, status=400)) as client:
        with pytest.raises(HistoryError) as caught:
            await ids(client)
    assert "demo-key" not in str(caught.value)
    assert "demo-secret" not in str(caught.value)


async def test_clock_and_calendar_are_read_in_new_york_time() -> None:
    """The watchdog keeps quiet at night by these."""
    from datetime import date

    clock = {"timestamp": "2024-11-29T12:00:00-05:00", "is_open": True,
             "next_open": "2024-12-02T09:30:00-05:00", "next_close": "2024-11-29T13:00:00-05:00"}  # fmt: skip
    day = {"date": "2024-11-29", "open": "09:30", "close": "13:00", "session_open": "0400",
           "session_close": "2000"}  # fmt: skip
    async with history(body(clock), body([day])) as client:
        now = await client.clock()
        (session,) = await client.calendar(date(2024, 11, 29), date(2024, 11, 29))
    assert now.is_open
    assert session.closes == now.next_close
    assert session.closes - session.opens == 3.5 * 3600 * 10**9


def test_real_keys_never_leave_unencrypted() -> None:
    """A mistyped address must not show them to a network."""

    def chosen(**parts: str) -> Settings:
        return config.load(_env_file=None, apca_api_key_id="A" * 20, apca_api_secret_key="B" * 40, **parts)

    with pytest.raises(ConfigError, match="unencrypted"):
        keys(chosen(tidewire_data_url="http://data.example.com"))
    with pytest.raises(ConfigError, match="unencrypted"):
        keys(chosen(tidewire_trading_url="http://data.example.com"))
    assert keys(chosen())[0] == "A" * 20
