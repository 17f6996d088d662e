"""Measures a service inside its own process: from its first applied record to its last, start-up left out."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

from benchmarks.ingest import cpu_seconds
from benchmarks.pictured import pictured
from tidewire.metrics import RECORDS_APPLIED

_POLL = 0.05  # looking costs CPU time, which counts as the service's: 15% of the sink's at 5 ms
_SETTLE = 1.5
"""Seconds after the last record in which its commit and changelog are written; they count as CPU time."""
_PATIENCE = 240.0


def applied(stage: str) -> int:
    """Records that a stage of this process has applied."""
    total = 0.0
    for family in RECORDS_APPLIED.collect():
        for found in family.samples:
            if found.name.endswith("_total") and found.labels["stage"] == stage:
                total += found.value
    return int(total)


def peak_memory() -> float:
    """Bytes of memory that this process has had at most (resident)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)


class Meter(threading.Thread):
    """Watches the counter; when `count` records are applied it stops the service with SIGTERM."""

    def __init__(self, stage: str, count: int, also_cpu: Callable[[], float]) -> None:
        super().__init__(daemon=True)
        self._stage, self._count, self._also = stage, count, also_cpu
        self.answer: dict[str, float] = {}

    def run(self) -> None:
        """From the first applied record on."""
        deadline = time.monotonic() + _PATIENCE
        first = self._until(lambda n: n > 0, deadline)
        with pictured():
            cpu, wall = cpu_seconds() + self._also(), time.perf_counter()
            last = self._until(lambda n: n >= self._count, deadline)
            end = time.perf_counter()
            time.sleep(_SETTLE)
        self.answer = {"records": last - first, "wall": end - wall, "cpu": cpu_seconds() + self._also() - cpu}
        os.kill(os.getpid(), signal.SIGTERM)

    def _until(self, enough: Callable[[int], bool], deadline: float) -> int:
        while not enough(now := applied(self._stage)):
            if time.monotonic() > deadline:
                print(f"only {now:,} of {self._count:,} records were applied", file=sys.stderr, flush=True)
                os._exit(1)
            time.sleep(_POLL)
        return now


def metered(
    stage: str, count: int, main: Callable[[], int], also_cpu: Callable[[], float] = float
) -> dict[str, float]:
    """Run a service's main until it has applied `count` records; what it took, `also_cpu` included."""
    meter = Meter(stage, count, also_cpu)
    meter.start()
    code = main()
    if code or not meter.answer:
        print(f"the service ended with exit code {code}", file=sys.stderr, flush=True)
        os._exit(1)
    return meter.answer
