"""The producer as the process that a user runs, for tests that end it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from tidewire.config import Settings

_PROGRAM = (
    "import sys; from producers.app import main; from tidewire import config; "
    "sys.exit(main(config.load(_env_file=None)))"
)


class Process:
    """A producer process with its log lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())

    async def said(self, event: str, seconds: float = 60) -> dict[str, Any]:
        """The first log line of this event."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in self.lines:
                if line.startswith("{") and json.loads(line)["event"] == event:
                    found: dict[str, Any] = json.loads(line)
                    return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"{event!r} was not logged: {''.join(self.lines)}")

    async def end(self, seconds: float) -> tuple[int, str]:
        """Wait for its end; exit code and whole log."""
        code = await asyncio.wait_for(self.process.wait(), seconds)
        await self._reader
        return code, "".join(self.lines)


async def start(settings: Settings, **variables: str) -> Process:
    """Start one with the Kafka and the topics of these settings; stocks only unless told otherwise."""
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "TIDEWIRE_TOPIC_PREFIX": settings.tidewire_topic_prefix,
        "TIDEWIRE_PARTITIONS": str(settings.tidewire_partitions or ""),
        "TIDEWIRE_NEWS_SYMBOLS": "-",
        "TIDEWIRE_LOG": "json",
        "TIDEWIRE_LOG_LEVEL": "debug",
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, env=environment, stderr=asyncio.subprocess.PIPE
    )
    return Process(process)
