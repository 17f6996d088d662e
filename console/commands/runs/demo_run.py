"""A demo while it runs: to the end of its tape, through the line, into the report."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from console.commands.rate import Rate
from console.commands.runs import keys
from console.commands.runs.disasters import QUIT, Disasters
from console.commands.runs.drain import Drain
from console.commands.runs.interrupts import Interrupted
from console.commands.runs.kill_key import KillKey
from console.commands.runs.rejected import keep_rejected
from console.commands.runs.repairs import Repairs, unaudited
from console.commands.runs.session import Run
from console.screen.live import Words
from tidewire.config import Settings
from verify import report
from verify.report import Report

_LOOK_SECONDS = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a demo plays. Without `ticks` it is a synthetic market, for `duration` seconds or until Ctrl-C."""

    ticks: tuple[Path, ...] = ()
    rate: Rate = "real"
    seed: int = 1
    duration: float | None = None
    accounts: int = 2
    strategy: bool | None = None
    """Whether the house strategy trades account 1; None: only in a synthetic market."""
    disasters: tuple[tuple[float, str], ...] = ()
    """Keys of disasters.py by the second after the market's start at which they are pressed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A demo's result: the report, and what of the input was not played."""

    report: Report
    skipped_files: tuple[str, ...] = ()
    rejected_lines: tuple[str, ...] = ()
    still_open: tuple[str, ...] = ()
    """Gaps that were not closed in time."""

    def as_json(self) -> dict[str, Any]:
        """The report with the input's skipped files and rejected lines."""
        return {
            **self.report.as_json(),
            "skipped_files": list(self.skipped_files),
            "rejected_lines": list(self.rejected_lines),
            "still_open": list(self.still_open),
        }

    def lines(self) -> list[str]:
        """The same for people."""
        skipped = [f"skipped {text}" for text in self.skipped_files]
        rejected = [f"rejected {text}" for text in self.rejected_lines]
        return skipped + rejected + [f"still open at the end: {text}" for text in self.still_open]


async def play(
    run: Run, plan: Plan, settings: Settings, url: str, kill_kafka: Callable[[], object] | None
) -> Finished | None:
    """Play the plan to its end; None when a signal came before there was anything to report.

    `kill_kafka` (blocking) is None where Kafka is not this run's own.

    Raises:
        ServiceFailedError: a service ended for good.
        UnreachableError: Kafka or PostgreSQL did not answer when the report was made.
    """
    switch = KillKey(settings)
    disasters = Disasters(url, kill_kafka, run.interrupt, switch.turn)
    market = _Market(run, plan, disasters, switch, f"stocks:{settings.tidewire_feed}")
    try:
        with market.keys():
            async with run.screen("tidewire demo", "recorded ticks" if plan.ticks else "synthetic market"):
                try:
                    await market.to_the_end()
                finally:
                    await switch.release()
        seen = run.observer.look()
        rejected = await run.until(keep_rejected(settings, url)) if plan.ticks else []
        with run.steps.step("completeness report"):
            rate = _rate(
                market.drain, sum(seen.simulator.published.values()) if seen.simulator is not None else 0
            )
            found = await run.until(in_thread(lambda: report.build(settings, messages_per_second=rate)))
    except Interrupted:
        return None
    skipped = seen.simulator.skipped_files if seen.simulator is not None else ()
    return Finished(found, skipped, tuple(rejected), market.still_open)


class _Market:
    """The market of one demo: open, then closed once what is missing of it was found again, then drained."""

    def __init__(self, run: Run, plan: Plan, disasters: Disasters, switch: KillKey, stocks: str) -> None:
        self.drain = Drain()
        self.still_open: tuple[str, ...] = ()
        self._run, self._plan, self._disasters, self._stocks = run, plan, disasters, stocks
        self._switch = switch
        self._enough = False
        self._closing = False

    @contextmanager
    def keys(self) -> Iterator[None]:
        """Disasters by keys, where a live screen is shown on a terminal."""
        if not (self._run.has_screen and keys.is_ours()):
            yield
            return
        self._run.keys = self._words
        with keys.pressed(self._pressed):
            yield
        self._run.keys = None

    async def to_the_end(self) -> None:
        """Play it.

        Raises:
            Interrupted: a signal came before there was anything to report, or a second one.
        """
        run = self._run
        if self._plan.ticks:
            await run.until(self._with_disasters(_drained(run, self.drain)))
            await run.until(self._repaired())
            return
        try:
            await run.until(self._with_disasters(self._open()))
        except Interrupted:
            if self.drain.stored_at is None:
                raise
        await run.until(self._repaired())
        self.drain.end_of_tape()
        run.hint = "market closed, what is under way arrives ..."
        await run.until(run.supervisor.stop_service("simulator"))
        await run.until(_drained(run, self.drain))

    def _pressed(self, key: str) -> None:
        if key == QUIT and self._closing:
            self._enough = True
        elif not self._closing:
            self._disasters.press(key)

    def _words(self) -> Words:
        return Words("", "" if self._closing else self._disasters.keys, tuple(self._disasters.said))

    async def _with_disasters(self, work: Awaitable[None]) -> None:
        async def disasters() -> None:
            while self.drain.started_at is None:
                self.drain.judge(self._run.observer.look())
                await asyncio.sleep(_LOOK_SECONDS)
            await self._disasters.scheduled(self._plan.disasters)

        task = asyncio.create_task(disasters()) if self._plan.disasters else None
        try:
            await work
        finally:
            if task is not None:
                task.cancel()

    async def _open(self) -> None:
        """Watch the synthetic market for its duration, counted from its first event."""
        while True:
            seen = self._run.observer.look()
            self.drain.judge(seen)
            began = self.drain.started_at
            wanted = self._plan.duration
            if wanted is not None and began is not None and seen.at >= began + wanted:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _repaired(self) -> None:
        """Wait, while the market goes on, until every gap is closed: its history ends with the simulator."""
        self._closing = True
        await self._switch.release()  # while there is a broker that can be told
        dropped = await self._dropped()
        repairs = Repairs(frozenset(dropped))
        tracker = self._run.observer.tracker
        while True:
            seen = self._run.observer.look()
            over = repairs.judge(seen, unaudited(tracker, self._stocks, dropped))
            if over or self._enough:
                break
            self._run.hint = f"closing: {repairs.left[0]}; q does not wait"
            await asyncio.sleep(_LOOK_SECONDS)
        self.still_open = repairs.left

    async def _dropped(self) -> list[tuple[str, int]]:
        if not self._disasters.skipping:
            return []
        try:
            return await self._disasters.skipped()
        except (aiohttp.ClientError, TimeoutError):
            return []


async def _drained(run: Run, drain: Drain) -> None:
    while True:
        if drain.judge(run.observer.look()) != "running":
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _rate(drain: Drain, sent: int) -> float | None:
    if drain.started_at is None or drain.stored_at is None or drain.stored_at <= drain.started_at:
        return None
    return round(sent / (drain.stored_at - drain.started_at), 1)


async def in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function in a daemon thread, which an interrupted run can leave behind."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_: Callable[[Any], None], value: object) -> None:
        if not future.done():
            set_(value)

    def work() -> None:
        try:
            result = function()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, future.set_exception, error)
        else:
            loop.call_soon_threadsafe(settle, future.set_result, result)

    threading.Thread(target=work, daemon=True, name="report").start()
    return await future
