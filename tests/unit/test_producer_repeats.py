"""Frames that are sent twice. Lost otherwise: true repeats of quotes, or the trust in counts of quotes."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.frames import unpack
from producers.intake import Intake
from producers.repeats import FRAMES, LARGEST_FRAME, Repeats
from tests.unit.test_producer_intake import BAR, CODEC, QUOTE, TRADE, TS, Memory

LATER = {"t": msgpack.Timestamp(TS.seconds, TS.nanoseconds + 1)}
Message = dict[str, Any]


def published(*frames: bytes) -> tuple[int, int]:
    """(quotes in the log, dead letters) after these frames."""
    memory = Memory()
    intake = Intake("iex", Encoder(CODEC, Window(), Bars(), owner_epoch=1), memory, lambda topic: topic)
    for raw in frames:
        intake.frame(raw, 1)
    return sum(topic.endswith("quotes") for topic, *_ in memory.records), len(memory.letters)


def frame(*messages: Message) -> bytes:
    return bytes(msgpack.packb(list(messages)))


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        ((QUOTE, {**QUOTE, **LATER}), 2),  # time would have had to go back
        ((TRADE, QUOTE), 1),  # a trade's id is given once
        ((QUOTE,), 2),  # true repeats of a quote are real
        ((QUOTE, {**QUOTE, "bp": 1.4}), 4),  # and so are a pair's within one instant
        ((QUOTE, QUOTE), 4),
    ],
)
def test_a_frame_that_comes_again_counts_once_only_if_it_cannot_be_another(
    messages: tuple[Message, ...], kept: int
) -> None:
    assert published(frame(*messages), frame(*messages)) == (kept, 0)


def test_other_frames_may_come_between_but_not_many() -> None:
    twice = frame(QUOTE, {**QUOTE, **LATER})
    others = [frame({**QUOTE, "S": f"S{n}"}, {**QUOTE, "S": f"R{n}"}) for n in range(FRAMES)]
    single = [frame({**QUOTE, "S": f"T{n}"}) for n in range(FRAMES)]
    assert published(twice, *single, *others[1:], twice) == (2 + FRAMES + 2 * (FRAMES - 1), 0)
    assert published(twice, *others, twice) == (2 + 2 * FRAMES + 2, 0)


def test_a_frame_that_broke_off_is_the_same_as_the_whole_one_before_or_after_it() -> None:
    whole = frame(QUOTE, {**QUOTE, **LATER}, BAR)
    cut = whole[: len(frame(QUOTE)) + 9]
    assert published(cut, whole) == (2, 1)
    assert published(whole, cut) == (2, 1)
    assert published(cut, frame({**QUOTE, "bp": 9.5}, QUOTE, BAR)) == (3, 1)
    assert published(cut) == (1, 1)


def test_control_messages_and_bad_ones_of_a_repeated_frame_are_not_swallowed() -> None:
    memory = Memory()
    intake = Intake("iex", Encoder(CODEC, Window(), Bars(), owner_epoch=1), memory, lambda topic: topic)
    raw = frame(TRADE, {"T": "success", "msg": "x"}, {"T": "?"}, QUOTE)
    assert [intake.frame(raw, 1) for _ in range(2)] == [(3, [{"T": "success", "msg": "x"}])] * 2
    assert (len(memory.records), len(memory.letters)) == (2, 2)


def test_huge_frames_are_not_remembered() -> None:
    repeats = Repeats()
    raw = frame(TRADE, {**QUOTE, "padding": "x" * LARGEST_FRAME})
    assert [repeats.known(raw, unpack(raw)) for _ in range(2)] == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=12), st.randoms())
@settings(max_examples=60, deadline=None)
def test_frames_of_a_clock_that_does_not_go_back_lose_nothing_to_the_rule(
    sizes: list[tuple[int, int]], chance: Any
) -> None:
    """Any true stream, however its equal quotes fall into frames: each of them is kept."""
    frames, at = [], TS.nanoseconds
    for step, size in sizes:
        messages = []
        for _ in range(size):
            at += step * chance.randrange(2)
            stamp = msgpack.Timestamp(TS.seconds, at)
            messages.append({**QUOTE, "t": stamp, "bp": chance.choice((1.5, 1.25))})
        frames.append(frame(*messages))
    assert published(*frames) == (sum(size for _, size in sizes), 0)
