"""How still the machine itself stood during a measurement: what no program on it can be blamed for.

A virtual machine may be given no processor for a while. A task that only sleeps shows for how long at the
worst, and the kernel counts what was stolen in all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from tidewire.endings import end

_STEP = 0.005


@asynccontextmanager
async def watched() -> AsyncIterator[dict[str, float]]:
    """Figures, there when the body has ended: the longest stop (ms), and the share that was stolen (%)."""
    found: dict[str, float] = {}
    longest = [0.0]
    before = psutil.cpu_times()
    watching = asyncio.create_task(_watch(longest))
    try:
        yield found
    finally:
        await end(watching)
        after = psutil.cpu_times()
        passed = sum(after) - sum(before)
        stolen = getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)
        found["longest_stop"] = longest[0] * 1000
        found["stolen_percent"] = 100 * stolen / passed if passed else 0.0


async def _watch(longest: list[float]) -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(_STEP)
        longest[0] = max(longest[0], time.monotonic() - began - _STEP)
