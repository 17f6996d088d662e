"""Messages as WebSocket frames: encoded once, then the same immutable bytes go to every connection. Pure."""

from __future__ import annotations

import struct
from typing import Any

import orjson

_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_SHORT, _MEDIUM = 125, 0xFFFF


def text(payload: bytes) -> bytes:
    """One unmasked, final text frame (RFC 6455, 5.2), as a server sends it."""
    size = len(payload)
    if size <= _SHORT:
        return bytes((_TEXT, size)) + payload
    if size <= _MEDIUM:
        return struct.pack("!BBH", _TEXT, 126, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


def of(message: Any) -> bytes:
    """The text frame of a message that orjson can write."""
    return text(orjson.dumps(message))


def enveloped(kind: str, timestamp: str, user: str, data: bytes) -> bytes:
    """The text frame of D1's envelope around data that is JSON already.

    The data of an update is encoded once for all users who see the account; only this is made for each.
    """
    head = orjson.dumps({"type": kind, "timestamp": timestamp, "userId": user})
    return text(b"".join((head[:-1], b',"data":', data, b"}")))


def close(code: int, reason: str) -> bytes:
    """A close frame; the reason is for people, in at most 123 bytes."""
    payload = code.to_bytes(2, "big") + reason.encode()[:123]
    return bytes((_CLOSE, len(payload))) + payload


PING = bytes((_PING, 0))


def pong(data: bytes) -> bytes:
    """The answer to a client's ping; control frames carry at most 125 bytes."""
    return bytes((_PONG, len(data))) + data
