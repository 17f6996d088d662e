"""Halts, price bands and imbalances cannot be asked for again: each must reach the log the first time."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.intake import Intake
from schemas import event_id
from schemas.codec import load_codec
from tests.unit.producer_memory import Memory, counted, remembered
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))
RECEIVED, TS = 1_763_740_801_000_000_000, 1_763_740_800_123_456_789
STATUS = {
    "T": "s",
    "S": "AAPL",
    "sc": "H",
    "sm": "Trading Halt",
    "rc": "T12",
    "rm": "Halted",
    "t": TS,
    "z": "C",
}
LULD = {"T": "l", "S": "IONM", "u": 3.24, "d": 2.65, "i": "B", "t": TS, "z": "C"}
IMBALANCE = {"T": "i", "S": "INAQU", "p": 9.12, "z": "C", "t": TS}
FIELDS = {
    "s": {
        "status_code": "sc",
        "status_message": "sm",
        "reason_code": "rc",
        "reason_message": "rm",
        "tape": "z",
    },
    "l": {"limit_up_price": "u", "limit_down_price": "d", "indicator": "i", "tape": "z"},
    "i": {"price": "p", "tape": "z"},
}
IDS = {
    "s": event_id.status_id("AAPL", TS, "H", "T12"),
    "l": event_id.luld_id("IONM", TS, 3.24, 2.65, "B"),
    "i": event_id.imbalance_id("INAQU", TS, 9.12, 0),
}


def _encoder(source: str = "ws") -> Encoder:
    return Encoder(CODEC, Window(), Bars(), owner_epoch=7, source=source)


def _intake(encoder: Encoder | None = None) -> tuple[Memory, Intake]:
    memory = Memory()
    return memory, Intake("notices", encoder or _encoder(), memory, lambda topic: topic)


def _frame(*messages: Any) -> bytes:
    timed = [
        {k: msgpack.Timestamp.from_unix_nano(v) if k == "t" and type(v) is int else v for k, v in m.items()}
        for m in messages
    ]
    return bytes(msgpack.packb(timed))


@pytest.mark.parametrize("message", [STATUS, LULD, IMBALANCE], ids=lambda m: str(m["T"]))
def test_every_field_is_kept_and_unknown_ones_too(message: dict[str, Any]) -> None:
    """A halt without its reason, or a new field dropped in silence, is half a halt."""
    memory, intake = _intake()
    intake.frame(_frame({**message, "new": [1]}), RECEIVED)
    ((_, key, value, _),) = memory.records
    stem, record = CODEC.decode(value)
    assert key.decode() == record["symbol"] == message["S"]
    assert {name: record[name] for name in FIELDS[message["T"]]} == {
        name: message[field] for name, field in FIELDS[message["T"]].items()
    }
    assert (record["ts"], record["received_ts"], record["owner_epoch"]) == (TS, RECEIVED, 7)
    assert record["event_id"] == IDS[message["T"]]
    assert record["extra"] == '{"new":[1]}'
    assert stem == {"s": "stock_status", "l": "stock_luld", "i": "stock_imbalance"}[message["T"]]


def test_texts_that_say_nothing_may_be_missing_or_null_and_the_rest_must_be_right() -> None:
    """A resumption comes without a reason; a band without its prices is no band, and keeps its bytes."""
    memory, intake = _intake()
    short = {k: v for k, v in STATUS.items() if k not in ("rc", "rm", "sm", "z")}
    bad = [{**STATUS, "sc": None}, {**LULD, "u": "3"}, {**LULD, "d": float("nan")}, {**IMBALANCE, "p": None}]
    intake.frame(_frame(short, {**LULD, "i": None}, *bad, {**IMBALANCE, "T": "I"}), RECEIVED)
    records = [CODEC.decode(value)[1] for _, _, value, _ in memory.records]
    assert [records[0][name] for name in ("reason_code", "reason_message", "status_message", "tape")] == [
        ""
    ] * 4
    assert records[1]["indicator"] == ""
    assert len(records) == 2
    assert [letter.topic for letter in memory.letters] == [
        "alpaca.stocks.statuses", "alpaca.stocks.lulds", "alpaca.stocks.lulds", "alpaca.stocks.imbalances",
        "alpaca.stocks.frames",
    ]  # fmt: skip
    assert [_frame(m)[1:] for m in (*bad, {**IMBALANCE, "T": "I"})] == [x.value for x in memory.letters]


SENT = [STATUS, LULD, IMBALANCE, {**LULD, "u": 3.25}, {**STATUS, "rc": ""}]


@given(st.lists(st.sampled_from(SENT), max_size=9), st.lists(st.sampled_from(SENT[:3]), max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_repeat_is_dropped_where_there_is_an_id_and_a_restart_changes_nothing(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    """Otherwise a halt counts twice, or the second of two equal imbalances is lost."""
    memory, intake = _intake()
    duplicates = counted("duplicate", "notices")
    intake.frame(_frame(*before), RECEIVED)
    named = [m for m in before if m["T"] != "i"]
    repeats = len(named) - len({repr(m) for m in named})
    assert counted("duplicate", "notices") - duplicates == repeats
    assert len(memory.records) == len(before) - repeats
    ids = [CODEC.decode(value)[1]["event_id"] for _, _, value, _ in memory.records]
    assert len(set(ids)) == len(ids)
    restarted = _encoder()
    remembered(CODEC, restarted, memory)
    log, again = _intake(restarted)
    again.frame(_frame(*after), RECEIVED)
    count = len(memory.records)
    intake.frame(_frame(*after), RECEIVED)
    assert log.records == memory.records[count:]
