"""Every payload of the market-data sockets among the fixtures is a shape that the simulator sends too.

Whoever parses Alpaca's real messages is tested by the simulator's; a key or a type that only Alpaca sends
would meet the code for the first time at a user's. Crypto, news and REST: test_simulator_venue_shapes.py;
trading: test_broker_fixtures.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from simulator.client import shown
from simulator.session import ERRORS, Rules, Session
from simulator.synthetic import SyntheticMarket
from simulator.venue_kinds import STOCKS
from simulator.wire import Streams

FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "alpaca" / "fixtures"
START = 1_763_735_220_000_000_000  # 2025-11-21 09:27 in New York
KINDS = ("trade", "quote", "bar", "status", "luld", "correction", "cancelError")

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="Alpaca's payloads are not beside the project")

EXCEPTIONS = {
    ("q", "s"): "made up in an SDK's test; Alpaca's quotes have no such field",
}
"""(type, key) that is never sent, and why."""

OTHER_TYPES = {
    ("q", "c"): "text in a community client's own test; Alpaca's stock quotes have a list",
    ("c", "os"): "text in an SDK's test; Alpaca's specification says integer",
}
"""(type, key) whose fixture has another JSON type than Alpaca sends, and why."""

OTHER_WORDS = {
    (401, "auth failed"),
    (403, "not authenticated"),
    (401, "auth timeout"),
    (405, "symbol not found"),
    (None, "invalid credentials"),
}
"""(code, text) of errors that were made up in clients' tests; Alpaca's list has others."""


def payloads(name: str) -> Iterator[dict[str, Any]]:
    """Every message of a file of fixtures."""
    for line in (FIXTURES / f"ws_{name}.jsonl").read_text().splitlines():
        payload = json.loads(line)["payload"]
        yield from payload if isinstance(payload, list) else [payload]


def kind_of(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(type(value).__name__)
    names = ((str, "text"), (int | float, "number"), (list, "list"))
    return next((name for of, name in names if isinstance(value, of)), "object")


@pytest.fixture(scope="module")
def sent() -> dict[str, dict[str, set[str]]]:
    """Type -> key -> JSON types, of all that a synthetic stock market and its bars send."""
    market = SyntheticMarket(
        ["AAPL", "IBM"], 1, START, 20.0, 25_000, halts_per_hour=12.0, corrections_per_hour=120.0
    )
    streams, found = Streams(), dict[str, dict[str, set[str]]]()
    bars = STOCKS.bars()
    bars.start(START)
    made: list[Any] = []
    for block in market.read(streams):
        for message in block:
            while message[0] >= bars.mark:
                made += [orjson.loads(orjson.dumps(fields, default=str)) for _, fields in bars.pass_mark()]
            bars.add([message])
            made.append(shown(message))
    for message in made:
        for key, value in message.items():
            found.setdefault(message["T"], {}).setdefault(key, set()).add(kind_of(value))
    return found


@pytest.mark.parametrize("name", KINDS)
def test_messages(sent: dict[str, dict[str, set[str]]], name: str) -> None:
    """A user's first halt or correction would be a dead letter."""
    wrong = []
    messages = [m for m in payloads(name) if m["T"] != "subscription" and "/USD" not in m["S"]]
    assert messages
    for message in messages:
        kind = message["T"]
        for key, value in message.items():
            types = sent[kind].get(key)
            if types is None:
                wrong += [] if (kind, key) in EXCEPTIONS else [f"{kind}: {key} is never sent"]
            elif kind_of(value) not in types and (kind, key) not in OTHER_TYPES:
                wrong.append(f"{kind}: {key} is {kind_of(value)}, sent is {types}")
    assert not wrong


def test_all_kinds_are_sent(sent: dict[str, dict[str, set[str]]]) -> None:
    """A channel that the simulator never fills is a channel that nobody tested."""
    assert set(sent) | {"u"} == set(STOCKS.channels)  # u is b by another letter, and needs a late trade


def test_control_messages() -> None:
    """An error that reads otherwise than Alpaca's would be taken for one that nobody knows."""
    session = Session(Rules("sip", lambda key, secret: None), msgpack_frames=False)
    session.open({"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"})
    [listed] = session.receive('{"action":"subscribe","trades":["AAPL"]}')
    for message in payloads("control"):
        if message["T"] == "error":
            known = ERRORS.get(message.get("code", 0)) == message["msg"]
            assert known or (message.get("code"), message["msg"]) in OTHER_WORDS
        elif "orderbooks" not in message:
            assert {key: kind_of(listed[key]) for key in message} == {
                k: kind_of(v) for k, v in message.items()
            }


def test_every_exception_is_still_one(sent: dict[str, dict[str, set[str]]]) -> None:
    """Else a shape that is sent by now would be excused for ever."""
    assert [(kind, key) for kind, key in EXCEPTIONS if key in sent[kind]] == []
