"""JSON lines as messages of a tape: one Alpaca market-data message a line, `.jsonl[.gz]`.

Whatever has a type, a symbol and a time is sent as it is, known or not: what to do with a strange message is
the receiver's task. Prices become floats, as in Alpaca's msgpack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import orjson

from simulator import line_tape, rfc3339
from simulator.lines import ReadError, open_text
from simulator.rejects import Rejects
from simulator.wire import CHANNELS, OTHER, Message, Streams, pack, timestamp, trade_part

NAME = re.compile(r".+\.(jsonl|ndjson|json)(\.gz)?")

_FLOATS = {
    "t": ("p",),
    "q": ("bp", "ap"),
    "b": ("o", "h", "l", "c", "vw"),
    "u": ("o", "h", "l", "c", "vw"),
    "d": ("o", "h", "l", "c", "vw"),
    "l": ("u", "d"),
    "c": ("op", "cp"),
    "x": ("p",),
    "i": ("p",),
}


def check_start(path: Path) -> str | None:
    """Why the file cannot be used, judged by its first bytes; None when it can."""
    try:
        with open_text(path) as text:
            start = text.read(1)
    except (ReadError, OSError, EOFError) as error:
        return f"cannot be read: {error}"
    return None if start else "empty"


def read(path: Path, streams: Streams, rejects: Rejects) -> Iterator[list[Message]]:
    """The messages of a file in its order, in blocks that never end within messages of one arrival time."""
    return line_tape.read(path, lambda raw: _message(raw, streams), rejects)


def _message(raw: bytes, streams: Streams) -> Message | str:
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error}"
    if not isinstance(fields, dict):
        return "not a JSON object"
    for name in ("T", "S", "t"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            return f"no {name}"
    try:
        ns = rfc3339.parse(fields["t"])
    except ValueError as error:
        return str(error)
    kind = fields["T"]
    for name in _FLOATS.get(kind, ()):
        if type(fields.get(name)) is int:
            fields[name] = float(fields[name])
    part = trade_part(fields) if kind == "t" else None
    try:
        packed = pack({"T": kind, **fields, "t": timestamp(ns)})
    except (OverflowError, ValueError) as error:
        return f"cannot be packed: {error}"
    return (ns, ns, streams.get(CHANNELS.get(kind, OTHER), fields["S"]), packed, part)
