"""Runs the tape: waits for the first subscription, keeps the pace, publishes, delivers, flushes the end."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Literal

from simulator.hub import Hub
from simulator.market import Market
from simulator.options import Rate
from simulator.pace import Meter, RealPace, SteadyPace
from simulator.wire import Message

State = Literal["waiting", "running", "finished"]

SLICE = 1_000
"""Messages published at once at most: bounds what a kill can tear and how long the loop is busy."""
TICK = 0.005
LONGEST_SLEEP = 1.0
_arrival = itemgetter(0)


class Driver:
    """One run of the tape. `blocks` is called once somebody has subscribed."""

    def __init__(
        self, market: Market, hub: Hub, blocks: Callable[[], Iterator[list[Message]]], rate: Rate
    ) -> None:
        self._market = market
        self._hub = hub
        self._blocks = blocks
        self._rate = rate
        self.state: State = "waiting"
        self._started: float | None = None
        self._ended: float | None = None
        self._steady: SteadyPace | None = None
        self._real: RealPace | None = None
        self._meter = Meter(time.monotonic())

    @property
    def elapsed(self) -> float:
        """Seconds since the first subscription, until the end of the tape."""
        if self._started is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._started

    async def run(self) -> None:
        """From the first subscription to the end of the tape, all flushed."""
        await self._hub.subscribed.wait()
        self._started = time.monotonic()
        self.state = "running"
        for block in self._blocks():
            begin = 0
            while begin < len(block):
                count = await self._allowed(block, begin)
                self._pass(block[begin : begin + count])
                begin += count
            await asyncio.sleep(0)
        self._hub.deliver(self._market.finish())
        await self._hub.drained()
        self._ended = time.monotonic()
        self.state = "finished"

    def already_finished(self) -> None:
        """A restart after the end of the tape."""
        self.state = "finished"
        self._started = self._ended = time.monotonic()

    def _pass(self, batch: list[Message]) -> None:
        frames = self._market.publish(batch)
        self._hub.deliver(frames)
        published = sum(len(frame.messages) for frame in frames)
        if self._steady is not None:
            self._steady.took(published)
        if self._rate == "max" and self._hub.interest.live:
            self._meter.count(published, time.monotonic())

    async def _allowed(self, block: list[Message], begin: int) -> int:
        """Wait until messages may go; returns how many."""
        if self._rate == "real":
            return await self._until_due(block, begin)
        if self._rate == "max":
            return await self._as_fast_as_read()
        if self._steady is None:
            self._steady = SteadyPace(float(self._rate), time.monotonic())
        return await self._steadily(self._steady)

    async def _as_fast_as_read(self) -> int:
        if self._hub.interest.live:
            if self._steady is not None:
                self._steady = None
                self._meter.restart(time.monotonic())
            await asyncio.sleep(0)
            await self._hub.room()
            return SLICE
        if self._steady is None:
            self._steady = SteadyPace(self._meter.rate, time.monotonic())
        return await self._steadily(self._steady)

    async def _steadily(self, pace: SteadyPace) -> int:
        while True:
            await asyncio.sleep(0)
            now = time.monotonic()
            if allowed := pace.allowance(now):
                return min(SLICE, allowed)
            await asyncio.sleep(min(LONGEST_SLEEP, max(TICK, pace.wait(now))))

    async def _until_due(self, block: list[Message], begin: int) -> int:
        arrival = block[begin][0]
        if self._real is None:
            self._real = RealPace(arrival, time.monotonic())
        while True:
            await asyncio.sleep(0)
            now = time.monotonic()
            wait = self._real.wait(arrival, now)
            if not wait:
                reach = self._real.reach(now)
                return min(SLICE, bisect_right(block, reach, lo=begin, key=_arrival) - begin)
            await asyncio.sleep(min(LONGEST_SLEEP, max(TICK, wait)))
