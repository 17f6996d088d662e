"""Kafka Streams with the ten accumulators, in a Java process of its own that measures itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers import java
from benchmarks.results import Sample
from benchmarks.servers import Servers
from schemas.catalogue import STOCK_TRADES

SOURCE = Path(__file__).with_name("StreamsFold.java")
APP = "tidewire-processor-streams"
TABLE = "accumulators"
_OPTIONS = ("-Xms512m", "-Xmx512m", "-XX:+UseParallelGC")
"""The collector that took the least CPU time, of Serial, Parallel and G1."""


def run(servers: Servers, half: int) -> dict[str, Any]:
    """Fold `2 * half` trades; `first` and `second` half with records, wall and cpu, and bytes of `heap`.

    Raises:
        PeerMissingError: no JDK, or Kafka Streams cannot be had.
        PeerFailedError: it did not compile, or ended with an error.
    """
    program = java.compiled(SOURCE, servers.home / "bench")
    app = servers.prefix + APP
    state = servers.home / "bench" / "streams-state"
    said = java.run(
        program, servers.kafka, servers.prefix + STOCK_TRADES, app, str(state), str(half), options=_OPTIONS
    )
    answer: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return answer


def sample(half: Mapping[str, float]) -> Sample:
    """One half of `run`'s answer."""
    return Sample(int(half["records"]), float(half["wall"]), float(half["cpu"]))
