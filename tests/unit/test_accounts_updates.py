"""The accounts producer's pure parts: whatever Alpaca sends becomes a record that is right, or a reason."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from producers.accounts import reading, recovered, snapshots, updates
from producers.accounts.memory import Memory
from schemas import trading_values as values
from schemas.codec import load_codec
from schemas.event_id import fill_id, order_event_id, plain_quantity
from schemas.fills import fills
from tidewire import config
from tidewire.errors import RecordError
from tidewire.redaction import Redactor

Json = dict[str, Any]

CODEC = load_codec(config.load(_env_file=None))
FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "alpaca" / "fixtures"
EVENTS = (
    "fill", "partial_fill", "canceled", "expired", "replaced", "rejected", "new", "done_for_day", "accepted",
    "pending_new", "stopped", "pending_cancel", "pending_replace", "calculated", "suspended", "held",
    "restated", "order_replace_rejected", "order_cancel_rejected", "trade_bust", "trade_correct",
    "something_of_2030",
)  # fmt: skip
ORDER: Json = {
    "id": "904837e3-3b76-47ec-b432-046db621571b", "client_order_id": "mine", "asset_class": "us_equity",
    "created_at": "2024-03-12T10:00:00.1-04:00", "updated_at": "2024-03-12T14:00:03Z",
    "submitted_at": "2024-03-12T10:00:00.123456789-04:00", "filled_at": None, "canceled_at": None,
    "symbol": "AAPL", "notional": None, "qty": "10", "filled_qty": "4.5", "filled_avg_price": "170.01",
    "order_class": "", "order_type": "limit", "type": "limit", "side": "buy", "time_in_force": "day",
    "limit_price": "170.5", "stop_price": None, "status": "partially_filled", "extended_hours": True,
    "legs": None, "hwm": None, "subtag": "x",
}  # fmt: skip
UPDATE: Json = {
    "event": "partial_fill", "execution_id": "e-1", "event_id": "01JJ3WE73W5PG672TC4XACXH5R",
    "timestamp": "2024-03-12T14:00:02.000000001Z", "at": "2024-03-12T14:00:02.5Z", "price": "170.02",
    "qty": "4.5", "position_qty": "-5.5", "order": ORDER, "brand_new": {"a": 1},
}  # fmt: skip
TS = 1710252002000000001
LEGGED: Json = {
    "event": "fill", "event_id": "01JJ", "at": "2025-01-21T07:32:40.70095Z",
    "timestamp": "2025-01-21T07:32:40.695569506Z", "price": "1.62", "qty": "1",
    "position_qtys": {"AAPL250321P00200000": "1", "AAPL250321C00380000": "-1"},
    "order": {
        **ORDER, "symbol": "", "asset_class": "", "side": "", "order_class": "mleg", "qty": "1",
        "filled_qty": "1",
        "legs": [
            {"id": "leg-1", "symbol": "AAPL250321P00200000", "side": "buy", "filled_qty": "3"},
            {"id": "leg-2", "symbol": "AAPL250321C00380000", "side": "sell", "filled_qty": "1"},
        ],
    },
    "legs": [
        {"execution_id": "x-1", "qty": "1", "price": "1.6", "order_id": "leg-1",
         "symbol": "AAPL250321P00200000", "timestamp": "2025-01-21T07:32:40.695564076Z"},
        {"execution_id": "x-2", "qty": "1", "price": "0.02", "order_id": "leg-2",
         "symbol": "AAPL250321C00380000", "timestamp": "2025-01-21T07:32:40.695569506Z"},
    ],
}  # fmt: skip


def _content(data: Json, **changes: Any) -> Json:
    return updates.content("one", values.parse(json.dumps({**data, **changes})))


def _encoded(content: Json) -> Json:
    stamped = {**content, "received_ts": 1, "source": "ws", "owner_epoch": 1}
    return CODEC.decode(CODEC.encode("trade_update", stamped))[1]


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_becomes_a_record_with_the_id_that_all_agree_on(event: str) -> None:
    """An event without a record would be missing from the user's history."""
    record = _encoded(_content(UPDATE, event=event))
    assert record["event"] == event
    assert record["ts"] == TS
    expected = (
        fill_id(ORDER["id"], "4.5") if event.endswith("fill") else order_event_id(ORDER["id"], event, TS)
    )
    assert record["event_id"] == expected
    assert (record["quantity"], record["price"], record["position_quantity"]) == (
        Decimal("4.5"), Decimal("170.02"), Decimal("-5.5"),
    )  # fmt: skip
    assert record["submitted_ts"] == 1710252000123456789
    assert (record["alpaca_event_id"], record["execution_id"]) == ("01JJ3WE73W5PG672TC4XACXH5R", "e-1")
    extra = json.loads(record["extra"])
    assert extra["brand_new"] == {"a": 1}
    assert extra["order"]["subtag"] == "x"
    assert extra["at"] == UPDATE["at"]


