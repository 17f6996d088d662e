"""Bytes on the topics: a user would lose records that cannot be read back, or trust ones that are corrupt."""

from __future__ import annotations

import io
from collections.abc import Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import catalogue, examples, lock
from schemas.codec import Codec, Version, load_codec
from tidewire import config
from tidewire.errors import RecordError, SchemaError

CODEC = load_codec(config.load(_env_file=None))
_LONG = st.integers(-(2**63), 2**63 - 1)
TRADES = st.fixed_dictionaries(
    {
        "symbol": st.text(max_size=8),
        "ts": _LONG,
        "id": _LONG,
        "exchange": st.text(max_size=1),
        "price": st.floats(allow_nan=False),
        "size": _LONG,
        "conditions": st.lists(st.text(max_size=2), max_size=4),
        "tape": st.text(max_size=1),
        "extra": st.none() | st.text(),
        "received_ts": _LONG,
        "source": st.sampled_from(["ws", "rest", "rss", "webhook", "replay"]),
        "owner_epoch": _LONG,
        "event_id": st.binary(min_size=8, max_size=8),
    }
)
TRADE: dict[str, Any] = {
    "symbol": "AAPL",
    "ts": 1_614_009_104_208_000_000,
    "id": 96921,
    "exchange": "D",
    "price": 126.55,
    "size": 1,
    "conditions": ["@", "I"],
    "tape": "C",
    "extra": None,
    "received_ts": 1_614_009_104_209_000_000,
    "source": "ws",
    "owner_epoch": 0,
    "event_id": b"12345678",
}


@given(TRADES)
def test_a_trade_comes_back_as_it_went(trade: dict[str, Any]) -> None:
    """Nanoseconds, float64 and text must survive the log exactly."""
    assert CODEC.decode(CODEC.encode("stock_trade", trade)) == ("stock_trade", trade)


@pytest.mark.parametrize("stem", catalogue.stems())
def test_every_schema_round_trips(stem: str) -> None:
    """A schema that cannot hold its own records would dead-letter a whole topic."""
    for record in islice(examples.records(catalogue.schema(stem)), 50):
        value = CODEC.encode(stem, record)
        assert value.startswith(CODEC.header(stem))
        assert CODEC.decode(value) == (stem, record)


@given(TRADES)
def test_the_bytes_are_confluents_wire_format(trade: dict[str, Any]) -> None:
    """0x00, four bytes of id, then nothing but Avro: what any other tool expects."""
    value = CODEC.encode("stock_trade", trade)
    assert value[0] == 0
    assert int.from_bytes(value[1:5], "big") == CODEC.schema_id("stock_trade") >= 0x40000000
    plain = io.BytesIO()
    fastavro.schemaless_writer(plain, dict(catalogue.schema("stock_trade")), trade)
    assert value[5:] == plain.getvalue()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value (a tombstone)"),
        (b"", "only 0 bytes, a record begins with 5"),
        (b"\x00\x40\x00\x00", "only 4 bytes, a record begins with 5"),
        (b'{"T":"t"}', "magic byte 0x7b instead of 0x00"),
        (b"\x00\x00\x00\x00\x07abc", "unknown schema id 7 (0x00000007)"),
        (CODEC.encode("stock_trade", TRADE) + b"xy", "2 bytes left over after a stock_trade record"),
        (CODEC.encode("stock_trade", TRADE)[:-1], "not a stock_trade record"),
        (CODEC.header("stock_trade"), "not a stock_trade record"),
        (CODEC.header("stock_trade") + b"\xff" * 40, "not a stock_trade record"),
    ],
)
def test_what_is_no_record_is_refused_with_its_reason(value: bytes | None, reason: str) -> None:
    """The reason stands in the dead letter: it is all that a user has to find the cause."""
    with pytest.raises(RecordError) as caught:
        CODEC.decode(value)
    assert reason in caught.value.reason


@given(st.binary(max_size=80), st.sampled_from(catalogue.stems()))
def test_no_bytes_can_crash_the_decoder(body: bytes, stem: str) -> None:
    """One corrupt record must cost itself only: any outcome but a record or a RecordError stops a service."""
    try:
        found, record = CODEC.decode(CODEC.header(stem) + body)
    except RecordError:
        return
    assert found == stem
    assert set(record) == {field["name"] for field in catalogue.schema(stem)["fields"]}


