"""What REST tells of an event must become the very record that the stream would have brought."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.channel import Encoder as AnyEncoder
from producers.crypto import CryptoEncoder
from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.history import rows, times
from producers.news import NewsEncoder
from schemas.codec import load_codec
from tidewire import config
from tidewire.errors import RecordError

CODEC = load_codec(config.load(_env_file=None))
TIMES = st.integers(946_684_800 * 10**9, 4_000_000_000 * 10**9)
WHOLE = st.integers(1, 10**6).map(float)
PRICES = st.floats(0.0001, 1e6) | WHOLE
SIZES = st.integers(0, 10**9)
LETTERS = st.lists(st.sampled_from(["@", "I", "F", " "]), max_size=3)

TRADE = st.fixed_dictionaries(
    {"S": st.just("AAPL"), "i": st.integers(-(2**63) + 1, 2**63 - 1), "x": st.just("D"), "p": PRICES,
     "s": SIZES, "c": LETTERS, "z": st.just("C"), "t": TIMES, "T": st.just("t")}
)  # fmt: skip
QUOTE = st.fixed_dictionaries(
    {"S": st.just("AAPL"), "bx": st.just("Q"), "bp": PRICES, "bs": SIZES, "ax": st.just("P"), "ap": PRICES,
     "as": SIZES, "c": LETTERS, "z": st.just("C"), "t": TIMES, "T": st.just("q")}
)  # fmt: skip
BAR = st.fixed_dictionaries(
    {"S": st.just("AAPL"), "o": PRICES, "h": PRICES, "l": PRICES, "c": PRICES, "v": SIZES, "n": SIZES,
     "vw": PRICES, "t": TIMES, "T": st.sampled_from("bd")}
)  # fmt: skip
PAIR_TRADE = st.fixed_dictionaries(
    {"S": st.just("BTC/USD"), "p": PRICES, "s": PRICES, "i": st.integers(0, 2**63 - 1),
     "tks": st.sampled_from("BS"), "t": TIMES, "T": st.just("t")}
)  # fmt: skip
PAIR_QUOTE = st.fixed_dictionaries(
    {"S": st.just("BTC/USD"), "bp": PRICES, "bs": PRICES, "ap": PRICES, "as": PRICES, "t": TIMES,
     "T": st.just("q")}
)  # fmt: skip
TEXT = st.text("abc é", max_size=8)
ARTICLE = st.fixed_dictionaries(
    {"id": st.integers(1, 10**9), "headline": TEXT, "summary": TEXT, "author": TEXT, "content": TEXT,
     "url": TEXT, "source": st.just("benzinga"), "created_at": TIMES, "updated_at": TIMES,
     "symbols": st.just(["AAPL"]), "T": st.just("n")}
)  # fmt: skip
CHANNELS = {"t": "trades", "q": "quotes", "b": "bars", "d": "dailyBars", "n": "news"}


def stocks(source: str) -> AnyEncoder:
    return Encoder(CODEC, Window(), Bars(), owner_epoch=7, source=source)


def crypto(source: str) -> AnyEncoder:
    return CryptoEncoder(CODEC, owner_epoch=7, source=source)


def news(source: str) -> AnyEncoder:
    return NewsEncoder(CODEC, owner_epoch=7, source=source)


def as_rest(message: dict[str, Any]) -> Any:
    """The same event as REST writes it: whole prices without a point, ids unsigned, times as text."""
    row = {k: v for k, v in message.items() if k not in ("T", "S")}
    for name, value in row.items():
        if type(value) is float and value.is_integer():
            row[name] = int(value)
    if message["T"] == "t" and row["i"] < 0:
        row["i"] += 2**64
    for name in ("t", "created_at", "updated_at"):
        if name in row:
            row[name] = shortest(row[name])
    return orjson.loads(orjson.dumps(row))


def shortest(ns: int) -> str:
    """As Go writes a time: no zeros at the end."""
    seconds, part = divmod(ns, 10**9)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".") + "Z" if part else f"{whole}Z"


def encoded(encoder: AnyEncoder, message: dict[str, Any]) -> dict[str, Any]:
    encoder.frame(1)
    record = encoder.channels()[message["T"]].encode(message)
    assert record is not None
    return CODEC.decode(record[1])[1]


@given(st.data())
@settings(max_examples=150)
def test_the_same_event_is_the_same_record_over_socket_and_rest(data: st.DataObject) -> None:
    """Else everything that a backfill publishes would stand twice in tables and on clients' screens."""
    make, messages = data.draw(
        st.sampled_from(
            [(stocks, TRADE), (stocks, QUOTE), (stocks, BAR), (crypto, PAIR_TRADE), (crypto, PAIR_QUOTE),
             (news, ARTICLE)]
        )
    )  # fmt: skip
    message: dict[str, Any] = data.draw(messages)
    shape = rows.shaper(CHANNELS[message["T"]])
    by_rest = encoded(make("rest"), shape(message.get("S", ""), as_rest(message)))
    by_socket = encoded(make("ws"), message)
    assert by_socket.pop("source") == "ws"
    assert by_rest.pop("source") == "rest"
    assert by_rest == by_socket


def test_what_rest_alone_says_of_a_trade_is_kept_and_changes_no_id() -> None:
    """A trade that was canceled later is still the trade that the stream brought."""
    message = {"T": "t", "S": "A", "i": 1, "x": "D", "p": 1.5, "s": 2, "c": [], "z": "C", "t": 10**18}
    marked = rows.shaper("trades")("A", as_rest(message) | {"u": "canceled"})
    by_rest, by_socket = encoded(stocks("rest"), marked), encoded(stocks("ws"), message)
    assert by_rest["event_id"] == by_socket["event_id"]
    assert by_rest["extra"] == '{"u":"canceled"}'


@pytest.mark.parametrize("row", [None, 5, {}, {"t": None}, {"t": "yesterday"}, {"t": "2021-01-01T00:00:00"}])
def test_a_row_that_is_no_event_is_refused_alone(row: Any) -> None:
    """One odd row must not cost the page that it came in."""
    for channel in ("trades", "news"):
        message = rows.shaper(channel)("A", dict(row) if isinstance(row, dict) else row)
        encoder = news("rest") if channel == "news" else stocks("rest")
        with pytest.raises(RecordError):
            encoder.channels()[message["T"]].encode(message)


@given(st.lists(TIMES, min_size=1, max_size=20))
@settings(max_examples=60)
def test_times_are_exact_to_the_nanosecond(moments: list[int]) -> None:
    """A time that is off by a nanosecond is another event."""
    read = times.reader()
    for ns in (*moments, *moments):
        assert read(times.show(ns)) == read(shortest(ns)) == ns


@pytest.mark.parametrize(
    "text", ["2021-02-22T15:51:44.2081234567Z", "2021-02-22T15:51:44.Z", "2021-02-22T15:51:44. 1Z", "", "Z"]
)
def test_what_is_no_time_is_no_time_behind_a_known_second(text: str) -> None:
    """The short way for known seconds must not take what the long way refuses."""
    read = times.reader()
    read("2021-02-22T15:51:44Z")
    with pytest.raises(ValueError, match="RFC 3339"):
        read(text)


def test_offsets_are_understood() -> None:
    """Alpaca's clock answers in New York's time."""
    assert times.parse("2021-02-22T10:51:44.5-05:00") == times.parse("2021-02-22T15:51:44.5Z")
