"""A WebSocket frame's bytes -> its messages. One bad message costs only itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgpack

_NANOSECONDS = 2  # msgpack's way to say: timestamps as integer ns, exact and without an object each


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Bytes of a frame that are no message, and why."""

    raw: bytes
    reason: str


def unpack(raw: bytes | str) -> list[Any]:
    """The elements of a frame in their order; what cannot be unpacked is an `Unreadable` in its place.

    A frame whose end is missing, or that is no array, is one `Unreadable` with all its bytes.
    """
    if isinstance(raw, str):
        return [Unreadable(raw.encode("utf-8", "surrogatepass"), "a text frame; msgpack was asked for")]
    try:
        messages = _unpack(raw)
    except Exception as error:  # msgpack raises whatever the broken bytes make it raise
        return _one_by_one(raw, f"not msgpack: {type(error).__name__}: {error}")
    if type(messages) is list:
        return messages
    return [Unreadable(raw, f"not an array of messages but {type(messages).__name__}")]


def original(raw: bytes | str, index: int, message: object) -> bytes:
    """The bytes in which an element of `unpack(raw)` came."""
    if isinstance(message, Unreadable):
        return message.raw
    assert isinstance(raw, bytes)
    pieces = _pieces(raw)
    assert pieces is not None
    return pieces[index]


def _unpack(raw: bytes) -> Any:
    # surrogateescape: a text that is not UTF-8 spoils its own message (see normalize.text), not its frame.
    return msgpack.unpackb(
        raw, timestamp=_NANOSECONDS, strict_map_key=False, unicode_errors="surrogateescape"
    )


def _one_by_one(raw: bytes, reason: str) -> list[Any]:
    pieces = _pieces(raw)
    return [Unreadable(raw, reason)] if pieces is None else [_unpack_one(piece) for piece in pieces]


def _unpack_one(piece: bytes) -> Any:
    try:
        return _unpack(piece)
    except Exception as error:
        return Unreadable(piece, f"not msgpack: {type(error).__name__}: {error}")


@lru_cache(maxsize=1)  # a frame with many bad messages is split once
def _pieces(raw: bytes) -> list[bytes] | None:
    """The bytes of every element, or None when the frame is not one whole array."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(raw), 1))
    unpacker.feed(raw)
    ends = []
    try:
        for _ in range(unpacker.read_array_header()):
            ends.append(unpacker.tell())
            unpacker.skip()
    except Exception:
        return None
    ends.append(unpacker.tell())
    if ends[-1] != len(raw):
        return None
    return [raw[start:end] for start, end in pairwise(ends)]
