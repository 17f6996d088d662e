"""Spoiled frames through the producers' intake with the real encoders: nothing may break, nothing may vanish.

Every byte of a frame belongs to one of its messages, or to the frame as a whole when it cannot be taken
apart; each of them must end in exactly one way: published, duplicate, dead-lettered with its own bytes, or
handed on as control. What a frame holds is found here by a walk of our own over its bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from producers.channel import Encoder
from producers.crypto import CryptoEncoder
from producers.encoder import Encoder as StockEncoder
from producers.entrance import Bars, Window
from producers.intake import Intake
from producers.news import NewsEncoder
from producers.options import OptionEncoder
from schemas.codec import Codec, load_codec
from tests.chaos import feeds_frames
from tidewire import config
from tidewire.dead_letters import DeadLetter
from tidewire.metrics import MESSAGES_DUPLICATE

_BEGIN = 1_763_740_800
_NS = 10**9
_DEEP = b"\x91" * 1_024
"""Nested deeper than msgpack's reader goes: from there on a frame cannot be taken apart."""
WARM_UP = 2_000
"""Frames before memory is measured: caches are full then."""


@dataclass
class Tally:
    """What became of the messages. `wrong`: frames of which something was lost or invented."""

    frames: int = 0
    frame_bytes: int = 0
    messages: int = 0
    published: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    control: int = 0
    crashes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    grown_bytes: int = 0


class Log:
    """Counts records, and keeps the letters of one frame only."""

    def __init__(self) -> None:
        self.records = 0
        self.letters: list[DeadLetter] = []

    def adder(self, topic: str) -> Callable[[bytes, bytes, int], None]:
        """Counts the records of a topic."""

        def add(key: bytes, value: bytes, timestamp: int) -> None:
            self.records += 1

        return add

    def dead_letter(self, letter: DeadLetter, timestamp_ms: int) -> None:
        """Keep one dead letter."""
        self.letters.append(letter)


def fuzz(frames: int, seed: int) -> Tally:
    """Send so many frames through an intake of each feed in turn."""
    codec, chance, tally = load_codec(config.load(_env_file=None)), random.Random(seed), Tally()
    lines = [_Line(f"fuzz-{seed}-{kind}", encoder) for kind, encoder in _encoders(codec).items()]
    process, before = psutil.Process(), 0
    for number in range(frames):
        if number == min(WARM_UP, frames // 2):
            before = process.memory_info().rss
        which = chance.choices(range(4), (6, 2, 1, 2))[0]
        now = _BEGIN * _NS + number * 50_000_000
        lines[which].take(feeds_frames.frame(chance, feeds_frames.MAKERS[which], now), now, tally)
    tally.grown_bytes = process.memory_info().rss - before
    return tally


def _encoders(codec: Codec) -> dict[str, Encoder]:
    return {
        "stocks": StockEncoder(codec, Window(), Bars(), owner_epoch=1),
        "crypto": CryptoEncoder(codec, owner_epoch=1),
        "news": NewsEncoder(codec, owner_epoch=1),
        "options": OptionEncoder(codec, owner_epoch=1),
    }


class _Line:
    def __init__(self, feed: str, encoder: Encoder) -> None:
        self._feed, self._log = feed, Log()
        self._intake = Intake(feed, encoder, self._log, lambda topic: topic)
        names = {channel.name for channel in encoder.channels().values()} | {"unknown"}
        self._dropped = [MESSAGES_DUPLICATE.labels(feed, name) for name in names]
        self._before = self._repeats()

    def take(self, raw: bytes | str, now_ns: int, tally: Tally) -> None:
        """One frame, and the account of it."""
        log = self._log
        log.records, log.letters = 0, []
        tally.frames += 1
        tally.frame_bytes += len(raw)
        try:
            count, control = self._intake.frame(raw, now_ns)
        except Exception as error:  # the very thing that is looked for
            tally.crashes.append(f"{error!r} at {raw[:200]!r}")
            return
        dropped = 0
        if count != log.records + len(log.letters):  # reading the metric is slow
            repeats = self._repeats()
            dropped, self._before = int(repeats - self._before), repeats
        tally.messages += count + len(control)
        tally.published += log.records
        tally.duplicates += dropped
        tally.dead_letters += len(log.letters)
        tally.control += len(control)
        problem = _account(raw, count, len(control), log.records + dropped, [x.value for x in log.letters])
        if problem is not None:
            tally.wrong.append(f"{problem}: {raw[:200]!r}")

    def _repeats(self) -> float:
        return sum(
            sample.value
            for child in self._dropped
            for m in child.collect()
            for sample in m.samples
            if sample.name.endswith("_total")
        )


def _account(raw: bytes | str, count: int, control: int, taken: int, letters: list[bytes]) -> str | None:
    """What does not add up of one frame; None: all of it does."""
    if count != taken + len(letters):
        return f"{count} messages, {taken} taken and {len(letters)} dead letters"
    pieces, rest = ([], raw.encode("utf-8", "surrogatepass")) if isinstance(raw, str) else split(raw)
    if rest is not None:
        if not letters or letters[-1] != rest:
            return "the rest of a broken frame is not kept"
        letters, count = letters[:-1], count - 1
    if len(pieces) != count + control:
        return f"{len(pieces)} messages lie in it, {count + control} were seen"
    left = iter(pieces)
    return None if all(letter in left for letter in letters) else "a dead letter has other bytes"


def split(raw: bytes) -> tuple[list[bytes], bytes | None]:
    """The whole messages at a frame's beginning, by their bytes; and what is left if it is not all of them.

    Left is the whole frame if it holds no whole message; its head if it only promised more.
    """
    head = _length(raw)
    if head is None:
        return [], raw
    count, at = head
    pieces: list[bytes] = []
    for _ in range(count):
        end = _end(raw, at)
        if end is None or _DEEP in raw[at:end]:
            return pieces, (raw[at:] or raw[: head[1]]) if pieces else raw
        pieces.append(raw[at:end])
        at = end
    if at == len(raw):
        return pieces, None
    return pieces, raw[at:] if pieces else raw


def _length(raw: bytes) -> tuple[int, int] | None:
    first = raw[0] if raw else 0
    if 0x90 <= first <= 0x9F:
        return first & 15, 1
    size = {0xDC: 2, 0xDD: 4}.get(first)
    if size is None or len(raw) < 1 + size:
        return None
    return int.from_bytes(raw[1 : 1 + size], "big"), 1 + size


_FIXED = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2,
    0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_SIZED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
          0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}  # fmt: skip
_NESTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def _end(raw: bytes, at: int) -> int | None:
    """Where the value at a place ends, by msgpack's specification; None: beyond the end, or no value."""
    left = 1
    while left:
        if at >= len(raw):
            return None
        first = raw[at]
        at, left = at + 1, left - 1
        if first <= 0x7F or first >= 0xE0:
            continue
        if 0x80 <= first <= 0x9F:
            left += (first & 15) * (2 if first < 0x90 else 1)
        elif 0xA0 <= first <= 0xBF:
            at += first & 31
        elif first in _FIXED:
            at += _FIXED[first]
        elif first in _SIZED:
            size, more = _SIZED[first]
            at += size + more + int.from_bytes(raw[at : at + size], "big")
        elif first in _NESTED:
            size, each = _NESTED[first]
            left += each * int.from_bytes(raw[at : at + size], "big")
            at += size
        else:
            return None
    return at if at <= len(raw) else None
