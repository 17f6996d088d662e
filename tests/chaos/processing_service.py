"""One processor or sink in a process of its own, which ends with the process that started it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

from tidewire.config import Settings

ROOT = Path(__file__).parents[2]

_PROGRAM = """
import sys
from tidewire.supervision import lifeline
lifeline.hold()
from {} import main
from tidewire.config import load
sys.exit(main(load()))
"""
_MODULES = {"processor": "processors.app", "sink": "sinks.postgres.app"}
_PORT = re.compile(r"\bhttp_port=(\d+)")
_COUNTED = re.compile(r"^tidewire_records_(applied|skipped|dead_lettered)_total\{(.*)\} ([0-9.e+]+)$", re.M)


class Service:
    """One process of a service; its log is kept in the home."""

    def __init__(self, name: str, number: int, settings: Settings) -> None:
        self.name = f"{name} {number}"
        assert settings.database_url is not None
        own = {
            "KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
            "TIDEWIRE_HOME": str(settings.tidewire_home),
            "TIDEWIRE_HTTP_PORT": "0",  # one that was looked up before may be taken by then
            "POLARS_MAX_THREADS": "1",
            "RUST_BACKTRACE": "0",
        }
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("TIDEWIRE_", "APCA_"))
        }
        self._log = settings.tidewire_home / f"{name}-{number}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(_MODULES[name])],
                env=kept | own,
                cwd=ROOT,
                stdin=subprocess.PIPE,  # its lifeline: it ends when this process is gone, however
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> str | None:
        """An answer of its HTTP server; None: there is none, or not 200."""
        port = _PORT.search(self._log.read_text(errors="replace"))
        if port is None:
            return None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return None

    def ended(self) -> bool:
        """Whether the process is gone."""
        if self.process.poll() is None:
            return False
        if self.process.stdin is not None:
            self.process.stdin.close()
        return True

    def log(self, characters: int = 3_000) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-characters:]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)
        assert self.ended()

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def handled(self) -> Counter[tuple[str, str]]:
        """(topic, what) -> records, from its metrics: what it has applied, left out, given up."""
        found: Counter[tuple[str, str]] = Counter()
        for kind, text, value in _COUNTED.findall(self.get("/metrics") or ""):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
            found[labels["topic"], labels.get("reason", kind)] += int(float(value))
        return found