def test_a_fill_of_several_legs_is_one_record_with_each_leg() -> None:
    """The legs of a spread would not become positions."""
    record = _encoded(_content(LEGGED))
    assert record["event_id"] == order_event_id(ORDER["id"], "fill", record["ts"])
    put, call = fills(record)
    assert (put.symbol, put.side, put.quantity, put.price, put.position_quantity, put.event_id) == (
        "AAPL250321P00200000", "buy", Decimal(1), Decimal("1.6"), Decimal(1), fill_id("leg-1", "3"),
    )  # fmt: skip
    assert (call.symbol, call.side, call.position_quantity, call.ts) == (
        "AAPL250321C00380000", "sell", Decimal(-1), record["ts"],
    )  # fmt: skip


def test_busts_and_corrections_name_the_execution_that_they_change() -> None:
    """A fill that never happened would stay in the position for ever."""
    for event, kind in (("trade_bust", "bust"), ("trade_correct", "correct")):
        record = _encoded(_content(UPDATE, event=event, previous_execution_id="e-0", execution_id=None))
        (fill,) = fills(record)
        assert (fill.kind, fill.previous_execution_id) == (kind, "e-0")


def test_the_time_falls_back_to_at_and_then_to_the_orders_own() -> None:
    """Events without a timestamp, which Alpaca does send, would be lost."""
    without = {name: value for name, value in UPDATE.items() if name != "timestamp"}
    assert _content(without)["ts"] == 1710252002500000000
    assert _content({**without, "at": None})["ts"] == 1710252003000000000
    with pytest.raises(RecordError, match="timestamp, at and order"):
        _content({**without, "at": None, "order": {**ORDER, "updated_at": None}})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"qty": "0.1234567890123456789"}, "qty has more than 18 digits behind the point"),
        ({"price": "1" * 21}, "price has more than 20 digits"),
        ({"qty": "abc"}, "qty is not a number"),
        ({"qty": True}, "qty is not a number"),
        ({"qty": None}, "without quantity or price"),
        ({"timestamp": "yesterday"}, "timestamp is not a time"),
        ({"timestamp": "9999-01-01T00:00:00Z"}, "timestamp does not fit"),
        ({"order": {**ORDER, "filled_qty": None}}, "order.filled_qty is missing"),
        ({"order": {**ORDER, "side": "hold"}}, "neither buys nor sells"),
        ({"order": {**ORDER, "symbol": ""}}, "without a symbol"),
        ({"order": {"bad": "data"}}, "is missing"),
        ({"event": ""}, "event is missing"),
        ({"order": None}, "order is missing"),
    ],
)
def test_what_cannot_be_a_record_says_why(changes: Json, reason: str) -> None:
    """A number would be rounded in silence, or a wrong one would become a position."""
    with pytest.raises(RecordError, match=reason):
        _content(UPDATE, **changes)


def test_an_average_with_endless_digits_does_not_cost_the_fill() -> None:
    """A fill would be lost because of a number that follows from others."""
    long = "170.3333333333333333333333"
    content = _content(UPDATE, order={**ORDER, "filled_avg_price": long})
    assert content["average_price"] is None
    assert json.loads(content["extra"])["order"]["filled_avg_price"] == long


