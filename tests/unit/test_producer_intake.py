"""Whatever a frame holds, every message of it is accounted for, and a bad one takes no good one with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.frames import Unreadable, original, unpack
from producers.intake import Intake
from schemas.codec import load_codec
from tidewire import config
from tidewire.dead_letters import DeadLetter

CODEC = load_codec(config.load(_env_file=None))
TS = msgpack.Timestamp(1_763_740_800, 123_456_789)
TRADE = {"T": "t", "S": "A", "t": TS, "i": 1, "x": "V", "p": 1.5, "s": 9, "c": ["@"], "z": "C"}
QUOTE = {"T": "q", "S": "A", "t": TS, "bx": "V", "bp": 1.5, "bs": 9, "ax": "V", "ap": 1.6, "as": 0, "c": [],
         "z": "C"}  # fmt: skip
BAR = {"T": "b", "S": "A", "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 10, "n": 3, "vw": 1.25, "t": TS}


class Memory:
    """A log in memory."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes, int]] = []
        self.letters: list[DeadLetter] = []

    def adder(self, topic: str) -> Callable[[bytes, bytes, int], None]:
        return lambda key, value, timestamp: self.records.append((topic, key, value, timestamp))

    def dead_letter(self, letter: DeadLetter, timestamp_ms: int) -> None:
        self.letters.append(letter)


def _intake() -> tuple[Intake, Memory]:
    memory = Memory()
    encoder = Encoder(CODEC, Window(), Bars(), owner_epoch=1)
    return Intake("iex", encoder, memory, lambda topic: topic), memory


def _counted(name: str) -> float:
    return sum(s.value for family in REGISTRY.collect() for s in family.samples if s.name == name)


def test_good_messages_around_bad_ones_arrive_and_bad_ones_keep_their_bytes() -> None:
    intake, memory = _intake()
    parts = [
        msgpack.packb(TRADE),
        msgpack.packb({**TRADE, "p": "x"}),
        b"\x81\xa1T\xa1\xff",  # a type that is not UTF-8
        msgpack.packb({1: 2}),  # a key that is no text
        b"\x81\x80\x01",  # a key that cannot be one
        msgpack.packb({**QUOTE, "S": None}),
        msgpack.packb(QUOTE),
        msgpack.packb({"T": "success", "msg": "connected"}),
        msgpack.packb([1]),
        msgpack.packb({**TRADE, "t": msgpack.Timestamp(2**60, 1)}),
        b"\xc7\x03\xff\x01\x02\x03",  # a timestamp of three bytes
        msgpack.packb({**BAR, "S": "B"}),
    ]
    count, control = intake.frame(b"\x9c" + b"".join(parts), 5_000_000)
    assert count == 11
    assert control == [{"T": "success", "msg": "connected"}]
    assert [(topic, key, ms) for topic, key, _, ms in memory.records] == [
        ("alpaca.stocks.trades", b"A", 5), ("alpaca.stocks.quotes", b"A", 5), ("alpaca.stocks.bars", b"B", 5),
    ]  # fmt: skip
    assert [letter.value for letter in memory.letters] == [parts[n] for n in (1, 2, 3, 4, 5, 8, 9, 10)]
    assert [letter.topic.split(".")[2] for letter in memory.letters] == [
        "trades", "frames", "frames", "frames", "quotes", "frames", "trades", "frames",
    ]  # fmt: skip


def test_a_frame_without_a_whole_message_is_kept_whole() -> None:
    intake, memory = _intake()
    whole = msgpack.packb([TRADE, TRADE])
    for cut in (1, 20):
        intake.frame(whole[:cut], 1)
    intake.frame(b"", 1)
    intake.frame(msgpack.packb(TRADE), 1)
    intake.frame("[]", 1)
    assert memory.records == []
    assert [letter.value for letter in memory.letters] == [
        whole[:1], whole[:20], b"", msgpack.packb(TRADE), b"[]",
    ]  # fmt: skip
    assert all(letter.reason for letter in memory.letters)


