"""Movers: a stock that runs must be on the tape while it runs, and an ordinary one must not cost room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.history.errors import HistoryError
from producers.subscriber.movers import Standing, is_mover, usual_volume
from producers.subscriber.rising import Rising

DAY = 86_400 * 10**9


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10**9), st.lists(st.integers(0, 10**8)))
def test_a_mover_passes_both_bounds_exactly(cents: int, before: int, volume: int, days: list[int]) -> None:
    """30% and 5 times, computed in whole numbers beside it: a rounded gain would let 29.99% in."""
    last = days[-20:]
    expected = bool(sum(last)) and 10 * cents > 13 * before and volume * len(last) > 5 * sum(last)
    standing = Standing(Decimal(cents) / 100, Decimal(before) / 100, volume)
    assert is_mover(standing, usual_volume(days)) == expected


class Server:
    """History as REST would tell it."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.day = 100 * DAY
        self.price = {"RUN": 14.0, "SLOW": 12.0, "NEW": 99.0}
        self.fails = False

    async def snapshots(self, symbols: Sequence[str]) -> dict[str, dict[str, Any]]:
        if self.fails:
            raise HistoryError(500, "down")
        bar = {"c": 10.0, "v": 600, "t": self.day}
        known = {s: {"dailyBar": bar, "prevDailyBar": {**bar, "t": self.day - DAY}} for s in symbols}
        for symbol in known:
            known[symbol]["latestTrade"] = {"p": self.price.get(symbol, 10.0)}
        return {**known, "HALTED": {}}

    async def pages(
        self, kind: str, channel: str, symbols: Sequence[str], start: int, end: int
    ) -> AsyncIterator[list[dict[str, Any]]]:
        assert (kind, channel) == ("stocks", "dailyBars")
        assert end < self.day, "today's own volume must not count as usual"
        self.asked.append(len(symbols))
        yield [{"S": s, "v": 100} for s in symbols if s != "NEW"]


async def test_a_look_finds_what_runs_and_asks_for_usual_volumes_once_a_day() -> None:
    """Asking for 20 days of every stock each minute would eat the rate limit that backfill needs."""
    server, now = Server(), [0]
    rising = Rising(server, lambda: ["RUN", "SLOW", "NEW"], lambda: now[0])  # type: ignore[arg-type]
    await rising.look()
    await rising.look()
    assert rising.found() == ["RUN"]
    assert server.asked == [3]
    server.day += DAY
    await rising.look()
    assert server.asked == [3, 3]
    server.price["RUN"] = 12.9
    await rising.look()
    assert rising.found() == []


async def test_looks_that_fail_end_nothing_at_once_and_hold_nothing_for_ever() -> None:
    """A minute without REST must not drop the tape; an hour without it must not renew what was true once."""
    server, now, turns = Server(), [0], iter([False, True])

    async def sleep(_: float) -> None:
        server.fails = next(turns, True)
        now[0] += 60 * 10**9
        if now[0] > 240 * 10**9:
            raise asyncio.CancelledError
        if server.fails and now[0] <= 120 * 10**9:
            assert rising.found() == ["RUN"]

    rising = Rising(server, lambda: ["RUN"], lambda: now[0], sleep=sleep)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await rising.run()
    assert rising.trouble == "HTTP 500: down"
    assert rising.found() == []