@hypothesis.settings(max_examples=60)
@given(st.sampled_from([UPDATE, LEGGED]), st.data())
def test_no_message_ever_raises_anything_but_a_reason(base: Json, data: st.DataObject) -> None:
    """One strange message would end the stream, and every event after it would be late."""
    message = copy.deepcopy(base)
    odd = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
        | st.just("\ud800")
        | st.sampled_from(["1e400", "-0", "٣", "2024-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    )  # fmt: skip
    for _ in range(data.draw(st.integers(1, 3))):
        where: Any = data.draw(st.sampled_from([message, message["order"], *message.get("legs", [])]))
        if isinstance(where, dict) and where:
            where[data.draw(st.sampled_from(sorted(where)))] = data.draw(odd)
        if not isinstance(message.get("order"), dict) or not isinstance(message.get("legs", []), list):
            break
    try:
        content = updates.content("one", values.parse(json.dumps(message)))
        record = _encoded(content)
    except RecordError:
        return
    assert record["event_id"] == content["event_id"]
    fills(record)


_MAKERS: tuple[Callable[[Json], object], ...] = (
    lambda p: updates.content("one", p.get("data", p)),
    lambda p: recovered.ending("one", p),
    lambda p: recovered.beginning("one", p),
    lambda p: recovered.fill("one", p, ORDER),
    lambda p: snapshots.content("one", p, [p], [p], ts=1, cursor=None, contained=[]),
)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no collected samples beside this checkout")
def test_collected_samples_become_records_or_reasons() -> None:
    """Shapes that were really seen would stop the producer."""
    seen = 0
    for stem in ("ws_trade_update", "ws_trade_update_data", "rest_order", "rest_activity", "rest_account"):
        for line in (FIXTURES / f"{stem}.jsonl").read_text().splitlines():
            payload = values.parse(json.dumps(json.loads(line)["payload"]))
            for one in payload if isinstance(payload, list) else [payload]:
                seen += 1
                for make in _MAKERS:
                    with contextlib.suppress(RecordError):
                        make(one)
    assert seen > 40


def test_rest_gives_a_fill_and_an_end_the_ids_of_the_stream() -> None:
    """Every fill that was looked up would be counted twice."""
    activity = {
        "activity_type": "FILL", "cum_qty": "4.50", "id": "20240312100002000::x", "leaves_qty": "5.5",
        "price": "170.02", "qty": "4.5", "side": "sell_short", "symbol": "AAPL", "type": "partial_fill",
        "transaction_time": UPDATE["timestamp"], "order_id": ORDER["id"],
    }  # fmt: skip
    streamed, found = _content(UPDATE), recovered.fill("one", activity, {**ORDER, "filled_qty": "10"})
    same = (
        "event",
        "event_id",
        "ts",
        "cumulative_quantity",
        "quantity",
        "price",
        "side",
        "client_order_id",
        "status",
    )
    assert {name: found[name] for name in same} == {name: streamed[name] for name in same}
    assert found["average_price"] is None  # the order's is of all its fills
    order = {**ORDER, "status": "canceled", "canceled_at": UPDATE["timestamp"]}
    ended = recovered.ending("one", order)
    assert ended is not None
    assert ended["event_id"] == _content(UPDATE, event="canceled", order=order)["event_id"]
    assert recovered.ending("one", ORDER) is None


quantities = st.lists(st.decimals("0.001", "50", places=3), min_size=1, max_size=6)


@hypothesis.settings(max_examples=40)
@given(quantities, st.data())
def test_repeats_in_any_order_change_nothing(parts: list[Decimal], data: st.DataObject) -> None:
    """A repeated message would be a second fill; a different one would be taken for a repeat."""
    contents, cumulative = [], Decimal(0)
    for part in parts:
        cumulative += part
        order = {**ORDER, "filled_qty": str(cumulative)}
        contents.append(_content(UPDATE, qty=str(part), order=order))
    contents.append(_content(UPDATE, event="canceled"))
    sent = data.draw(st.permutations(contents * 2))
    memory, taken = Memory(), []
    for content in sent:
        if not memory.holds(content):
            memory.add(content)
            taken.append(content["event_id"])
    assert sorted(taken) == sorted({c["event_id"] for c in contents})
    assert all(
        memory.holds_fill(ORDER["id"], plain_quantity(c["cumulative_quantity"])) for c in contents[:-1]
    )


def test_a_hole_between_fills_is_noticed_and_memory_is_bounded() -> None:
    """A fill that the stream left out would stay unnoticed until the next snapshot."""
    memory = Memory(limit=3)
    memory.add(_content(UPDATE, event="new", order={**ORDER, "filled_qty": "0"}))
    assert memory.doubt(_content(UPDATE, qty="4"))
    assert memory.doubt(_content(UPDATE, event="pending_cancel"))
    assert not memory.doubt(_content(UPDATE, qty="4.5"))
    for number in range(10):
        memory.add(_content(UPDATE, event="new", order={**ORDER, "id": f"o{number}"}))
    assert memory.open_orders == ["o7", "o8", "o9"]


def test_the_legs_of_a_streamed_fill_are_not_looked_up_again() -> None:
    """Each leg of a spread would stand in the history a second time."""
    memory = Memory()
    memory.add(_content(LEGGED))
    assert memory.holds_fill("leg-1", "3")
    assert memory.holds_fill("leg-2", "1")


def test_a_snapshot_is_whole_or_none() -> None:
    """A position with a wrong sign or a missing price would become the opening balance."""
    account = {"id": "b-1", "status": "ACTIVE", "multiplier": "4", "account_blocked": True}
    account |= dict.fromkeys(snapshots._MONEY, "1.5")
    long = "286.97497832650743661234"
    positions: list[Mapping[str, Any]] = [
        {"symbol": "AAPL", "qty": "5", "side": "short", "avg_entry_price": "100", "asset_class": "us_equity"},
        {"symbol": "BTCUSD", "qty": "0.5", "side": "long", "avg_entry_price": long, "asset_class": "crypto"},
    ]
    content = snapshots.content("one", account, positions, [ORDER], ts=7, cursor="c", contained=[("o", "1")])
    stamped = {**content, "received_ts": 8, "owner_epoch": 1}
    record = CODEC.decode(CODEC.encode("account_snapshot", stamped))[1]
    assert [(p["symbol"], p["quantity"]) for p in record["positions"]] == [
        ("AAPL", -5), ("BTC/USD", Decimal("0.5")),
    ]  # fmt: skip
    assert record["trading_blocked"] is True
    assert json.loads(record["extra"])["unrounded"] == {"BTC/USD": long}
    assert record["contained_fills"] == ["o:1"]
    for missing in ("id", "cash", "equity"):
        broken = {name: value for name, value in account.items() if name != missing}
        with pytest.raises(RecordError, match=f"account.{missing} is missing"):
            snapshots.content("one", broken, [], [], ts=7, cursor=None, contained=[])


@pytest.mark.parametrize(
    ("cursor", "utc"),
    [
        ("20220304123922801::3b8a937c-b1d9-4ebe-ae94-5e0b52c3f350", "2022-03-04T17:39:22.801Z"),
        ("20190524113406977::8efc7b9a-8b2b-4000-9955-d36e7db0df74", "2019-05-24T15:34:06.977Z"),
    ],
)
def test_the_time_in_an_activity_id_is_new_yorks(cursor: str, utc: str) -> None:
    """Fills of the opening's last hours would be counted a second time (ids and times are Alpaca's own)."""
    assert reading.cursor_ts(cursor) == values.time({"t": utc}, "t")


def test_an_activity_id_without_a_time_is_no_cursor() -> None:
    """A strange id would stop the snapshots of an account."""
    assert reading.cursor_ts("activity-123") is None
    assert reading.cursor_ts("20221304123922801::x") is None
    fills: list[Mapping[str, Any]] = [{"id": "activity-123", "transaction_time": "1970-01-01T00:02:00Z"}]
    assert reading.since_when(fills) == 60 * 10**9


@given(st.text(min_size=6, max_size=20), st.text(max_size=20))
def test_no_part_of_a_key_pair_is_left(secret: str, around: str) -> None:
    """A key that a server echoes would stand in logs and topics."""
    redactor = Redactor(SecretStr(secret), SecretStr("short"))
    if secret in "[redacted]":
        return
    cleaned = redactor.text(f"{around}{secret}{around}")
    assert secret not in cleaned.replace("[redacted]", "\0")
