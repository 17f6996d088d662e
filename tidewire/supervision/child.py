"""One child process: its command, its log file, its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LOGS_KEPT = 3
LOG_BYTES = 64 * 1024 * 1024
"""A log that grows beyond this is set aside, so that a long run cannot fill the disk."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service to run. `again` is its command after the first start, where that differs.

    `after`: services whose first start goes before: this one waits until they are ready, for `after_seconds`
    at most. It is for what can come later, so that what people wait for has the processor. `niceness`, 0 to
    19, is for the same: on a busy machine a process with a greater one gives way to those with a lesser.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    again: tuple[str, ...] | None = None
    grace_seconds: float = 15.0
    after: tuple[str, ...] = ()
    after_seconds: float = 20.0
    niceness: int = 0


class Child:
    """A service's process, in a session of its own so that a Ctrl-C on the terminal reaches only us."""

    def __init__(self, service: Service, log: Path) -> None:
        self.service = service
        self.log = log
        self.http_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        set_aside(log)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self, first: bool) -> None:
        """Start the process; its standard input is the lifeline (tidewire/supervision/lifeline.py)."""
        self.http_port = free_port()
        command = self.service.command if first or self.service.again is None else self.service.again
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**self.service.environment, "TIDEWIRE_HTTP_PORT": str(self.http_port)},
                start_new_session=True,
            )
        if self.service.niceness:
            give_way(self._process.pid, self.service.niceness)

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal. Whatever it has left of its process group is killed."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._release(signal.SIGKILL)
        return code

    def ask_to_stop(self) -> None:
        """SIGTERM to the process alone: it ends its own."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the whole process group; returns when the process is gone."""
        if self._process is not None:
            process = self._process
            self._release(signal.SIGKILL)
            process.wait()
            self._process = None

    def last_words(self, lines: int = 5) -> str:
        """The end of the log: the service's own message when it has one, else the last lines."""
        text = _tail(self.log)
        mark = f"tidewire {self.service.name.split('-')[0]}: "
        if mark in text:
            return text[text.rindex(mark) + len(mark) :].strip()
        if "tidewire: " in text:
            return text[text.rindex("tidewire: ") + len("tidewire: ") :].strip()
        return "\n".join(text.strip().splitlines()[-lines:])

    def trim_log(self) -> None:
        """Set the log aside when it has grown too long; the process goes on writing to the emptied file."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
            os.truncate(self.log, 0)

    def _release(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.poll() is not None:
            self._process = None


def set_aside(log: Path, kept: int = LOGS_KEPT) -> None:
    """Rename `x.log` to `x.log.1`, `x.log.1` to `x.log.2`...; the oldest goes."""
    if not log.exists():
        return
    for number in range(kept - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def give_way(pid: int, niceness: int) -> None:
    """Lower a process's priority, where the system lets us.

    Linux weighs a session as a whole where autogrouping is on (sched(7)), and each child has one of its own.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def _tail(log: Path, size: int = 16_384) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - size))
        return file.read().decode("utf-8", "replace")
