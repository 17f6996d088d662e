"""Processors as processes of their own: started, asked how far they are, stopped for a moment, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tidewire.config import Settings
from tidewire.supervision.child import free_port

PARTITIONS = 4
PATIENCE = 180.0
_PATIENCE_AT_END = 15.0
_POLL = 0.05
_PROGRAM = (
    "import sys; from processors.app import main; from tidewire.config import load; sys.exit(main(load()))"
)


class StuckError(Exception):
    """A processor ended, or did not get as far as it should in time."""


@dataclass(slots=True)
class Processor:
    """One worker. `log` holds what it says."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> bytes:
        """What it answers; nothing if it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return bytes(error.read())
        except OSError:
            return b""

    def health(self) -> dict[str, Any]:
        """Its /health; empty while it does not answer."""
        return dict(json.loads(self.get("/health") or b"{}"))

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Its /health once that is as wanted.

        Raises:
            StuckError: it ended, or time is up.
        """
        deadline = time.monotonic() + PATIENCE
        while not wanted(health := self.health()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StuckError(f"{health} {self.log.read_text()[-600:]}")
            time.sleep(_POLL)
        return health

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self.process.send_signal(number)

    def end(self) -> None:
        """Wait for its end, and kill it if that takes too long."""
        try:
            self.process.wait(_PATIENCE_AT_END)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self.process.kill()
        self.process.wait()

    def cpu(self) -> float:
        """CPU seconds so far, user and system."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


def served(health: Mapping[str, Any], topic: str) -> int:
    """How many partitions of a topic a processor folds, 0 while it is not ready."""
    return len(health["partitions"].get(topic, ())) if health.get("status") == "healthy" else 0


@contextmanager
def processors(settings: Settings, count: int) -> Iterator[list[Processor]]:
    """So many workers of one group, just started and stopped at the end; more may be added to the list."""
    fleet: list[Processor] = []
    try:
        fleet.extend(start(settings) for _ in range(count))
        yield fleet
    finally:
        for one in fleet:  # politely: a member that was killed keeps its group from being deleted
            one.process.terminate()
        for one in fleet:
            one.end()


def start(settings: Settings, program: str = _PROGRAM) -> Processor:
    """One worker; the environment names its servers. `program`: what it runs, in Python."""
    port = free_port()
    log = settings.tidewire_home / f"processor-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"TIDEWIRE_HTTP_PORT": str(port)},
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
    return Processor(process, port, log)


def until_shared(fleet: Sequence[Processor], topic: str) -> None:
    """Wait until they have shared out all partitions and each follows the changelogs that it stands by for.

    Raises:
        StuckError: they do not get there.
    """

    def ready(health: dict[str, Any]) -> bool:
        behind = health.get("standby", {}).get("features", {})
        complete = len(fleet) == 1 or len(behind) == PARTITIONS - PARTITIONS // len(fleet)
        return served(health, topic) == PARTITIONS // len(fleet) and complete and not any(behind.values())

    for one in fleet:
        one.until(ready)
