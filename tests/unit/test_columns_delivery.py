"""What the consumer delivers of changelogs while it seeks its inputs.

If these fail, a standby misses rows in the middle of a changelog, and serves without them once it takes over.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from processors.columns import consumer as module
from processors.columns.consumer import ColumnConsumer
from processors.columns.precedence import Precedence

LOG, INPUT = "log", "input"


class Fetched(ColumnConsumer):
    """A consumer whose one fetch has found a block of each partition; no sockets, no threads."""

    should_stop = False
    flow_active = True

    def __init__(self) -> None:
        self._delivered, self.term = defaultdict(deque), 0
        self._epoch, self._fetching, self._seek_over = 0, asyncio.Lock(), asyncio.Event()
        self._seek_over.set()
        self._precedence, self._sought_in = Precedence(), 1
        nothing: dict[TP, Any] = {}
        self._acked = self._acked_index = nothing
        self._buffered_partitions = nothing.keys()
        self.suspend_flow = SimpleNamespace(is_set=lambda: True)
        self.scheduler = SimpleNamespace(iterate=lambda records: iter(records.items()))
        self.app = SimpleNamespace(
            consumer_generation_id=1,
            batch_topics={INPUT: 1},
            changelogs={LOG},
            monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None),
        )

    async def wait_first(self, *_: Any, **__: Any) -> None:
        """Nothing to wait for."""
        for each in _:
            each.close()

    async def _wait_next_records(self, _: float) -> Any:
        block = SimpleNamespace(start=0, last=3, count=4, timestamp_ms=0)
        return {TP(topic, number): [block] for topic in (LOG, INPUT) for number in range(3)}, None

    def highwater(self, _: TP) -> int:
        return 4


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Fetched:
    async def sought(_: Any) -> None:
        return None

    monkeypatch.setattr(module, "as_blocks", lambda found: found)
    monkeypatch.setattr(driver.Consumer, "perform_seek", sought)
    return Fetched()


async def test_a_seek_of_the_inputs_voids_no_changelog(fetched: Fetched) -> None:
    """Nobody seeks changelogs back with the inputs: what is left out of one fetch never comes again."""
    found = []
    async for tp, _ in fetched.getmany(1.0):
        found.append(tp)
        if len(found) == 1:
            await fetched.perform_seek()
            fetched._seek_over.set()
    assert found == [TP(LOG, number) for number in range(3)]


async def test_a_new_generation_voids_all_of_a_fetch(fetched: Fetched) -> None:
    """Its recovery seeks changelogs itself: what came before must not be taken for what it reads."""
    found = []
    async for tp, _ in fetched.getmany(1.0):
        found.append(tp)
        fetched.app.consumer_generation_id = 2
    assert found == [TP(LOG, 0)]


async def test_inputs_wait_for_the_seek_at_the_end_of_their_generations_recovery(fetched: Fetched) -> None:
    """Faust lets them flow before: what is folded behind a hole makes repeats of what the hole held."""
    fetched._sought_in = 0  # of the generation before
    found = [tp async for tp, _ in fetched.getmany(1.0)]
    assert found == [TP(LOG, number) for number in range(3)]
    await fetched.perform_seek()
    fetched._seek_over.set()
    found = [tp async for tp, _ in fetched.getmany(1.0)]
    assert found == [TP(topic, number) for topic in (LOG, INPUT) for number in range(3)]
