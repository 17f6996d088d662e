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

    Of a frame that breaks off, or has more bytes than messages, the whole messages before that place are
    taken and the rest is one `Unreadable`; a frame that is no array, or holds no whole message, is one with
    all its bytes.
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
    return _pieces(raw)[0][index]


def _unpack(raw: bytes) -> Any:
    # surrogateescape: a text that is not UTF-8 spoils its own message (see normalize.text), not its frame.
    return msgpack.unpackb(
        raw, timestamp=_NANOSECONDS, strict_map_key=False, unicode_errors="surrogateescape"
    )


def _one_by_one(raw: bytes, reason: str) -> list[Any]:
    pieces, rest = _pieces(raw)
    if not pieces:
        return [Unreadable(raw, reason)]
    messages = [unpack_one(piece) for piece in pieces]
    if rest:
        messages.append(Unreadable(rest, f"after {len(pieces)} whole messages: {reason}"))
    return messages


def unpack_one(piece: bytes) -> Any:
    """One message; bytes that are none are an `Unreadable`."""
    try:
        return _unpack(piece)
    except Exception as error:
        return Unreadable(piece, f"not msgpack: {type(error).__name__}: {error}")


@lru_cache(maxsize=1)  # a frame with many bad messages is split once
def _pieces(raw: bytes) -> tuple[list[bytes], bytes]:
    """The bytes of every element, and those that follow the last; both may be empty.

    With nothing left of a frame that promised more elements these are its head, which says how many.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(raw), 1))
    unpacker.feed(raw)
    ends, whole = [], False
    try:
        promised = unpacker.read_array_header()
        ends.append(unpacker.tell())
        for _ in range(promised):
            unpacker.skip()
            ends.append(unpacker.tell())
        whole = True
    except Exception:  # noqa: S110 - what could not be read is the rest
        pass
    if not ends:
        return [], raw
    pieces = [raw[start:end] for start, end in pairwise(ends)]
    return pieces, raw[ends[-1] :] or (b"" if whole else raw[: ends[0]])
