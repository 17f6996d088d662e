"""If these fail, a service that hangs is never started again: no exit fires, and nobody is told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

from prometheus_client import REGISTRY

from tidewire.pulse import Pulse, Watcher

HANGS = """
import asyncio, time
from tidewire.pulse import Pulse
async def main():
    Pulse(every=0.05, looks=3).start()
    await asyncio.sleep(0.2)
    time.sleep(60)
asyncio.run(main())
"""


def test_only_looks_in_a_row_without_a_turn_count() -> None:
    """A loop that is slow for a while is no loop that hangs."""
    watcher = Watcher(looks=2)
    assert [watcher.look(turns) for turns in (0, 0, 1, 1, 2, 2, 2)] == [False] * 6 + [True]


async def test_a_loop_that_turns_is_left_alone() -> None:
    """Many looks while it turns; each needs a turn since the one before."""
    told = threading.Event()
    pulse = Pulse(told.set, every=0.02, looks=20)
    pulse.start()
    await asyncio.sleep(0.5)
    pulse.stop()
    assert not told.is_set()


async def test_a_loop_that_stood_still_says_for_how_long() -> None:
    """Else an operator sees late data, and no service that could have made it late."""
    before = REGISTRY.get_sample_value("tidewire_loop_late_seconds_sum") or 0.0
    pulse = Pulse()
    pulse.start()
    await asyncio.sleep(0)
    time.sleep(0.4)
    await asyncio.sleep(0.05)
    pulse.stop()
    late = (REGISTRY.get_sample_value("tidewire_loop_late_seconds_sum") or 0.0) - before
    assert 0.25 < late < 5


def test_a_process_whose_loop_hangs_ends_and_says_where_it_stood() -> None:
    """The stack is what is needed to mend it."""
    done = subprocess.run(
        [sys.executable, "-c", HANGS],
        capture_output=True, text=True, timeout=50, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1
    assert "has not turned" in done.stdout + done.stderr
    assert "in main" in done.stderr
