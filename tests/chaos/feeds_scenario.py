"""Seeded faults over the feeds of one running demo, and what must be true after each and at the end.

After each fault that costs a connection: every feed is connected again and no gap is open. At the end: the
report is complete, and what it calls unrecoverable is exactly what an independent count finds missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.chaos import feeds_count
from tests.chaos.feeds_line import FeedsLine
from tests.chaos.feeds_session import FeedsOutcome, Session, Step, Tell


@contextmanager
def _line(folder: Path, seed: int, rate: int) -> Iterator[FeedsLine]:
    line = FeedsLine(folder, seed, rate)
    try:
        yield line
    finally:
        line.close()


def play(
    folder: Path,
    steps: Sequence[Step],
    seed: int,
    tell: Tell = lambda _: None,
    rate: int = 150,
    seconds: float = float("inf"),
) -> FeedsOutcome:
    """Run the steps one by one over one demo, then end it and count. No step begins after `seconds`."""
    began = time.monotonic()

    def tell_when(text: str) -> None:
        tell(f"{time.monotonic() - began:5.0f} s  {text}")

    with _line(folder, seed, rate) as line:
        line.open()
        tell_when("the line works")
        session = Session(line, seed, tell_when)
        for number, step in enumerate(steps):
            if time.monotonic() - began > seconds:
                tell_when(f"the time is used up: {len(steps) - number} steps are left out")
                break
            step(session)
        session.whole()
        tell_when("all is whole: the market closes")
        outcome = session.outcome
        line.run.interrupt()
        outcome.exit_code, report = line.run.finish()
        outcome.complete = report["complete"]
        outcome.problems = report["problems"]
        outcome.left_running = line.run.left_running()
    tell_when(f"the report says complete: {outcome.complete}")
    _count(folder / "home", outcome)
    tell_when(f"lost {outcome.lost}, wrongly named {len(outcome.wrongly_named)}")
    return outcome


def _count(home: Path, outcome: FeedsOutcome) -> None:
    """Hold the report against the independent count."""
    lost, outcome.lost = feeds_count.lost(home)
    unrecoverable, missing, report = feeds_count.named(home)
    outcome.wrongly_named = [f"lost and not named: {event}" for event in (lost - unrecoverable).elements()]
    outcome.wrongly_named += [f"named and stored: {event}" for event in (unrecoverable - lost).elements()]
    outcome.wrongly_named += [f"called missing: {event}" for event in missing.elements()]
    orders = feeds_count.lost_orders(home)
    outcome.lost_fills = sum(n for (_, event, _), n in orders.items() if event in ("fill", "partial_fill"))
    told = report["channels"]["order_events"]["unrecoverable"]
    if told != orders.total():
        outcome.wrongly_named.append(f"{orders.total()} order events are lost, {told} are named")
