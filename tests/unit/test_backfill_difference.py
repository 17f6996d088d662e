"""Whatever the stream dropped, repeated or delayed: with the backfill, the log holds what was sent, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.backfill.difference import Difference
from producers.backfill.target import target
from producers.channel import Encoder as AnyEncoder
from producers.channel import Message
from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.options import OptionEncoder
from schemas.codec import load_codec
from schemas.gaps import Gap
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))
START = 1_700_000_000 * 10**9
MINUTE = 60 * 10**9


def gap(channel: str, feed: str = "stocks:iex", until: int = START + 10 * MINUTE) -> Gap:
    return Gap("g", feed, channel, ("A", "B"), "disconnect", START, START, until, owner_epoch=5)


def trade(symbol: str, id: int) -> Message:
    return {"T": "t", "S": symbol, "i": id, "x": "V", "p": 1.5, "s": 100, "c": ["@"], "z": "C",
            "t": START + id * 10**9}  # fmt: skip


def quote(symbol: str, at: int) -> Message:
    return {"T": "q", "S": symbol, "bx": "V", "bp": 1.5, "bs": 1, "ax": "V", "ap": 1.6, "as": 2, "c": ["R"],
            "z": "C", "t": START + at * 10**9}  # fmt: skip


def option(symbol: str, at: int) -> Message:
    return {"T": "t", "S": symbol, "p": 2.5, "s": 1, "x": "N", "c": "S", "t": START + at * 10**9}


def bar(start: int, close: float, kind: str = "b") -> Message:
    return {"T": kind, "S": "A", "o": 1.0, "h": 9.0, "l": 1.0, "c": close, "v": 10, "n": 2, "vw": 1.5,
            "t": START + start * MINUTE}  # fmt: skip


def streamed(encoder: AnyEncoder, messages: Iterable[Message], received: int = START) -> list[dict[str, Any]]:
    """What the socket's messages leave in the log."""
    encoder.frame(received)
    found = [encoder.channels()[m["T"]].encode(m) for m in messages]
    return [CODEC.decode(record[1])[1] for record in found if record is not None]


def filled(
    difference: Difference, log: Iterable[dict[str, Any]], history: list[Message], asked: int = START + 1
) -> list[dict[str, Any]]:
    """What the backfill adds."""
    for record in log:
        difference.know(record)
    for start in range(0, len(history), 3):  # pages
        difference.take(dict(m) for m in history[start : start + 3])
    lacking = difference.lacking(asked)
    assert not lacking.refused
    assert lacking.held + len(lacking.records) == len(history)
    return [CODEC.decode(value)[1] for _, value in lacking.records]


def content(record: dict[str, Any]) -> tuple[Any, ...]:
    left_out = ("received_ts", "source", "owner_epoch", "event_id", "extra")
    return tuple(str(v) for k, v in sorted(record.items()) if k not in left_out)


KINDS: dict[str, tuple[str, Callable[[str, int], Message], Callable[[], AnyEncoder]]] = {
    "trades": ("stocks:iex", trade, lambda: Encoder(CODEC, Window(), Bars(), owner_epoch=5)),
    "quotes": ("stocks:iex", quote, lambda: Encoder(CODEC, Window(), Bars(), owner_epoch=5)),
    "option trades": ("options:indicative", option, lambda: OptionEncoder(CODEC, owner_epoch=5)),
}
SENT = st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 8)), max_size=25)


@pytest.mark.parametrize("kind", KINDS)
@given(sent=SENT, data=st.data())
@settings(max_examples=60)
def test_stream_and_backfill_are_what_was_sent(kind: str, sent: list[tuple[str, int]], data: Any) -> None:
    """A user's volume is wrong when an event is missing, and as wrong when one stands twice."""
    feed, make, encoder = KINDS[kind]
    if kind == "trades":
        sent = list(dict.fromkeys(sent))  # an exchange's trade ids are unique
    oracle = [make(*event) for event in sent]
    kept = data.draw(st.lists(st.booleans(), min_size=len(sent), max_size=len(sent)))
    delivered = data.draw(st.permutations([m for m, k in zip(oracle, kept, strict=True) if k]))
    if kind == "trades" and delivered:  # those that have an id may be delivered again
        delivered = [*delivered, *data.draw(st.lists(st.sampled_from(delivered), max_size=5))]
    log = streamed(encoder(), delivered)
    channel = kind.split()[-1]
    history = sorted(oracle, key=lambda m: (m["S"], m["t"]))
    added = filled(target(gap(channel, feed), CODEC).difference, log, history)
    whole = streamed(encoder(), oracle)
    assert Counter(map(content, log + added)) == Counter(map(content, whole))
    assert {r["event_id"] for r in log + added} == {r["event_id"] for r in whole}
    assert {r["source"] for r in added} <= {"rest"}
    assert filled(target(gap(channel, feed), CODEC).difference, log + added, history) == []


