"""One service in a process of its own: killed, stopped, woken, and asked how it is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from sinks.executor import failpoints
from tests.chaos.demo_run import TIDEWIRE
from tests.chaos.orders_nursery import Forked
from tidewire.config import Settings

ROOT = Path(__file__).parents[2]
REAL = ("tests.chaos.orders_real",)
"""Modules with a main(), and its arguments."""
FAST = ("tests.chaos.orders_fast",)
_PORT = re.compile(r"\bhttp_port=(\d+)")
FENCED, CLAIMED = "another executor has the account", "account claimed"


class Process:
    """It ends with the process that started it. `failpoint` as in sinks/executor/failpoints.py; `forked`:
    from one that has imported everything, instead of started by a command."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        main: tuple[str, ...] = REAL,
        failpoint: str = "",
        *,
        forked: bool = False,
    ) -> None:
        self.name = f"process {number}"
        self.failpoint = failpoint
        self._log = settings.tidewire_home / f"process-{number}.log"
        env = environment(settings) | {"TIDEWIRE_HTTP_PORT": "0"}
        if failpoint:
            env[failpoints.VARIABLE] = failpoint
        self._log.write_bytes(b"")
        self.process = Forked(main, env, self._log) if forked else _started(main, env, self._log)

    def health(self) -> dict[str, Any]:
        """What it says at /health; empty: nothing."""
        port = _PORT.search(self._log.read_text(errors="replace"))
        if port is None:
            return {}
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/health", timeout=2) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))
        except OSError:
            return {}

    def ready(self) -> bool:
        """Whether it says that all is well."""
        return self.health().get("status") == "healthy"

    def ended(self) -> bool:
        """Whether it is gone."""
        if self.process.poll() is None:
            return False
        if isinstance(self.process, Forked):
            self.process.close()
        elif self.process.stdin is not None:
            self.process.stdin.close()
        return True

    def stopped(self) -> bool:
        """Whether it was stopped with SIGSTOP."""
        try:
            return bool(psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False

    def overdue(self) -> bool:
        """Whether the kernel has ended it: an order would have left after its deadline (last_look.py)."""
        return self.ended() and self.process.returncode == -signal.SIGALRM

    def log(self, characters: int = 2_000) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-characters:]

    def turns(self) -> int:
        """How often it has claimed an account, or learnt that another has one of its own."""
        text = self._log.read_text(errors="replace")
        return text.count(FENCED) + text.count(CLAIMED)

    def wake(self) -> None:
        """SIGCONT."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """kill -9."""
        if not self.ended():
            self.process.kill()
            self.process.wait(30)
        assert self.ended()

    def stop(self) -> int:
        """SIGTERM; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        assert self.ended()
        return code


def _started(main: tuple[str, ...], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [str(TIDEWIRE), "service", "executor", "--lifeline"]
    if main != REAL:
        command = [sys.executable, "-m", *main]
    with log.open("ab") as file:
        return subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=file, stderr=file)


def environment(settings: Settings) -> dict[str, str]:
    """That of any process of the run: its servers, its home, and none of the user's own settings."""
    drop = ("TIDEWIRE_", "KAFKA_", "APCA_", "DATABASE_URL", "SCHEMA_REGISTRY_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    assert settings.database_url is not None
    return kept | {
        "KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
        "TIDEWIRE_PARTITIONS": str(settings.tidewire_partitions),
        "TIDEWIRE_HOME": str(settings.tidewire_home),
        "TIDEWIRE_ACCOUNTS_FILE": str(settings.tidewire_accounts_file),
        "TIDEWIRE_TRADING_URL": str(settings.tidewire_trading_url),
        "TIDEWIRE_DATA_URL": str(settings.tidewire_data_url),
        "TIDEWIRE_MARKET_HOURS": "always",
        "POLARS_MAX_THREADS": "1",
    }
