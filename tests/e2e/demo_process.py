"""The `tidewire` command as a user runs it: a process, its exit code, and what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tidewire.config import Settings

T = TypeVar("T")
TIDEWIRE = Path(sys.executable).with_name("tidewire")
ROOT = Path(__file__).resolve().parents[2]
MARKET_ONLY = ("--accounts", "0")
"""For a demo whose test is of market data: half the services, half the wait."""


def environment(settings: Settings | None = None, **more: str) -> dict[str, str]:
    """This process's environment without anything of tidewire's, then the settings' servers and home."""
    drop = ("TIDEWIRE_", "KAFKA_", "APCA_", "DATABASE_URL", "SCHEMA_REGISTRY_URL")
    env = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    env |= {"POLARS_MAX_THREADS": "1", "RUST_BACKTRACE": "0", "NO_COLOR": "1"}
    if settings is not None:
        assert settings.kafka_bootstrap_servers is not None
        env |= {
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "DATABASE_URL": database_url(settings),
            "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
            "TIDEWIRE_HOME": str(settings.tidewire_home),
        }
    return env | more


def database_url(settings: Settings) -> str:
    """The test's own database."""
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def start(arguments: list[str], env: Mapping[str, str], cwd: Path) -> subprocess.Popen[str]:
    """Start `tidewire ARGUMENTS`."""
    return subprocess.Popen(
        [str(TIDEWIRE), *arguments],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Ended:
    """How a process ended."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        try:
            self.out, self.err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                _, err = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                _, err = process.communicate()
            raise AssertionError(
                f"{process.args!r} did not end within {seconds} s; it said:\n{err}"
            ) from None
        self.code = process.returncode

    @property
    def json(self) -> dict[str, Any]:
        """What it printed, as one JSON object."""
        assert self.out.strip(), f"nothing on stdout, exit code {self.code}; stderr:\n{self.err}"
        body: dict[str, Any] = json.loads(self.out)
        return body

    def assert_one_message(self, code: int, *words: str) -> None:
        """It ended with this code and told the user, without a traceback, what the words name."""
        assert self.code == code, (self.code, self.err)
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, (word, self.err)


def run(arguments: list[str], env: Mapping[str, str], cwd: Path, seconds: float = 240) -> Ended:
    """Run `tidewire ARGUMENTS` to its end."""
    return Ended(start(arguments, env, cwd), seconds)


def digest(settings: Settings, *paths: Path) -> dict[str, Any]:
    """The verdict of the independent digest, in a process of its own."""
    assert settings.kafka_bootstrap_servers is not None
    command = [sys.executable, "-m", "tests.e2e.independent_digest", *map(str, paths)]
    command += ["--kafka", settings.kafka_bootstrap_servers]
    command += ["--database", database_url(settings), "--prefix", settings.tidewire_topic_prefix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT)
    assert done.returncode in (0, 1), done.stderr
    body: dict[str, Any] = json.loads(done.stdout)
    assert body["equal"] == (done.returncode == 0)
    return body


def until(condition: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """Poll until the condition gives something."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {seconds} s")
        time.sleep(0.05)


def get_json(url: str) -> Any:
    """GET, or None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def post_json(url: str, body: object) -> int:
    """POST; the HTTP status."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return int(answer.status)
