"""Frames of ordinary trades and quotes alone, the most of a busy day, made into records by native code.

frames.c takes a frame whole or leaves it to the encoder, which takes it message by message; what comes out is
the same to the byte. Which events the log holds already is asked here, message by message, as there.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from producers import normalize
from producers.channel import Message
from producers.entrance import Window
from producers.frames import unpack_one
from producers.native.library import COLUMNS, Layout, load
from schemas import event_id
from schemas.codec import Codec

_MOST = 4_096
"""Messages of a frame; Alpaca's have a few hundred at the most."""
_VALUES_BYTES = 1 << 20
LEAST_BYTES = 150
"""Of a frame. One message alone takes Python less time than it takes to ask."""
_TRADE = ord("t")
_NAMES = {ord("t"): "t", ord("q"): "q"}


@dataclass(slots=True)
class WholeFrame:
    """What native code has read of one frame. Of each message: its kind, its event time (ns), where its
    symbol begins and ends in the frame, where its value ends in `values`, and where it begins in the frame.
    """

    raw: bytes
    values: bytes
    _kinds: list[int]
    _times: list[int]
    _keys_from: list[int]
    _keys_to: list[int]
    _ends: list[int]
    _begins: list[int]
    _window: Window

    def __len__(self) -> int:
        return len(self._kinds)

    def is_one(self) -> bool:
        """Whether an equal frame can only be this one again (see repeats.py)."""
        return _TRADE in self._kinds or len(set(self._times)) > 1

    def counts(self) -> dict[str, int]:
        """Messages by type."""
        trades = self._kinds.count(_TRADE)
        quotes = len(self._kinds) - trades
        return {kind: count for kind, count in (("t", trades), ("q", quotes)) if count}

    def newest(self) -> dict[str, int]:
        """The event time of the last message of each type."""
        last = dict(zip(self._kinds, self._times, strict=True))
        return {_NAMES[kind]: ts for kind, ts in last.items()}

    def last(self) -> dict[str, Message]:
        """The last message of each type."""
        last = {kind: number for number, kind in enumerate(self._kinds)}
        return {_NAMES[kind]: self._message(number) for kind, number in last.items()}

    def records(self) -> Iterator[tuple[str, bytes, bytes | None]]:
        """Type, key and value of each message's record, in order; None for what the log holds already."""
        raw, values, repeats, start = self.raw, self.values, self._window.repeats, 0
        spans = zip(self._kinds, self._times, self._keys_from, self._keys_to, self._ends, strict=True)
        for number, (kind, ts, key_from, key_to, end) in enumerate(spans):
            value: bytes | None = values[start:end]
            came = repeats(ts, values[end - event_id.SIZE : end])
            if came:
                first = values[start : end - event_id.SIZE]
                value = None if kind == _TRADE else first + self._again(number, came)
            start = end
            yield _NAMES[kind], raw[key_from:key_to], value

    def _again(self, number: int, ordinal: int) -> bytes:
        """The event id of a quote that came before: told apart by its ordinal."""
        c = normalize.quote(self._message(number))
        return event_id.quote_id(
            c["symbol"], c["ts"],
            c["bid_exchange"], c["bid_price"], c["bid_size"],
            c["ask_exchange"], c["ask_price"], c["ask_size"],
            c["conditions"], c["tape"], ordinal,
        )  # fmt: skip

    def _message(self, number: int) -> Any:
        begins = self._begins
        return unpack_one(self.raw[begins[number] : begins[number + 1] if number + 1 < len(begins) else None])


class WholeFrames:
    """Reads frames; `window` knows which events the log holds."""

    def __init__(self, codec: Codec, window: Window) -> None:
        library = load()
        self._read = None if library is None else library.tidewire_frame
        self._window = window
        self._headers = codec.header("stock_trade"), codec.header("stock_quote")
        self._layout = Layout(*self._headers, b"", 0)
        self._values = ctypes.create_string_buffer(_VALUES_BYTES)
        self._rows = array("q", bytes(8 * COLUMNS * _MOST))
        self._view = memoryview(self._rows)
        self._places = ctypes.addressof(self._values), self._rows.buffer_info()[0]

    def read(self, raw: bytes, tail: bytes) -> WholeFrame | None:
        """A frame whose messages are all ordinary; None: it is to be read message by message.

        `tail`: what every record of the frame has between its tape and its event id.
        """
        if self._read is None or len(raw) < LEAST_BYTES:
            return None
        values, rows = self._places
        self._layout.tail, self._layout.tail_size = tail, len(tail)
        count = self._read(raw, len(raw), self._layout, values, _VALUES_BYTES, rows, _MOST)
        if count <= 0:  # an empty frame is as rare as an odd one
            return None
        found = self._view[: COLUMNS * count].tolist()
        kinds, times, keys_from, keys_to, ends, begins = (found[n::COLUMNS] for n in range(COLUMNS))
        whole = ctypes.string_at(values, ends[-1])
        return WholeFrame(raw, whole, kinds, times, keys_from, keys_to, ends, begins, self._window)
