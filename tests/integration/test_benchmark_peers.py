"""Kafka Streams and our columns fold the same trades to the same state.

If these fail, the benchmarks compare programs that do different things, and their ratios mean nothing.
Stock Faust is left to the benchmark: at a start it may leave a partition unread without end.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.peers import java, naive, state, streams
from benchmarks.peers.trades import trades
from benchmarks.process import side
from benchmarks.servers import Servers
from schemas import cluster
from schemas.catalogue import STOCK_TRADES

pytestmark = pytest.mark.kafka

COUNT, SYMBOLS = 4_000, 37


@pytest.fixture
def servers(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Servers:
    found = Servers(kafka_bootstrap, "", topic_prefix, tmp_path)
    asyncio.run(cluster.apply(found.settings(), [STOCK_TRADES]))
    return found


def reference() -> state.State:
    """One trade after the other, in Python's own integers."""
    held: state.State = {}
    for trade in trades(COUNT, SYMBOLS):
        held[trade["symbol"]] = naive.add(held.get(trade["symbol"]), trade)
    return held


def test_every_side_comes_to_the_same_accumulators(servers: Servers) -> None:
    """Otherwise "four times as fast" could be "a quarter of the work"."""
    side("benchmarks.peers.trades:publish", {"count": COUNT, "symbols": SYMBOLS}, servers.env())
    expected = reference()
    assert state.folded(expected) == COUNT

    side("benchmarks.accumulators:run", {"count": COUNT}, servers.env())
    assert state.difference(state.of_ours(servers), expected) is None

    try:
        answer = streams.run(servers, COUNT // 2)
    except java.PeerMissingError as missing:
        pytest.skip(str(missing))
    assert state.difference(state.of_streams(servers), expected) is None
    assert [answer[half]["records"] for half in ("first", "second")] == [COUNT // 2 - 1, COUNT // 2]
    assert answer["second"]["cpu"] > 0
    assert answer["heap"] > 0
