"""Keeps the screen up to date, as often as is looked; without a terminal a line of text every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live

from console.screen import layout
from console.screen.channels import CHANNELS, STOCKS
from console.screen.layout import View
from console.screen.state import Observation

_UPDATE_SECONDS = 0.5
_LINE_SECONDS = 5.0
_SHARE = 0.05
"""Of a processor that drawing may take: what is shown needs the rest. A slow machine draws less often."""


@dataclass(frozen=True, slots=True)
class Words:
    """The last lines: how to end it, what the keys do, what they have done."""

    hint: str
    keys: str = ""
    said: tuple[str, ...] = ()


async def show(
    console: Console, title: str, feed: str, look: Callable[[], Observation], words: Callable[[], Words]
) -> None:
    """Show what `look` sees until cancelled; the terminal is then as it was before."""
    began = time.monotonic()
    if not console.is_terminal:
        await _lines(console, look)
        return
    with Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live:
        while True:
            began_drawing = time.thread_time()
            said = words()
            view = View(title, feed, time.monotonic() - began, said.hint, said.keys, said.said)
            size = console.size
            live.update(layout.screen(view, look(), size.height, size.width), refresh=True)
            spent = time.thread_time() - began_drawing
            await asyncio.sleep(max(_UPDATE_SECONDS, spent / _SHARE))


async def _lines(console: Console, look: Callable[[], Observation]) -> None:
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        console.print(line(look()), markup=False, highlight=False, soft_wrap=True)


def line(seen: Observation) -> str:
    """One observation as one line of plain text."""
    counts = []
    for channel in CHANNELS:
        if channel not in STOCKS and not seen.topic(channel):
            continue
        folded = seen.folded(channel)
        published = seen.simulator.published.get(channel, 0) if seen.simulator is not None else None
        parts = [] if published is None else [f"published {published:,}"]
        parts.append(f"topic {seen.topic(channel):,}")
        parts += [] if folded is None else [f"folded {folded:,}"]
        counts.append(f"{channel}: {', '.join(parts)}, stored {seen.in_postgres(channel):,}")
    troubled = [
        f"{p.name}: {layout.trouble(p)}" for p in seen.processes if p.phase != "running" or not p.ready
    ]
    if (told := seen.completeness) is not None and (told.open or told.closed):
        lost = sum(told.lost.values())
        counts.append(f"gaps: {len(told.open)} open, {told.repaired} closed, {lost} unrecoverable")
    return " | ".join([f"{sum(seen.rates.values()):,.0f}/s", *counts, *troubled])
