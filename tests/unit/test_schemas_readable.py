"""`tidewire tail`'s lines: what a user sees when looking for a lost record, corrupt ones included."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.commands.readable import Received, json_line, line, time_text
from console.commands.topic_names import resolve
from schemas import catalogue, examples
from schemas.catalogue import Catalogue
from schemas.codec import load_codec
from tidewire import config
from tidewire.errors import ConfigError

CODEC = load_codec(config.load(_env_file=None))
TRADE: dict[str, Any] = {
    "symbol": "AAPL",
    "ts": 1_614_009_104_208_000_001,
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


def _received(value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Received:
    return Received("alpaca.stocks.trades", 1, 42, 1_614_009_104_209, b"AAPL", value, headers)


def test_a_trade_reads_at_a_glance() -> None:
    """Time to the nanosecond in UTC, symbol, price, place; no provenance in the way."""
    assert line(_received(CODEC.encode("stock_trade", TRADE)), CODEC) == (
        "2021-02-22 15:51:44.208000001Z  AAPL    id=96921 exchange=D price=126.55 size=1 "
        "conditions=@,I tape=C  [1:42]"
    )


def test_a_trade_as_json_loses_nothing() -> None:
    """For jq and other programs: every field, exact, and where the record stands."""
    found = json.loads(json_line(_received(CODEC.encode("stock_trade", TRADE)), CODEC))
    place = found.pop("kafka")
    assert found == {**TRADE, "event_id": "3132333435363738"}
    assert place == {
        "topic": "alpaca.stocks.trades",
        "partition": 1,
        "offset": 42,
        "timestamp_ms": 1_614_009_104_209,
        "key": "AAPL",
        "schema": "stock_trade",
    }


@pytest.mark.parametrize("stem", catalogue.stems())
def test_every_schema_has_its_line(stem: str) -> None:
    """Money, lists of records and far-off times must not make a topic unreadable."""
    for record in islice(examples.records(catalogue.schema(stem)), 30):
        value = CODEC.encode(stem, record)
        assert line(_received(value), CODEC).endswith("  [1:42]")
        assert json.loads(json_line(_received(value), CODEC))["kafka"]["schema"] == stem


@given(st.none() | st.binary(max_size=200))
def test_what_is_no_record_is_shown_all_the_same(value: bytes | None) -> None:
    """One corrupt record must not end the view of the others, nor be hidden."""
    shown = line(_received(value), CODEC)
    assert shown.isprintable()
    assert " ! " in shown
    found = json.loads(json_line(_received(value), CODEC))
    assert found["error"]
    assert found["value"] == (None if value is None else value.hex())


def test_a_dead_letter_shows_why_and_what() -> None:
    """The headers are the only trace of why a record was given up."""
    headers = (("topic", b"alpaca.stocks.frames"), ("reason", b"truncated\n\x1b[31m"), ("offset", b"-1"))
    shown = line(_received(b'{"T":"t"', headers), CODEC)
    assert "topic=alpaca.stocks.frames reason=truncated\\n\\x1b[31m offset=-1" in shown
    assert '{"T":"t"' in shown
    found = json.loads(json_line(_received(b'{"T":"t"', headers), CODEC))
    assert found["kafka"]["headers"]["offset"] == "-1"
    assert found["text"] == '{"T":"t"'


def test_a_headline_cannot_steer_the_terminal() -> None:
    """News is written by strangers: an escape sequence in it must not reach the terminal."""
    record = next(examples.records(catalogue.schema("news")))
    value = CODEC.encode("news", {**record, "headline": "\x1b[2Jgone\r\n", "symbols": ["\x07"]})
    shown = line(_received(value), CODEC)
    assert shown.isprintable()
    assert "\\x1b[2Jgone\\r\\n" in shown


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01 00:00:00.000000000Z"),
        (1_381_152_600_123_456_789, "2013-10-07 13:30:00.123456789Z"),
        (-1, "1969-12-31 23:59:59.999999999Z"),
        (2**63 - 1, "2262-04-11 23:47:16.854775807Z"),
        (2**80, f"{2**80}ns"),
    ],
)
def test_times_keep_their_nanoseconds(ns: int, text: str) -> None:
    """Two trades of one microsecond must be told apart."""
    assert time_text(ns) == text


# -- what a user calls a topic


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("alpaca.stocks.trades", "p.alpaca.stocks.trades"),
        ("p.alpaca.stocks.trades", "p.alpaca.stocks.trades"),
        ("stocks.trades", "p.alpaca.stocks.trades"),
        ("stocks.trades.dlq", "p.alpaca.stocks.trades.dlq"),
        ("lulds", "p.alpaca.stocks.lulds"),
        ("features", "p.features.stocks"),
        ("signals", "p.signals"),
        ("stocks.frames.dlq", "p.alpaca.stocks.frames.dlq"),
        ("p.tidewire-processor-table-changelog", "p.tidewire-processor-table-changelog"),
        ("tidewire-processor-table-changelog", "p.tidewire-processor-table-changelog"),
        ("somebody.elses", "somebody.elses"),
    ],
)
def test_short_names_are_understood(asked: str, name: str) -> None:
    """Nobody wants to type a prefix; topics of others and changelogs can be looked at as well."""
    existing = ["p.alpaca.stocks.trades", "p.tidewire-processor-table-changelog", "somebody.elses"]
    assert resolve(asked, Catalogue("p.", 1), existing) == name


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("trades", "may be alpaca.stocks.trades, alpaca.options.trades, alpaca.crypto.trades"),
        ("alpaca.stock.trades", "did you mean alpaca.stocks.trades"),
        ("featurs.stocks", "did you mean features.stocks"),
        ("zzz", "tidewire topics list"),
        ("frames", "no topic 'frames'"),
        ("", "no topic ''"),
    ],
)
def test_an_unknown_name_gets_suggestions(asked: str, message: str) -> None:
    """Waiting for ever on a topic that is misspelt looks like lost data."""
    with pytest.raises(ConfigError, match=r"which one|no topic") as caught:
        resolve(asked, Catalogue("p.", 1), ["p.alpaca.stocks.trades"])
    assert message in str(caught.value)