def test_of_a_frame_that_breaks_off_the_whole_messages_are_taken_and_the_rest_is_kept() -> None:
    """Otherwise good trades lie among the dead letters until an audit fetches them."""
    parts = [msgpack.packb({**TRADE, "i": n}) for n in range(3)]
    whole = b"\x93" + b"".join(parts)
    first, second = 1 + len(parts[0]), 1 + len(parts[0] + parts[1])
    for broken, good, rest in (
        (whole[:-1], 2, parts[2][:-1]),
        (whole[: second + 1], 2, parts[2][:1]),
        (whole[:second], 2, b"\x93"),  # nothing is left but the promise of a third
        (whole[:first] + b"\xc1" + parts[1], 1, b"\xc1" + parts[1]),  # a byte that begins nothing
        (whole + b"\x00", 3, b"\x00"),
        (b"\xdd\xff\xff\xff\xff" + b"".join(parts), 3, b"\xdd\xff\xff\xff\xff"),
    ):
        intake, memory = _intake()
        count, _ = intake.frame(broken, 1)
        assert (count, len(memory.records)) == (good + 1, good)
        assert [letter.value for letter in memory.letters] == [rest]
        assert f"after {good} whole messages" in memory.letters[0].reason


def test_a_bad_message_in_a_frame_that_breaks_off_has_its_own_letter() -> None:
    intake, memory = _intake()
    bad = msgpack.packb({**TRADE, "p": "x"})
    intake.frame(b"\x93" + bad + msgpack.packb(TRADE) + b"\x8a", 1)
    assert (len(memory.records), [letter.value for letter in memory.letters]) == (1, [bad, b"\x8a"])


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=4)
    | st.binary(max_size=4) | st.just(TS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
keys = st.sampled_from([*TRADE, *QUOTE, *BAR, "new"])
spoiled = st.builds(lambda m, k, v: {**m, k: v}, st.sampled_from([TRADE, QUOTE, BAR]), keys, values)
messages = st.sampled_from([TRADE, QUOTE, BAR, {**BAR, "T": "u", "c": 9.0}]) | spoiled | values


@given(st.lists(st.lists(messages, max_size=5).map(msgpack.packb) | st.binary(max_size=60), max_size=6))
@settings(max_examples=150, deadline=None)
def test_received_is_published_and_duplicates_and_dead_letters(frames: list[bytes]) -> None:
    intake, memory = _intake()
    received, duplicates = (
        _counted(f"tidewire_messages_{n}_total") for n in ("received", "duplicate")
    )  # fmt: skip
    controls = 0
    total = 0
    for frame in frames:
        count, control = intake.frame(frame, 1)
        total, controls = total + count, controls + len(control)
    duplicates = _counted("tidewire_messages_duplicate_total") - duplicates
    assert _counted("tidewire_messages_received_total") - received == total
    assert total == len(memory.records) + duplicates + len(memory.letters)
    for topic, key, value, _ in memory.records:
        _, record = CODEC.decode(value)
        assert record["symbol"].encode() == key
        assert topic.startswith("alpaca.stocks.")


@given(st.lists(messages, max_size=6))
def test_the_bytes_of_a_message_are_those_it_came_in(sent: list[Any]) -> None:
    frame = msgpack.packb(sent)
    for index, message in enumerate(unpack(frame)):
        assert original(frame, index, message) == msgpack.packb(sent[index])


def test_a_true_repeat_of_a_quote_stays_and_a_repeat_of_a_trade_or_bar_goes() -> None:
    intake, memory = _intake()
    frame = msgpack.packb([TRADE, QUOTE, BAR] * 3)
    intake.frame(frame, 1)
    assert Counter(topic for topic, *_ in memory.records) == {
        "alpaca.stocks.trades": 1, "alpaca.stocks.quotes": 3, "alpaca.stocks.bars": 1,
    }  # fmt: skip
    assert len({value[-8:] for *_, value, _ in memory.records}) == 5


def test_an_array_that_claims_to_be_huge_is_refused_and_not_waited_for() -> None:
    assert isinstance(unpack(b"\xdd\xff\xff\xff\xff")[0], Unreadable)
    assert isinstance(unpack(b"\x91" * 5000)[0], Unreadable)


def test_event_times_are_believed_as_far_ahead_of_our_clock_as_most_of_the_last_frames_were() -> None:
    """Otherwise a clock that is behind ends every gap too early, or one wrong time hides a whole hour."""
    received, ahead = 1_763_740_800 * 10**9, 5 * 10**9

    def trade(ns: int, number: int) -> bytes:
        stamp = msgpack.Timestamp.from_unix_nano(ns)
        return bytes(msgpack.packb([{**TRADE, "t": stamp, "i": number}]))

    intake, _ = _intake()
    for number in range(5):
        intake.frame(trade(received + number + ahead, number), received + number)
    assert intake.newest["trades"] == received + 4 + ahead
    intake, _ = _intake()
    for number in range(5):
        intake.frame(trade(received + number, number), received + number)
    intake.frame(trade(received + 3600 * 10**9, 9), received + 9)
    assert intake.newest["trades"] == received + 9 + 10**9
