"""A worker that stops while its group rebalances: if this fails, it may die of it before it has committed."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection

from processors.columns.app import ColumnApp, StillOurs
from processors.worker import Plan, Worker
from schemas import cluster
from schemas.catalogue import STOCK_FEATURES, STOCK_TRADES
from schemas.codec import Codec
from tests.integration.service_run import running
from tidewire.columns import Block
from tidewire.config import Settings

pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def _switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)  # a worker shortens it


async def test_a_rebalance_that_comes_while_a_worker_stops_leaves_the_connections_to_their_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust closed the connections of the fetching thread from the main thread: SIGSEGV, now and then."""
    await cluster.apply(settings, only=[STOCK_TRADES, STOCK_FEATURES])
    trades, features = (settings.tidewire_topic_prefix + name for name in (STOCK_TRADES, STOCK_FEATURES))
    apps: list[ColumnApp] = []

    async def nothing(tp: Any, blocks: list[Block], still_ours: StillOurs) -> None:
        pass

    def build(app: ColumnApp, codec: Codec) -> None:
        app.batch_agent(app.batch_topic(trades), "closing", nothing)
        apps.append(app)

    opened, closed = Threads(), Threads()
    opened.watch(monkeypatch, "connect")
    closed.watch(monkeypatch, "close")
    plan = Plan("closing", "tidewire-closing", "closing", inputs=(trades,), outputs=(features,))
    async with running(Worker(settings, plan, build), "closing") as health:
        async with asyncio.timeout(60):
            while health.not_ready:
                await asyncio.sleep(0.05)
        apps[0]._on_rebalance_when_stopped()
    fetching = {number: thread for number, thread in opened.by_connection.items() if thread is not MAIN}
    assert fetching, "no thread of its own fetched"
    assert {number: closed.by_connection.get(number) for number in fetching} == fetching


MAIN = threading.main_thread()


class Threads:
    """Which thread called a method of which connection to a broker."""

    def __init__(self) -> None:
        self.by_connection: dict[int, threading.Thread] = {}
        self._kept: list[AIOKafkaConnection] = []  # so that no two have one id

    def watch(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """Note each call and let it through."""
        real = getattr(AIOKafkaConnection, name)

        def noted(connection: AIOKafkaConnection, *args: Any, **kwargs: Any) -> Any:
            self._kept.append(connection)
            self.by_connection.setdefault(id(connection), threading.current_thread())
            return real(connection, *args, **kwargs)

        monkeypatch.setattr(AIOKafkaConnection, name, noted)
