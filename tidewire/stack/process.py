"""One server process: started in a session of its own, found again by later commands, stopped for sure.

A pid file alone proves nothing: the number may belong to another program by now. A process counts as ours
only if its command line names our program and our folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tidewire.errors import StackError

_POLL_SECONDS = 0.05
_TAIL_BYTES = 200_000
_NO_SPACE = ("No space left on device", "Disk quota exceeded")

# Children of this process: a dead one must be asked for, or it stays as a zombie that looks alive to others.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group ids that a server runs as."""

    name: str
    uid: int
    gid: int


def _identity(account: Account | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


class ServerProcess(ABC):
    """A server with a folder. Subclasses say how to prepare, run and ask it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log_file = self._output_file = folder / "server.log"
        self._pid_file = folder / "server.pid"

    # -- what a subclass says

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients reach it; never with a password."""

    @property
    @abstractmethod
    def program(self) -> str:
        """File name of the executable."""

    @property
    @abstractmethod
    def marker(self) -> str:
        """The argument of the command line that only this server has."""

    @abstractmethod
    def start(self) -> None:
        """Start it and return when it answers clients; does nothing when it runs.

        Raises:
            StackError: it did not come up, with the reason as far as its log tells.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stop it cleanly and wait until it is gone; does nothing when it does not run."""

    # -- what all have

    @property
    def pid(self) -> int | None:
        """The process id of the running server."""
        recorded = self._recorded()
        pid = recorded.get("pid")
        return pid if isinstance(pid, int) and self._is_ours(pid) else None

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.pid is not None

    def died(self) -> bool:
        """Whether it was started and is gone without having been stopped."""
        return bool(self._recorded()) and not self.alive()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; for tests of what is left then."""
        self._end(signal.SIGKILL, 10)

    def reason(self) -> str:
        """Why it died, as far as its log since the last start tells; empty when it does not."""
        text = self._log_tail()
        if any(words in text for words in _NO_SPACE):
            return f"the disk of {self.folder} is full"
        lines = [line for line in text.splitlines() if any(w in line for w in ("FATAL", "PANIC", "ERROR"))]
        return lines[-1].strip()[:300] if lines else ""

    def _recorded(self) -> dict[str, Any]:
        try:
            recorded = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return {}
        return recorded if isinstance(recorded, dict) else {}

    def _is_ours(self, pid: int) -> bool:
        child = _children.get(pid)
        if child is not None and self.marker in child.args:  # type: ignore[operator]
            # Of a child the kernel knows for sure; its command line is empty for a moment when it starts.
            if child.poll() is None:
                return True
            _children.pop(pid, None)
        try:
            command = psutil.Process(pid).cmdline()
        except psutil.Error:
            return False
        return bool(command) and Path(command[0]).name == self.program and self.marker in command

    def _spawn(self, command: Sequence[str], account: Account | None = None, **environment: str) -> None:
        """Run the server; nothing of our own environment (PGPORT, JAVA_TOOL_OPTIONS) reaches it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._put_old_logs_aside()
        with self._output_file.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.defpath, "LANG": "C", **environment},
                start_new_session=True,  # Ctrl-C in the terminal is for the one who stops us in order
                **_identity(account),
            )
        _children[process.pid] = process
        self._pid_file.write_text(json.dumps({"pid": process.pid}))

    def _end(self, number: signal.Signals, seconds: float) -> bool:
        """Send a signal and wait; True when the process is gone."""
        pid = self.pid
        if pid is None:
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while self._is_ours(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _forget(self) -> None:
        self._pid_file.unlink(missing_ok=True)

    def _failed(self, what: str) -> StackError:
        reason = self.reason()
        return StackError(f"{self.name} {what}{': ' + reason if reason else ''}. Its log: {self.log_file}")

    def _log_tail(self) -> str:
        return "".join(_tail(path) for path in dict.fromkeys((self._output_file, self.log_file)))

    def _put_old_logs_aside(self) -> None:
        # Each start begins new files, so that what they say is about this start; one older set is kept.
        for path in (self._output_file, self.log_file):
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, path.with_name(f"{path.name}.old"))


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def run_once(
    command: Sequence[str], account: Account | None = None, *, what: str, **environment: str
) -> None:
    """Run a short command of a server (format, initdb) to its end.

    Raises:
        StackError: it failed, with the end of what it wrote.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={"PATH": os.defpath, "LANG": "C", **environment},
        check=False,
        **_identity(account),
    )
    if done.returncode:
        text = done.stdout.decode(errors="replace")
        full = next((words for words in _NO_SPACE if words in text), None)
        raise StackError(f"{what} failed: {full or text.strip()[-600:]}")