def test_one_work_compares_again_and_again_without_repeating() -> None:
    """A long gap is compared in parts; an event at a border must not be published with both."""
    difference = target(gap("trades"), CODEC).difference
    assert len(filled(difference, [], [trade("A", 1), trade("A", 2)])) == 2
    difference.take([trade("A", 3)])
    assert len(difference.lacking(START).records) == 1


BAR_EVENTS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([2.0, 3.0, 4.0])), max_size=12)


@given(sent=BAR_EVENTS, data=st.data())
@settings(max_examples=100)
def test_the_newest_revision_of_each_bar_is_history_s(sent: list[tuple[int, float]], data: Any) -> None:
    """A chart's candle must end as Alpaca's, and a backfill must never put an older one over it."""
    seen: set[int] = set()
    oracle = []
    for start, close in sent:
        oracle.append(bar(start, close, "u" if start in seen else "b"))
        seen.add(start)
    kept = data.draw(st.lists(st.booleans(), min_size=len(sent), max_size=len(sent)))
    log = streamed(Encoder(CODEC, Window(), Bars(), owner_epoch=5),
                   [m for m, k in zip(oracle, kept, strict=True) if k])  # fmt: skip
    last = {m["t"]: m for m in oracle}
    history = [{**last[ts], "T": "b"} for ts in sorted(last)]
    added = filled(target(gap("bars"), CODEC).difference, log, history)
    newest: dict[int, dict[str, Any]] = {}
    said: dict[int, set[float]] = {}
    for record in sorted(log + added, key=lambda r: r["revision"]):
        newest[record["ts"]] = record
        said.setdefault(record["ts"], set()).add(record["close"])
    for ts, message in last.items():
        assert message["c"] in said[ts]
        if all(r["ts"] != ts or r["close"] != message["c"] for r in log):
            assert newest[ts]["close"] == message["c"]
    assert len({r["event_id"] for r in log + added}) == len(log + added)
    assert filled(target(gap("bars"), CODEC).difference, log + added, history) == []


def test_a_bar_that_the_stream_corrected_after_history_was_asked_stays() -> None:
    """REST answered with the old numbers; the correction came meanwhile over the socket."""
    log = streamed(Encoder(CODEC, Window(), Bars(), owner_epoch=5), [bar(0, 3.0, "u")], received=START + 9)
    assert filled(target(gap("bars"), CODEC).difference, log, [bar(0, 2.0)], asked=START + 5) == []
    assert len(filled(target(gap("bars"), CODEC).difference, log, [bar(0, 2.0)], asked=START + 10)) == 1


def test_bars_that_were_not_over_when_the_gap_was_are_left_to_the_stream() -> None:
    """A minute in the making, published from REST, would be a bar that the stream never had."""
    asked = target(gap("bars", until=START + 5 * MINUTE), CODEC)
    assert asked.end_ns == START + 4 * MINUTE
    assert asked.start_ns < START
    assert target(gap("trades"), CODEC).end_ns == START + 10 * MINUTE


def test_a_row_that_is_no_record_costs_only_itself() -> None:
    """One odd row must not hold up the gap that it lies in."""
    difference = target(gap("trades"), CODEC).difference
    difference.take(
        [trade("A", 1), {**trade("A", 2), "p": "x"}, {"T": "t", "S": "A", "row": 5}, trade("A", 3)]
    )
    lacking = difference.lacking(START)
    assert len(lacking.records) == 2
    assert len(lacking.refused) == 2


@pytest.mark.parametrize(
    ("feed", "channel", "message"),
    [
        ("crypto:us", "bars", {**bar(0, 2.0), "S": "A/USD", "v": 0.5}),
        (
            "crypto:us",
            "quotes",
            {"T": "q", "S": "A/USD", "bp": 1.0, "bs": 2.0, "ap": 1.5, "as": 2.0, "t": START},
        ),
        ("crypto:us", "trades", {"T": "t", "S": "A/USD", "p": 1.0, "s": 2.0, "t": START, "i": 5, "tks": "B"}),
        ("news", "news", {"T": "n", "id": 5, "headline": "x", "created_at": START, "updated_at": START}),
    ],
)
def test_every_kind_of_feed_is_filled_and_filled_once(feed: str, channel: str, message: Message) -> None:
    """A kind that was forgotten would leave its gaps open for ever."""
    added = filled(target(gap(channel, feed), CODEC).difference, [], [message])
    assert [record["source"] for record in added] == ["rest"]
    assert filled(target(gap(channel, feed), CODEC).difference, added, [message]) == []
