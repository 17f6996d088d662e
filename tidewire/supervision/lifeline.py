"""A child's end of the lifeline: it stops when the supervisor is gone, however that ended (kill -9 too).

The supervisor holds the writing end of a pipe that is the child's standard input and never writes to it.
When the supervisor ends, the kernel closes its end and the child reads the end of file. Nothing is polled, no
process id can be mistaken for another one's, and it is the same on Linux and macOS.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

GRACE_SECONDS = 10.0
"""How long an orphan may take for a clean end before it is killed."""


def hold(grace_seconds: float = GRACE_SECONDS) -> None:
    """From now on end this process (SIGTERM, after the grace SIGKILL) when standard input is closed."""
    thread = threading.Thread(
        target=_wait, args=(sys.stdin.fileno(), grace_seconds), name="lifeline", daemon=True
    )
    thread.start()


def _wait(descriptor: int, grace_seconds: float) -> None:
    while os.read(descriptor, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(grace_seconds)
    os.kill(os.getpid(), signal.SIGKILL)
