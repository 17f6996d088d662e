"""What is sent when, and what it adds up to. Lost otherwise: the last price, or an old one instead."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.gateway.batching import QUICK_NS, WINDOW_NS, Batcher
from sinks.gateway.changes import Change, Executed
from sinks.gateway.client import CONFLATE_ABOVE
from sinks.gateway.holdings import Held, Key
from sinks.gateway.portfolio import Portfolios
from sinks.gateway.requests import Request
from sinks.gateway.sessions import Session
from sinks.gateway.watcher import Watcher

MS = 1_000_000
WAITS = st.sampled_from([0, 1, 10, 24, 25, 30, 300, 975, 999, 1000, 1001, 2500])  # ms: about the limits
STEPS = st.lists(st.tuples(WAITS, st.sampled_from("abc"), st.booleans()), min_size=5, max_size=40)


@settings(max_examples=60)
@given(STEPS)
def test_every_change_is_sent_in_time_and_batches_are_a_second_apart(
    steps: list[tuple[int, str, bool]],
) -> None:
    """A client would wait for a change that never comes, or drown in messages."""
    batcher, now = Batcher[str](), 0
    changed: dict[str, tuple[int, bool]] = {}  # since when a key waits, and whether a fill changed it
    sent: dict[str, int] = {}
    batches: list[int] = []

    def send(keys: list[str], at: int) -> None:
        for key in keys:
            since, urgent = changed.pop(key)
            assert at - since <= (QUICK_NS if urgent else WINDOW_NS), "late"
            sent[key] = at

    def advance(to: int) -> None:
        while (due := batcher.next_due) is not None and due <= to:
            single, batch = batcher.due(due)
            assert single or batch, "woken for nothing"
            assert all(changed[key][1] for key in single), "only fills go one by one"
            send(single, due)
            send(batch, due)
            if batch:
                batches.append(due)

    for wait, key, urgent in steps:
        now += wait * MS
        advance(now)
        quiet = now - sent.get(key, -WINDOW_NS) >= WINDOW_NS
        waiting, was_urgent = changed.get(key, (now, False))
        changed[key] = (now if urgent and not was_urgent else waiting, urgent or was_urgent)
        at_once = batcher.offer(key, urgent, now)
        assert at_once or not quiet, "a first change after a quiet second goes at once"
        if at_once:
            del changed[key]
            sent[key] = now
    advance(now + 2 * WINDOW_NS)
    assert not changed, "the last change of a key was lost"
    assert all(b - a >= WINDOW_NS for a, b in pairwise(batches))


class Wire:
    """A transport whose client reads when it is told to."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.queued = 0

    def write(self, data: bytes) -> None:
        self.messages += [orjson.loads(payload) for payload in payloads(data)]

    def get_write_buffer_size(self) -> int:
        return self.queued

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        raise AssertionError("closed")

    def abort(self) -> None:
        raise AssertionError("given up")


def payloads(data: bytes) -> list[bytes]:
    """The payloads of joined, unmasked text frames."""
    found = []
    while data:
        size, head = data[1], 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        found.append(data[head : head + size])
        data = data[head + size :]
    return found


@dataclass
class Folded:
    """What a client knows: the version of each object; it must never go back."""

    versions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    fills: list[str] = field(default_factory=list)

    def take(self, message: dict[str, Any]) -> None:
        kind, data = message["type"], message["data"]
        if kind == "batch":
            for name in ("positions", "orders"):
                for item in data.get(name, []):
                    self._put(name, item)
        elif kind in ("position_update", "order_update"):
            self._put(kind.replace("_update", "s"), data)
        elif kind == "trade_executed":
            self.fills.append(data["executionId"])

    def _put(self, name: str, item: dict[str, Any]) -> None:
        key = (item.get("account", ""), name, item["symbol"])
        assert self.versions.get(key, 0) <= item["version"], "an older state after a newer one"
        self.versions[key] = item["version"]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sampled_from(["one", "two"]), st.sampled_from("AB"), st.booleans()),
        st.tuples(st.just("order"), st.sampled_from(["one", "two"]), st.sampled_from("AB")),
        st.tuples(st.just("fill"), st.sampled_from(["one", "two"])),
        st.tuples(st.just("wait"), WAITS),
        st.tuples(st.just("join"), st.sampled_from(["anna", "ben", "both"])),
        st.tuples(st.just("slow"), st.integers(0, 5), st.booleans()),
    ),
    min_size=15,
    max_size=40,
)
SEES = {"anna": ("one",), "ben": ("two",), "both": ("one", "two")}


