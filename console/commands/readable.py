"""One Kafka record as a line: for people, or as a JSON object. Pure; never fails, whatever the bytes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from schemas.codec import Codec
from tidewire.errors import RecordError

_NS = 1_000_000_000
_HEX_SHOWN = 64
_PROVENANCE = frozenset({"received_ts", "source", "owner_epoch", "event_id"})
_NAMES = ("symbol", "account", "feed", "id")


@dataclass(frozen=True, slots=True)
class Received:
    """What a consumer gets: `timestamp_ms` is the receive time of the event."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def line(record: Received, codec: Codec) -> str:
    """The record for people: event time (UTC), symbol, fields, place. Long values are cut."""
    place = f"[{record.partition}:{record.offset}]"
    headers = "".join(f" {name}={_plain(value)}" for name, value in _headers(record).items())
    try:
        _, fields = codec.decode(record.value)
    except RecordError as error:
        when = time_text(record.timestamp_ms * 1_000_000)
        why = headers or f" ! {error.reason}"  # a dead letter carries its own reason
        return f"{when}  {_key(record):<6} {why}  {_bytes(record.value)}  {place}"
    when = time_text(fields.get("ts", record.timestamp_ms * 1_000_000))
    name = next((str(fields[n]) for n in _NAMES if n in fields), _key(record))
    rest = (f"{k}={_plain(_value(k, v))}" for k, v in fields.items() if _is_shown(k, v, name))
    return f"{when}  {_plain(name):<6}  {' '.join(rest)}{headers}  {place}"


def json_line(record: Received, codec: Codec) -> str:
    """The record as one JSON object: its fields, and its place under "kafka".

    Bytes are hex, money is a string. What cannot be decoded has "error", "value" (hex) and "text" (where it
    is text) instead.
    """
    place: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _text(record.key),
    }
    if record.headers:
        place["headers"] = _headers(record)
    try:
        stem, fields = codec.decode(record.value)
    except RecordError as error:
        value = None if record.value is None else record.value.hex()
        found: Mapping[str, Any] = {"error": error.reason, "value": value, "text": _as_text(record.value)}
    else:
        found = {**fields}
        place["schema"] = stem
    return _json({**found, "kafka": place})


def time_text(ns: int) -> str:
    """Nanoseconds since 1970 as UTC text with all nine digits; the number itself where no calendar has it."""
    seconds, rest = divmod(ns, _NS)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d}Z"
    except (ValueError, OverflowError, OSError):
        return f"{ns}ns"


def _is_shown(name: str, value: Any, title: str) -> bool:
    if name == "ts" or name in _PROVENANCE or value is None:
        return False
    return not (name in _NAMES and str(value) == title)


def _value(name: str, value: Any) -> str:
    if name.endswith("_ts") and isinstance(value, int):
        return time_text(value).replace(" ", "T")
    if isinstance(value, Decimal):
        return _money(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return ",".join(str(part) for part in value)
    if isinstance(value, list | Mapping):
        return _json(value)
    return str(value)


def _money(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _json(value: Any) -> str:
    return orjson.dumps(value, default=_jsonable).decode()  # NaN and infinity, which JSON lacks, become null


def _jsonable(value: Any) -> str:
    return _money(value) if isinstance(value, Decimal) else bytes(value).hex()


def _plain(text: str) -> str:
    """Without control characters (a headline must not steer the terminal), and cut when very long."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:201])
    return f"{safe[:200]}..." if len(text) > 200 else safe


def _key(record: Received) -> str:
    return "-" if record.key is None else _plain(_text(record.key) or "-")


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "backslashreplace")


def _headers(record: Received) -> dict[str, str]:
    return {name: _text(value) or "" for name, value in record.headers}


def _bytes(value: bytes | None) -> str:
    if value is None:
        return ""
    if (text := _as_text(value)) is not None:
        return _plain(text)
    more = f"... ({len(value)} bytes)" if len(value) > _HEX_SHOWN else ""
    return value[:_HEX_SHOWN].hex() + more


def _as_text(value: bytes | None) -> str | None:
    """The bytes as text where they plainly are: a line of a tick file, a JSON frame."""
    try:
        text = (value or b"").decode()
    except UnicodeDecodeError:
        return None
    return text if text.replace("\n", "").replace("\t", "").isprintable() and text else None
