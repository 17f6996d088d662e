"""Faults on demand: what POST /sim/faults may ask for, and how a frame is spoilt. Pure.

A fault acts on one venue: `venue` is stocks (if left out), crypto or news.
Kinds (all but `refuse_auth` act on every authenticated socket of the venue):

- `drop`                       the TCP connection is aborted (RST), no close frame
- `close` code=1001            an orderly close frame
- `half_frame`                 half a WebSocket frame, then RST
- `mute` seconds=None          the socket stays open and says nothing (None: for good)
- `repeat` frames=1            the next data frames are sent twice
- `truncate` frames=1 extra=false   the next data frames are cut in the middle of their msgpack (extra: a cut
  copy goes before the whole one, so that nothing is lost but the copy)
- `malformed` frames=1 message={}   the next data frames get one more message, by default a broken trade
- `error` code=500 close=false an error frame; then a close if asked
- `refuse_auth` code=402 count=1    the next sign-ins are refused

What a fault adds is not market data: it is neither in the ledger nor in the published counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import orjson

from simulator.session import ERRORS

Spoil = Callable[[bytes, bool], list[bytes]]
"""(frame, is it msgpack) -> the frames sent instead."""

KINDS = (
    "drop",
    "close",
    "half_frame",
    "mute",
    "repeat",
    "truncate",
    "malformed",
    "error",
    "refuse_auth",
)
_BROKEN_TRADE = {"T": "t", "S": "BROKEN", "i": "not a number"}


@dataclass(frozen=True)
class Fault:
    """One demanded fault, checked."""

    kind: str
    code: int = 500
    count: int = 1
    seconds: float | None = None
    extra: bool = False
    close: bool = False
    message: Mapping[str, Any] | None = None


def parse(body: object) -> Fault:
    """Check a request's body.

    Raises:
        ValueError: not an object, an unknown kind or field, or a field of the wrong type.
    """
    if not isinstance(body, dict) or body.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    kind = body["kind"]
    default_code = {"close": 1001, "refuse_auth": 402}.get(kind, 500)
    known = {"kind", "code", "count", "frames", "seconds", "extra", "close", "message"}
    if unknown := set(body) - known:
        raise ValueError(f"unknown fields: {', '.join(sorted(map(str, unknown)))}")
    code, count = body.get("code", default_code), body.get("count", body.get("frames", 1))
    seconds, message = body.get("seconds"), body.get("message")
    if type(code) is not int or type(count) is not int or count < 1:
        raise ValueError("code and count (frames) are whole numbers")
    if kind in ("error", "refuse_auth") and code not in ERRORS:
        raise ValueError(f"no such error code: {code}")
    if not isinstance(seconds, int | float | None) or not isinstance(message, dict | None):
        raise ValueError("seconds is a number, message an object")
    return Fault(kind, code, count, seconds, bool(body.get("extra")), bool(body.get("close")), message)


def spoiler(fault: Fault) -> Spoil | None:
    """How a fault changes a data frame; None when it does not."""
    if fault.kind == "repeat":
        return lambda frame, packed: [frame, frame]
    if fault.kind == "truncate":
        rest = fault.extra
        return lambda frame, packed: [frame[: len(frame) // 2], *([frame] if rest else [])]
    if fault.kind == "malformed":
        message = fault.message or _BROKEN_TRADE
        return lambda frame, packed: [_insert(frame, message, packed=packed)]
    return None


def _insert(frame: bytes, message: Mapping[str, Any], *, packed: bool) -> bytes:
    """The frame with one more message in its middle."""
    messages = msgpack.unpackb(frame) if packed else orjson.loads(frame)
    messages.insert(len(messages) // 2, message)
    data: bytes = msgpack.packb(messages) if packed else orjson.dumps(messages)
    return data
