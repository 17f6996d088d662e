"""A flame graph of the part of a side that is measured: the side has a sampling profiler look at itself."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PICTURE = "BENCHMARKS_PICTURE"
"""Where the picture goes; unset, nobody looks."""
_RATE = 250
_SET_PTRACER, _ANYBODY = 0x59616D61, -1  # of Linux's prctl: else a child may not look at its parent


@contextmanager
def pictured() -> Iterator[None]:
    """Draw what this process does meanwhile, if it was asked to."""
    picture = os.environ.get(PICTURE)
    if not picture:
        yield
        return
    profiler = _look(picture)
    try:
        yield
    finally:
        profiler.send_signal(signal.SIGINT)  # it draws then
        profiler.wait(60)


def _look(picture: str) -> subprocess.Popen[str]:
    """A profiler that has begun to look."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_long(_ANYBODY), 0, 0, 0)
    command = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
    flags = ("--rate", str(_RATE), "--function", "--threads", "--duration", "unlimited")
    shape = ("--format", "flamegraph", "--output", picture)
    profiler = subprocess.Popen(
        [command, "record", "--pid", str(os.getpid()), *flags, *shape],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert profiler.stdout is not None
    told = profiler.stdout.readline()
    while "Sampling process" not in told:
        if not told:
            raise RuntimeError(f"py-spy ended with {profiler.wait()} before it had looked")
        told = profiler.stdout.readline()
    return profiler
