"""Alpaca messages -> canonical content, read here independently of the producer's own reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgpack
import polars as pl

from verify.content import (
    CHANNELS,
    JOINED,
    NUMBERS,
    SEPARATOR,
    STOCKS_VENUE,
    Channel,
    of_venue,
    with_canonical_numbers,
)

_CHANNEL_OF = {(c.venue, kind): c for c in CHANNELS for kind in c.kinds}
_KNOWN = {c.name: frozenset(["T", *c.fields.values()]) for c in CHANNELS}
_TIMES = frozenset({"ts", "created_ts"})
_SIDES = frozenset({"a", "b"})
_MAY_BE_NULL = frozenset(
    {
        "condition",
        "status_message",
        "reason_code",
        "reason_message",
        "indicator",
        "tape",
        "bid_exchange",
        "ask_exchange",
    }
)

Message = Mapping[str, Any]


def channel_of(message: Message, venue: str = STOCKS_VENUE) -> Channel | None:
    """The channel of a message by its type `T`, or None for a type that tidewire does not carry."""
    kind = message.get("T")
    return _CHANNEL_OF.get((venue, kind)) if isinstance(kind, str) else None


def row(channel: Channel, message: Message) -> tuple[Any, ...]:
    """The content row of one message.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: the message is broken.
    """
    values = []
    for name, field in channel.fields.items():
        optional = channel.optional
        value = message.get(field, optional[field]) if field in optional else message[field]
        values.append(_value(name, channel.content[name], value))
    known = _KNOWN[channel.name]
    unknown = {k: v for k, v in message.items() if k not in known or (k in _SIDES and _says_more(v))}
    values.append(
        json.dumps(unknown, sort_keys=True, separators=(",", ":"), default=_stamp) if unknown else None
    )
    return tuple(values)


def _says_more(side: Any) -> bool:
    """Whether a level of an order book has fields beside its price and size."""
    return isinstance(side, list) and any(isinstance(level, dict) and len(level) > 2 for level in side)


def _levels(name: str, side: Any) -> str:
    """The prices, or the sizes, of one side of an order book; a level without either is a KeyError."""
    field = "p" if name.endswith("prices") else "s"
    return SEPARATOR.join(repr(_number(name, pl.Float64, level[field])) for level in side or ())


def _value(name: str, dtype: type[pl.DataType], value: Any) -> Any:
    if name in _TIMES:
        return nanoseconds(value)
    if name in NUMBERS:
        return _levels(name, value)
    if dtype is pl.Boolean:
        return _truth(name, value)
    if value is None and name in _MAY_BE_NULL:
        return ""
    if name in JOINED:
        return SEPARATOR.join(value or ())
    if name == "interval":
        return "day" if value == "d" else "minute"
    if dtype is pl.String:
        if type(value) is int and name == "id":
            return str(value)
        if not isinstance(value, str):
            raise TypeError(f"{name} is no text")
        return value
    return _number(name, dtype, value)


def _truth(name: str, value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} is neither true nor false")
    return bool(value)


def _number(name: str, dtype: type[pl.DataType], value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is no number")
    if dtype is pl.Float64:
        return float(value)
    whole = int(value)
    if whole != value or not -(2**63) <= whole < 2**63:
        raise ValueError(f"{name} is no 64-bit integer")
    return whole


def nanoseconds(value: Any) -> int:
    """A message's time as ns since 1970 UTC: a msgpack timestamp, or RFC 3339 with up to nine digits.

    Raises:
        TypeError, ValueError: it is neither.
    """
    if isinstance(value, msgpack.Timestamp):
        return int(value.to_unix_nano())
    if not isinstance(value, str):
        raise TypeError("t is no time")
    head, dot, tail = value.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(head)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if dot and not tail.isdigit():
        raise ValueError(f"not a time: {value}")
    return int(moment.timestamp()) * 1_000_000_000 + int((tail + "0" * 9)[:9])


def _stamp(value: Any) -> Any:
    if isinstance(value, msgpack.Timestamp):
        return value.to_unix_nano()
    return value.hex() if isinstance(value, bytes) else str(value)


def fingerprint(message: Message) -> str:
    """One text for a message that has no content row, the same whether it came as msgpack or as JSON."""
    plain = {str(k): _same_time(v) if k == "t" else v for k, v in message.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), default=_stamp)


def _same_time(value: Any) -> Any:
    try:
        return nanoseconds(value)
    except (TypeError, ValueError):
        return value


class Collector:
    """Sorts messages of a venue into one frame per channel; what has no row is kept by fingerprint."""

    def __init__(self, venue: str = STOCKS_VENUE) -> None:
        self._venue, self._channels = venue, of_venue(venue)
        self._rows: dict[str, list[tuple[Any, ...]]] = {c.name: [] for c in self._channels}
        self._frames: dict[str, list[pl.DataFrame]] = {c.name: [] for c in self._channels}
        self.odd: list[Message] = []
        self.corrections: set[str] = set()
        """Fingerprints of T=c and T=x; they have a topic but no table or rows: they are counted."""

    def add(self, messages: Iterable[Any]) -> None:
        """Take the messages of one frame; anything that is no map is ignored."""
        for message in messages:
            if not isinstance(message, dict):
                continue
            channel = channel_of(message, self._venue)
            if self._venue == STOCKS_VENUE and message.get("T") in ("c", "x"):
                self.corrections.add(fingerprint(message))
                continue
            if channel is None:
                self.odd.append(message)
                continue
            try:
                self._rows[channel.name].append(row(channel, message))
            except (KeyError, TypeError, ValueError, OverflowError):
                self.odd.append(message)

    def pack(self) -> None:
        """Turn the rows held so far into columns, which take a tenth of the memory."""
        for channel in self._channels:
            if rows := self._rows[channel.name]:
                frame = pl.DataFrame(rows, schema=channel.shape, orient="row")
                self._frames[channel.name].append(with_canonical_numbers(frame))
                self._rows[channel.name] = []

    def frame(self, channel: Channel) -> pl.DataFrame:
        """All content rows of one channel."""
        self.pack()
        return pl.concat([channel.empty(), *self._frames[channel.name]])


def from_bytes(value: bytes) -> list[Any]:
    """The messages in a dead letter's bytes: msgpack or JSON, one or a list, as far as readable."""
    if value[:1] in (b"{", b"["):
        try:
            loaded = json.loads(value)
        except ValueError:
            return []
        return loaded if isinstance(loaded, list) else [loaded]
    return _from_msgpack(value)


def _from_msgpack(value: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(value), 1), strict_map_key=False)
    unpacker.feed(value)
    messages: list[Any] = []
    try:
        first = value[0] if value else 0
        if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
            for _ in range(unpacker.read_array_header()):
                messages.append(unpacker.unpack())  # noqa: PERF401  (what was read before the break counts)
        else:
            messages.append(unpacker.unpack())
    except (msgpack.UnpackException, ValueError):
        pass  # cut off or broken here; the messages before it stand
    return messages
