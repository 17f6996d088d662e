"""One `tidewire demo` in a home of its own, whose processes can be killed while it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tidewire.stack import LocalStack

SERVERS = ("kafka", "postgres")
TIDEWIRE = Path(sys.executable).with_name("tidewire")


def environment(home: Path) -> dict[str, str]:
    """This process's environment, but with a home of its own and no servers or keys named."""
    drop = ("TIDEWIRE_", "KAFKA_", "APCA_", "DATABASE_URL", "SCHEMA_REGISTRY_URL")
    keep = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    return keep | {"TIDEWIRE_HOME": str(home), "POLARS_MAX_THREADS": "1"}


class DemoRun:
    """Starts `tidewire demo ARGUMENTS --json` on its own local stack; `finish()` gives the report."""

    def __init__(self, home: Path, arguments: Sequence[str], log: Path) -> None:
        self.home = home
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [str(TIDEWIRE), "demo", *arguments, "--json"],
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=home.parent,
        )

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
        """Poll until the condition holds; a demo that ends first, or a late one, is a failure."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None:
                raise AssertionError(f"the demo ended while waiting for {what}; see {self._log.name}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} within {seconds} s; see {self._log.name}")
            time.sleep(0.05)

    def published(self) -> int:
        """Messages that the simulator has published so far; 0 before it runs."""
        status = self.simulator_status()
        return sum(status["published"].values()) if status else 0

    def simulator_url(self) -> str:
        """Where the simulated Alpaca is."""
        services = json.loads((self.home / "run" / "services.json").read_text())
        return str(services["simulator"]["status"]).removesuffix("/sim/status")

    def ready(self, name: str) -> bool:
        """Whether a service says that it does its work."""
        try:
            services = json.loads((self.home / "run" / "services.json").read_text())["services"]
            with urllib.request.urlopen(f"{services[name]['http']}/readyz", timeout=2):
                return True
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def simulator_status(self) -> dict[str, Any] | None:
        """The simulator's own account of the tape, or None while it cannot be asked."""
        try:
            services = json.loads((self.home / "run" / "services.json").read_text())
            url = services["simulator"]["status"]
            with urllib.request.urlopen(url, timeout=2) as response:
                status: dict[str, Any] = json.load(response)
                return status
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def pid(self, name: str) -> int | None:
        """Process id of a service (producer, gateway, ...) or server (kafka, postgres)."""
        try:
            if name in SERVERS:
                return self._server_pid(name)
            services = json.loads((self.home / "run" / "services.json").read_text())["services"]
            return int(services[name]["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _server_pid(self, name: str) -> int | None:
        return next((server.pid for server in LocalStack(self.home).servers if server.name == name), None)

    def kill(self, name: str) -> int:
        """kill -9 now; returns the process id that was killed."""
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)
        return pid

    def restarted(self, name: str, killed: int) -> bool:
        """Whether another process has taken the killed one's place."""
        pid = self.pid(name)
        return pid is not None and pid != killed and psutil.pid_exists(pid)

    def interrupt(self) -> None:
        """As Ctrl-C: the market closes, what is under way arrives, and the report is made."""
        self._process.send_signal(signal.SIGINT)

    def finish(self, seconds: float = 300) -> tuple[int, dict[str, Any]]:
        """Wait for the end; returns the exit code and the JSON report."""
        out, _ = self._process.communicate(timeout=seconds)
        self._log.close()
        try:
            return self._process.returncode, json.loads(out)
        except ValueError:
            tail = Path(self._log.name).read_text(errors="replace")[-3000:]
            raise AssertionError(f"no JSON report (exit {self._process.returncode}):\n{tail}") from None

    def close(self) -> None:
        """End the demo if it still runs, and check that it left no process behind."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def left_running(self) -> list[str]:
        """Command lines of processes that still belong to this home."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            command = " ".join(process.info["cmdline"] or ())
            environ = process.info["environ"] or {}
            if str(self.home) in command or environ.get("TIDEWIRE_HOME") == str(self.home):
                found.append(command[:200])
        return found + [server.name for server in LocalStack(self.home).servers if server.pid is not None]
