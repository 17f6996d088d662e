"""A demo whose feeds can be spoiled: faults asked of the simulated Alpaca, and what is to be seen of them.

What is seen comes from the log and from PostgreSQL: control.connections by a reader of its own, gaps by plain
SELECTs. Nothing here waits for a time; it waits for conditions.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.chaos.demo_run import DemoRun
from tests.e2e.independent_digest import record_reader
from tidewire import config
from tidewire.config import Settings
from tidewire.stack import fill_in

FEEDS: Mapping[str, tuple[str, ...]] = {
    "stocks": ("stocks:iex",),
    "crypto": ("crypto:us",),
    "options": ("options:indicative",),
    "news": ("news",),
    "trading": ("trading:demo-1", "trading:demo-2"),
}
"""Venue -> its feeds in a demo of two accounts."""
ALL_FEEDS = tuple(feed for feeds in FEEDS.values() for feed in feeds)
_NS = 10**9
_OPEN = "SELECT feed, channels[1], id FROM gaps WHERE state <> 'closed'"
_SINCE = """
    SELECT feed, channels[1], state = 'closed',
           (extract(epoch from ts) * 1000000)::int8 * 1000 + ts_nanos - opened_ts
    FROM gaps WHERE opened_ts >= %s AND reason = ANY(%s)"""


@dataclass(frozen=True, slots=True)
class Told:
    """One change of a connection; `ts` in ns."""

    feed: str
    state: str
    ts: int


@dataclass(frozen=True, slots=True)
class Reconnect:
    """From a fault to CONNECTED again, in seconds: in all, and the part that was the backoff's."""

    feed: str
    seconds: float
    backoff: float

    @property
    def over(self) -> float:
        """What it took beyond the backoff."""
        return self.seconds - self.backoff


class Connections:
    """control.connections, read as it comes."""

    def __init__(self, bootstrap: str) -> None:
        self._read = record_reader("connection")
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "chaos-feeds",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        topic = "control.connections"
        numbers = self._consumer.list_topics(topic, timeout=20).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
        self.told: list[Told] = []
        self._state: dict[str, str] = {}

    def look(self) -> None:
        """Take what is there."""
        while messages := self._consumer.consume(500, timeout=0.05):
            for message in messages:
                if message.error():  # the broker is away: it is asked again
                    continue
                content = self._read(message.value())
                feed, state = content["feed"], content["state"]
                if self._state.get(feed) != state:
                    self._state[feed] = state
                    self.told.append(Told(feed, state, content["ts"]))

    def connected(self, feeds: Sequence[str]) -> bool:
        """Whether all of them say so now."""
        self.look()
        return all(self._state.get(feed) == "CONNECTED" for feed in feeds)

    def lost_since(self, feed: str, since_ns: int) -> int | None:
        """When the feed first said after that time that it was lost; None: not yet."""
        return next(
            (t.ts for t in self.told if t.feed == feed and t.state == "DISCONNECTED" and t.ts >= since_ns),
            None,
        )

    def reconnect(self, feed: str, since_ns: int) -> Reconnect | None:
        """How the feed came back after a loss after that time; None: it has not."""
        self.look()
        lost, waited = None, 0
        for told in self.told:
            if told.feed != feed or told.ts < since_ns:
                continue
            if told.state == "DISCONNECTED":
                lost = told.ts
            elif lost is not None and told.state == "CONNECTING":
                waited += told.ts - lost
            elif lost is not None and told.state == "CONNECTED":
                return Reconnect(feed, (told.ts - since_ns) / _NS, waited / _NS)
        return None

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