@given(TRADES, st.data())
def test_every_cut_record_is_refused(trade: dict[str, Any], data: st.DataObject) -> None:
    """Half a record must never look like a whole one."""
    value = CODEC.encode("stock_trade", trade)
    with pytest.raises(RecordError):
        CODEC.decode(value[: data.draw(st.integers(0, len(value) - 1))])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": 1.5}, "size=1.5"),
        ({"ts": 1.0}, "ts=1.0"),
        ({"ts": 2**63}, "does not fit"),
        ({"price": "x"}, "does not fit"),
        ({"price": None}, "does not fit"),
        ({"symbol": 7}, "does not fit"),
        ({"symbol": "\ud800"}, "does not fit"),
        ({"conditions": None}, "does not fit"),
        ({"source": "pigeon"}, "does not fit"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_refused_not_bent(change: dict[str, Any], reason: str) -> None:
    """Fastavro would cut 1.5 shares to 1 and drop an unknown field; the user would never know."""
    with pytest.raises(RecordError) as caught:
        CODEC.encode("stock_trade", {**TRADE, **change})
    assert reason in caught.value.reason


def test_a_missing_field_is_refused_unless_it_has_a_default() -> None:
    """A forgotten field must not become a zero."""
    without_size = {name: value for name, value in TRADE.items() if name != "size"}
    with pytest.raises(RecordError, match="size"):
        CODEC.encode("stock_trade", without_size)
    without_extra = {name: value for name, value in TRADE.items() if name != "extra"}
    assert CODEC.decode(CODEC.encode("stock_trade", without_extra))[1] == TRADE


def _position(**money: Decimal) -> dict[str, Any]:
    return {**next(examples.records(catalogue.schema("portfolio_position"))), **money}


@given(st.decimals(-(10**20) + 1, 10**20 - 1, places=18))
def test_money_comes_back_exactly(amount: Decimal) -> None:
    """Quantities and prices of orders are Decimal: a rounded cent is a wrong position."""
    found = CODEC.decode(CODEC.encode("portfolio_position", _position(quantity=amount)))[1]["quantity"]
    assert isinstance(found, Decimal)
    assert found == amount


@pytest.mark.parametrize(
    "amount", [Decimal(10) ** 20, Decimal("1e-19"), Decimal("NaN"), Decimal("Infinity"), 1.5, "1.5"]
)
def test_money_that_does_not_fit_is_refused_not_rounded(amount: Any) -> None:
    """Also a float is refused: it has lost its cents before it came here."""
    with pytest.raises(RecordError):
        CODEC.encode("portfolio_position", _position(quantity=amount))


def test_old_records_are_read_in_the_shape_of_today() -> None:
    """After an upgrade the log still holds the records of yesterday."""
    former = {"type": "record", "name": "T", "fields": [{"name": "a", "type": "long"}]}
    today: Mapping[str, Any] = {
        **former,
        "fields": [
            {"name": "b", "type": ["null", "string"], "default": None},
            {"name": "a", "type": "long"},
        ],
    }
    old = Codec([Version(1, "t", former)]).encode("t", {"a": 5})
    codec = Codec([Version(2, "t", today)], [Version(1, "t", former)])
    assert codec.decode(old) == ("t", {"b": None, "a": 5})
    assert codec.ids == {1, 2}


def test_a_changed_schema_without_an_id_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records written with an id of another schema would be unreadable for ever."""
    changed = {**catalogue.schema("stock_trade"), "fields": catalogue.schema("stock_trade")["fields"][1:]}
    real = catalogue.schema
    monkeypatch.setattr(catalogue, "schema", lambda stem: changed if stem == "stock_trade" else real(stem))
    with pytest.raises(SchemaError, match=r"stock_trade\.avsc changed .* `tidewire topics lock`"):
        load_codec(config.load(_env_file=None))


def test_an_unknown_stem_is_named() -> None:
    """A misspelt schema must say so instead of a KeyError."""
    with pytest.raises(SchemaError, match="no schema 'stock_trad'"):
        CODEC.schema_id("stock_trad")


def test_ids_say_who_gave_them() -> None:
    """Ids of the lock file lie where no registry counts."""
    assert CODEC.local
    assert all(lock.is_local(schema_id) for schema_id in CODEC.ids)
    assert not lock.is_local(100_000)
