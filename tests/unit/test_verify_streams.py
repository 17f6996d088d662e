"""The ledger, the topic and PostgreSQL must be read as one: else the report invents losses, or hides them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgpack
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.crypto import CryptoEncoder
from producers.encoder import Encoder as StockEncoder
from producers.entrance import Bars, Window
from producers.intake import Intake
from producers.options import OptionEncoder
from schemas.codec import load_codec
from tests.unit.producer_memory import Memory
from tidewire import config
from tidewire.columns import Decoder, as_blocks
from verify.compare import difference
from verify.content import (
    CRYPTO_VENUE,
    NUMBERS,
    OPTIONS_VENUE,
    PAIR_BOOKS,
    SEPARATOR,
    STATUSES,
    STOCKS_VENUE,
    Channel,
    as_event,
    canonical,
    of_venue,
    with_canonical_extra,
    with_canonical_numbers,
)
from verify.dead_letters import Letter
from verify.messages import Collector

CODEC = load_codec(config.load(_env_file=None))
ENCODERS: dict[str, Any] = {
    STOCKS_VENUE: lambda: StockEncoder(CODEC, Window(), Bars(), owner_epoch=1),
    OPTIONS_VENUE: lambda: OptionEncoder(CODEC, owner_epoch=1),
    CRYPTO_VENUE: lambda: CryptoEncoder(CODEC, owner_epoch=1),
}
AT = msgpack.Timestamp(1_763_740_800, 123_456_789)

floats = st.sampled_from([0.0, -0.0, 0.1, 61837.64, 5e-324, 1e16, 1e300, 123456789012345.6])
amounts = st.sampled_from([0.0, 0.1, 1e16, 12.5308])
texts = st.sampled_from(["", "A", "ü", "T12"])
extras = st.fixed_dictionaries({}, optional={"new": st.sampled_from([1, {"b": 1.5, "a": None}, ["x"]])})
levels = st.lists(
    st.fixed_dictionaries({"p": floats, "s": amounts}, optional={"n": st.integers(0, 3)}), max_size=4
)
KINDS: dict[str, tuple[str, st.SearchStrategy[dict[str, Any]]]] = {
    "statuses": (STOCKS_VENUE, st.fixed_dictionaries(
        {"T": st.just("s"), "sc": texts, "rc": texts},
        optional={"sm": texts | st.none(), "rm": texts, "z": texts})),
    "lulds": (STOCKS_VENUE, st.fixed_dictionaries(
        {"T": st.just("l"), "u": floats, "d": floats}, optional={"i": texts, "z": texts})),
    "imbalances": (STOCKS_VENUE, st.fixed_dictionaries({"T": st.just("i"), "p": floats, "z": texts})),
    "option_trades": (OPTIONS_VENUE, st.fixed_dictionaries(
        {"T": st.just("t"), "p": floats, "s": st.integers(0, 2**63 - 1), "x": texts,
         "c": texts | st.none()})),
    "option_quotes": (OPTIONS_VENUE, st.fixed_dictionaries(
        {"T": st.just("q"), "bp": floats, "bs": st.integers(0, 9), "ap": floats, "as": st.integers(0, 9)},
        optional={"bx": texts, "ax": texts, "c": texts})),
    "crypto_orderbooks": (CRYPTO_VENUE, st.fixed_dictionaries(
        {"T": st.just("o"), "b": levels, "a": levels}, optional={"r": st.booleans()})),
}  # fmt: skip


def _channel(name: str) -> Channel:
    return next(c for c in of_venue(KINDS[name][0]) if c.name == name)


def _in_the_topic(channel: Channel, values: list[bytes]) -> pl.DataFrame:
    """As verify.topic reads it."""
    records = [
        SimpleNamespace(offset=n, timestamp=1, key=b"X/Y", value=value, headers=[])
        for n, value in enumerate(values)
    ]
    decoder = Decoder(
        CODEC.versions(channel.stem),
        channel.record_key,
        [*channel.columns, "event_id"],
    )
    decoded = decoder(as_blocks(records))
    assert not decoded.refused
    return canonical(channel, decoded.frame)


def _in_postgres(channel: Channel, values: list[bytes]) -> pl.DataFrame:
    """As verify.database reads it: lists joined by PostgreSQL, which writes numbers in a way of its own."""
    rows = [
        {k: SEPARATOR.join(f"{x:g}" if x == int(x) < 1e6 else repr(x) for x in v) if k in NUMBERS else v
         for k, v in CODEC.decode(value)[1].items() if k in channel.content}
        for value in values
    ]  # fmt: skip
    return with_canonical_extra(with_canonical_numbers(pl.DataFrame(rows, schema=channel.shape)))


@pytest.mark.parametrize("name", KINDS)
def test_what_was_sent_is_found_again_in_the_topic_and_in_postgresql(name: str) -> None:
    """A number written in two ways, an empty list or an unknown field must not look like a loss."""
    channel, (venue, kind) = _channel(name), KINDS[name]

    @given(st.lists(st.tuples(kind, extras), min_size=1, max_size=6))
    @settings(max_examples=12, deadline=None)
    def check(drawn: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        messages = [{"S": "X/Y", "t": AT, **m, **more} for m, more in drawn]
        frame = msgpack.packb(messages)
        sent, memory = Collector(venue), Memory()
        sent.add(msgpack.unpackb(frame))
        Intake("verify", ENCODERS[venue](), memory, lambda topic: topic).frame(frame, 1_900_000_000 * 10**9)
        assert (sent.odd, memory.letters) == ([], [])
        assert {topic for topic, *_ in memory.records} == {channel.topic}
        values = [value for _, _, value, _ in memory.records]
        topic = _in_the_topic(channel, values)
        absent, extra = difference(sent.frame(channel), topic, channel.columns)
        kept = sum(absent["copies"])  # repeats of what has a key are dropped at the entrance
        assert not extra.height
        assert kept == (len(messages) - len(values))
        assert kept == 0 or channel.key
        absent, extra = difference(topic, _in_postgres(channel, values), channel.columns)
        assert not absent.height
        assert not extra.height

    check()


def test_broken_messages_are_odd_and_belong_to_their_channel() -> None:
    """Otherwise a broken status that a dead letter holds counts as an unknown type, or as nothing."""
    sent = Collector(CRYPTO_VENUE)
    broken = {"T": "o", "S": "X/Y", "t": AT, "b": [{"p": 1.0}], "a": [], "r": True}
    sent.add([broken, {**broken, "b": [], "r": 1}])
    assert sent.odd == [broken, {**broken, "b": [], "r": 1}]
    assert sent.frame(PAIR_BOOKS).height == 0


def test_a_missing_book_is_shown_with_its_levels() -> None:
    """A user who is told that a book is missing wants to see which."""
    sent = Collector(CRYPTO_VENUE)
    sent.add([{"T": "o", "S": "X/Y", "t": AT, "b": [{"p": 1.0, "s": 2.5}], "a": []}])
    (row,) = sent.frame(PAIR_BOOKS).iter_rows(named=True)
    event = as_event(PAIR_BOOKS, row)
    assert (event["bid_prices"], event["bid_sizes"], event["ask_prices"]) == ([1.0], [2.5], [])
    assert (event["reset"], "extra" in event) == (False, False)


def test_tables_and_venues_are_named_as_the_sink_and_the_simulator_name_them() -> None:
    """A table by another name would be read as empty, and everything reported as missing."""
    assert [(c.name, c.table) for c in of_venue(STOCKS_VENUE) if c.name != c.table] == [
        ("statuses", "stock_statuses"), ("lulds", "stock_lulds"), ("imbalances", "stock_imbalances"),
    ]  # fmt: skip
    assert STATUSES.venue == STOCKS_VENUE
    letter = Letter("alpaca.options.frames", -1, -1, "producer", "", "", "", b"")
    assert letter.venue == OPTIONS_VENUE