class FeedsLine:
    """The demo with its watchers. `open()` returns once every feed is connected and events are stored."""

    def __init__(self, folder: Path, seed: int, rate: int = 150) -> None:
        self.home = folder / "home"
        arguments = ["--seed", str(seed), "--rate", str(rate), "--accounts", "2", "--strategy"]
        self.run = DemoRun(self.home, arguments, folder / "demo.log")
        self.settings: Settings = config.load(
            _env_file=None, tidewire_home=self.home, kafka_bootstrap_servers=None, database_url=None
        )
        self.connections: Connections | None = None
        self._database = ""

    def open(self) -> None:
        """Wait until the whole line works."""
        self.run.wait_for(lambda: self.run.published() > 0, "market")
        servers = fill_in(self.settings)
        assert servers.kafka_bootstrap_servers is not None
        assert servers.database_url is not None
        self._database = servers.database_url.get_secret_value()
        self.connections = Connections(servers.kafka_bootstrap_servers)
        self.connected(ALL_FEEDS)
        for name in ("gateway", "backfiller", "auditor"):
            self.run.wait_for(lambda name=name: self.run.ready(name), name)  # type: ignore[misc]
        self.run.wait_for(lambda: self.rows("SELECT 1 FROM trades LIMIT 1") != [], "stored trades")

    def fault(self, **body: Any) -> dict[str, Any]:
        """Ask the simulator for a fault (see simulator/faults.py)."""
        request = urllib.request.Request(
            f"{self.run.simulator_url()}/sim/faults", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def skipped(self) -> list[dict[str, Any]]:
        """What was published and never sent, as the simulator lists it."""
        with urllib.request.urlopen(f"{self.run.simulator_url()}/sim/skipped", timeout=10) as response:
            found: list[dict[str, Any]] = json.load(response)
            return found

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of PostgreSQL; none while it cannot be asked."""
        return self.named_rows(query, values or None)

    def named_rows(self, query: str, values: Any) -> list[tuple[Any, ...]]:
        """The same with values by name, or by place."""
        try:
            with psycopg.connect(self._database, autocommit=True, connect_timeout=5) as connection:
                return connection.execute(query, values).fetchall()
        except psycopg.OperationalError:
            return []

    def connected(self, feeds: Sequence[str], seconds: float = 120) -> None:
        """Wait until these feeds are connected."""
        assert self.connections is not None
        watched = self.connections
        self.run.wait_for(lambda: watched.connected(feeds), f"connection of {', '.join(feeds)}", seconds)

    def lost(self, feed: str, since_ns: int, seconds: float = 60) -> float:
        """Wait until the feed says that it was lost; returns the seconds since then."""
        assert self.connections is not None
        watched = self.connections

        def seen() -> bool:
            watched.look()
            return watched.lost_since(feed, since_ns) is not None

        self.run.wait_for(seen, f"loss of {feed}", seconds)
        at = watched.lost_since(feed, since_ns)
        assert at is not None
        return (at - since_ns) / _NS

    def reconnected(self, feeds: Sequence[str], since_ns: int, seconds: float = 120) -> list[Reconnect]:
        """Wait until each of the feeds was lost after that time and is back."""
        assert self.connections is not None
        watched = self.connections
        self.run.wait_for(
            lambda: all(watched.reconnect(feed, since_ns) for feed in feeds),
            f"reconnection of {', '.join(feeds)}",
            seconds,
        )
        return [r for feed in feeds if (r := watched.reconnect(feed, since_ns)) is not None]

    def gaps_closed(self, feeds: Sequence[str], since_ns: int, reasons: Sequence[str]) -> float:
        """Wait until each feed has a gap opened since then, for one of these reasons, and none is open.

        Returns the longest time (s) from a gap's opening to its end.
        """

        def closed() -> bool:
            found = self.rows(_SINCE, since_ns, list(reasons))
            return {row[0] for row in found} >= set(feeds) and all(row[2] for row in found)

        self.run.wait_for(closed, f"end of the gaps of {', '.join(feeds)}: {reasons}", 180)
        self.none_open()
        return max((row[3] / _NS for row in self.rows(_SINCE, since_ns, list(reasons))), default=0.0)

    def none_open(self, seconds: float = 180) -> None:
        """Wait until no gap is open."""
        self._eventually(lambda: not self.rows(_OPEN) and self.rows("SELECT 1") != [], seconds)

    def _eventually(self, condition: Callable[[], bool], seconds: float) -> None:
        try:
            self.run.wait_for(condition, "end of all gaps", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; open: {self.rows(_OPEN)[:5]}") from error

    def kill(self, name: str) -> float:
        """kill -9; returns the seconds until another process was there and said that it works."""
        killed, began = self.run.kill(name), time.monotonic()
        self.run.wait_for(lambda: self.run.restarted(name, killed), f"restarted {name}")
        if name not in ("kafka", "postgres"):
            self.run.wait_for(lambda: self.run.ready(name), f"{name} that is ready")
        return time.monotonic() - began

    def close(self) -> None:
        """Leave nothing behind."""
        if self.connections is not None:
            self.connections.close()
        self.run.close()