@settings(max_examples=50)
@given(ACTIONS)
def test_snapshot_and_updates_add_up_to_the_state(actions: list[tuple[Any, ...]]) -> None:
    """A client would show something else than what the log says; or somebody else's."""
    asyncio.run(_play(actions))


async def _play(actions: list[tuple[Any, ...]]) -> None:
    now = [10**18]
    portfolios = Portfolios(lambda: now[0])
    clients: list[tuple[Watcher, Wire, list[str]]] = []
    actions = [("join", "both"), ("join", "anna"), *actions]
    truth, fills = dict[tuple[str, str, str], int](), dict[str, list[str]]()
    for version, action in enumerate(actions, 1):
        if action[0] in ("change", "order"):
            channel = "positions" if action[0] == "change" else "orders"
            account, symbol, traded = action[1], action[2], action[-1] is True
            payload = {"symbol": symbol, "version": version, "quantity": "1", "status": "new"}
            held = Held(payload, symbol, now[0], now[0], (version if traded else 0,))
            truth[account, channel, symbol] = version
            key = Key("positions" if action[0] == "change" else "orders", symbol)
            await portfolios.take([Change(account, key, held)])
        elif action[0] == "fill":
            fills.setdefault(action[1], []).append(str(version))
            await portfolios.take([Executed(action[1], "A", {"executionId": str(version)}, now[0])])
        elif action[0] == "wait":
            now[0] += action[1] * MS
            await _tick(portfolios)
        elif action[0] == "join":
            wire = Wire()
            session = Session(b"", action[1], 0, 0)
            watcher = Watcher(session, wire, 0.0, SEES[action[1]])
            clients.append((watcher, wire, [f for a in SEES[action[1]] for f in fills.get(a, [])]))
            portfolios.join(watcher)
        elif clients:
            clients[action[1] % len(clients)][1].queued = CONFLATE_ABOVE + 1 if action[2] else 0
    for _, wire, _ in clients:
        wire.queued = 0
    for _ in range(3):
        now[0] += 1000 * MS
        await _tick(portfolios)
    for watcher, wire, before in clients:
        folded = Folded()
        for message in wire.messages:
            assert message["userId"] == watcher.user
            folded.take(message)
        own = {
            k if watcher.labelled else ("", *k[1:]): v for k, v in truth.items() if k[0] in watcher.accounts
        }
        assert folded.versions == own
        missed = [f for a in watcher.accounts for f in fills.get(a, []) if f not in before]
        assert sorted(folded.fills) == sorted(missed)
        assert watcher.labelled or folded.fills == missed, "fills of an account out of order"


async def _tick(portfolios: Portfolios) -> None:
    task = asyncio.ensure_future(portfolios.run())
    portfolios._wake.set()
    for _ in range(4):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})


def test_subscribing_sends_only_what_is_wanted() -> None:
    """A client that asked for one symbol would get all."""

    async def play() -> None:
        portfolios, wire = Portfolios(time.time_ns), Wire()
        watcher = Watcher(Session(b"", "anna", 0, 0), wire, 0.0, ("one",))
        portfolios.join(watcher)
        watcher.wanted = watcher.wanted.after(Request("subscribe", ("positions",), frozenset({"A"})))
        changes = [
            Change("one", Key("positions", s), Held({"symbol": s, "quantity": "1"}, s, 0, 0)) for s in "ABA"
        ]
        await portfolios.take([*changes, Executed("one", "A", {"executionId": "1"}, 0)])
        assert [m["data"] for m in wire.messages[1:]] == [{"positions": [{"symbol": "A", "quantity": "1"}]}]

    asyncio.run(play())


def test_marks_that_come_together_go_as_one_message() -> None:
    """Forty positions would else be forty messages a second (REQ-5); a fill's goes alone, first."""

    async def play() -> None:
        now = 10**18
        portfolios, wire = Portfolios(lambda: now), Wire()
        portfolios.join(Watcher(Session(b"", "anna", 0, 0), wire, 0.0, ("one",)))
        for traded in (1, 1, 2):
            held = [Held({"symbol": s}, s, 0, 0, (traded if s == "C" else 1,)) for s in "ABC"]
            changes = [Change("one", Key("positions", each.symbol), each) for each in held]
            await portfolios.take(changes)
            now += WINDOW_NS
        assert [m["type"] for m in wire.messages[1:]] == ["batch", "batch", "position_update", "batch"]
        told = [m["data"] for m in wire.messages[3:]]
        assert told == [{"symbol": "C"}, {"positions": [{"symbol": "A"}, {"symbol": "B"}]}]

    asyncio.run(play())
