"""A demo while it runs: to the end of its tape, through the line, into the report."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from console.commands.rate import Rate
from console.commands.runs.drain import Drain
from console.commands.runs.interrupts import Interrupted
from console.commands.runs.rejected import keep_rejected
from console.commands.runs.session import Run
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


@dataclass(frozen=True, slots=True)
class Finished:
    """A demo's result: the report, and what of the input was not played."""

    report: Report
    skipped_files: tuple[str, ...] = ()
    rejected_lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The report with the input's skipped files and rejected lines."""
        return {
            **self.report.as_json(),
            "skipped_files": list(self.skipped_files),
            "rejected_lines": list(self.rejected_lines),
        }

    def lines(self) -> list[str]:
        """The same for people."""
        skipped = [f"skipped {text}" for text in self.skipped_files]
        return skipped + [f"rejected {text}" for text in self.rejected_lines]


async def play(run: Run, plan: Plan, settings: Settings, url: str) -> Finished | None:
    """Play the plan to its end; None when a signal came before there was anything to report.

    Raises:
        ServiceFailedError: a service ended for good.
        UnreachableError: Kafka or PostgreSQL did not answer when the report was made.
    """
    drain = Drain()
    try:
        async with run.screen("tidewire demo", "recorded ticks" if plan.ticks else "synthetic market"):
            await _to_the_end(run, plan, drain)
        seen = run.observer.look()
        rejected = await run.until(keep_rejected(settings, url)) if plan.ticks else []
        with run.steps.step("completeness report"):
            rate = _rate(drain, sum(seen.simulator.published.values()) if seen.simulator is not None else 0)
            found = await run.until(in_thread(lambda: report.build(settings, messages_per_second=rate)))
    except Interrupted:
        return None
    skipped = seen.simulator.skipped_files if seen.simulator is not None else ()
    return Finished(found, skipped, tuple(rejected))


async def _to_the_end(run: Run, plan: Plan, drain: Drain) -> None:
    if plan.ticks:
        await run.until(_drained(run, drain))
        return
    try:
        await run.until(_market(run, plan, drain))
    except Interrupted:
        if drain.stored_at is None:
            raise
    drain.end_of_tape()
    run.hint = "market closed, what is under way arrives ..."
    await run.until(run.supervisor.stop_service("simulator"))
    await run.until(_drained(run, drain))


async def _market(run: Run, plan: Plan, drain: Drain) -> None:
    """Watch the synthetic market for its duration, counted from its first event."""
    while True:
        seen = run.observer.look()
        drain.judge(seen)
        began = drain.started_at
        if plan.duration is not None and began is not None and seen.at >= began + plan.duration:
            return
        await asyncio.sleep(_LOOK_SECONDS)


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
