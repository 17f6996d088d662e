"""Services forked from a process that has imported them already: a start takes 50 ms instead of seconds.

For runs with a thousand starts. What is forked has no threads, no loop and no connection yet: from there on
it is what `tidewire service` would be, with an environment, a log and a lifeline of its own, and dies by the
same signals.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

_PRELOADED = ("tests.chaos.orders_real", "tests.chaos.orders_fast")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(_PRELOADED))


class Forked:
    """`main`: the module of the service, with its arguments; the verbs are those of subprocess.Popen."""

    def __init__(self, main: tuple[str, ...], env: Mapping[str, str], log: Path) -> None:
        end, self._lifeline = _context.Pipe(duplex=False)
        self._process = _context.Process(target=_live, args=(main, dict(env), str(log), end))
        self._process.start()
        end.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """None: it lives; negative: the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To a process that lives."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """What is held of one that has ended."""
        self._lifeline.close()


def _live(main: tuple[str, ...], env: dict[str, str], log: str, lifeline: Connection) -> None:
    os.environ.clear()
    os.environ.update(env)
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    for old, new in ((lifeline.fileno(), 0), (written, 1), (written, 2)):
        os.dup2(old, new)
    lifeline.close()
    os.close(written)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = list(main)
    sys.exit(import_module(main[0]).main())
