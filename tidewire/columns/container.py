"""Kafka records as an Avro container file, which Polars reads in Rust.

A Kafka v2 record is itself a valid Avro record: varint length, attributes, varint deltas, key, value length,
then the Confluent header and the value, then a count of headers. So the records of whole batches, behind a
container header whose schema says so, are an Avro file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro

from tidewire.varints import varint

_SYNC = b"tidewire-columns"
FRAME = [
    ("_len", "long"),
    ("_attr", "long"),
    ("_tsd", "long"),
    ("_off", "long"),
    ("_key", "string"),
    ("_vlen", "long"),
    ("_magic", "long"),  # one zero byte
    ("_sid", "float"),  # the four bytes of the schema id, unread
]
"""Names and Avro types of what stands before the value."""
HEADERS = "_hdrs"
"""The count of headers, behind the value; the headers themselves cannot be read."""


def head(fields: Sequence[Mapping[str, Any]]) -> bytes:
    """The start of a container of records whose values have these fields."""
    around: list[Any] = [{"name": name, "type": kind} for name, kind in FRAME]
    around += [*fields, {"name": HEADERS, "type": "long"}]
    text = json.dumps({"type": "record", "name": "KafkaRecord", "fields": around}).encode()
    schema = b"".join((varint(11), b"avro.schema", varint(len(text)), text))
    codec = b"".join((varint(10), b"avro.codec", varint(4), b"null"))
    return b"".join((b"Obj\x01", varint(2), schema, codec, varint(0), _SYNC))


def container(head: bytes, count: int, size: int, bodies: Sequence[bytes]) -> bytes:
    """A container of `count` records whose bytes (`size` in all) are the bodies, joined."""
    return b"".join((head, varint(count), varint(size), *bodies, _SYNC))


def record(key: bytes, value: bytes) -> bytes:
    """A record as the reader wants it, whatever its headers, deltas and neighbours were."""
    body = b"".join((b"\0\0\0", varint(len(key)), key, varint(len(value)), value, b"\0"))
    return varint(len(body)) + body


def sentinel(schema: Mapping[str, Any], schema_id: int, key: str, token: str) -> bytes:
    """The smallest record of a schema whose key, and whose field of that name, is the token."""
    smallest = {f["name"]: _smallest(f["type"]) for f in schema["fields"]} | {key: token}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(dict(schema)), smallest)
    return record(token.encode(), b"\0" + schema_id.to_bytes(4, "big") + out.getvalue())


def first_schema_id(body: bytes) -> int | None:
    """The schema id in the first record of a batch's records; None: there is no record of our format."""
    try:
        _, at = _varint(body, 0)
        _, at = _varint(body, at + 1)
        _, at = _varint(body, at)
        size, at = _varint(body, at)
        _, at = _varint(body, at + max(size, 0))
    except IndexError:
        return None
    found = body[at : at + 5]
    return int.from_bytes(found[1:], "big") if len(found) == 5 and not found[0] else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer, and where the next thing begins."""
    number = shift = 0
    while data[at] > 127:
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    number |= data[at] << shift
    return (number >> 1) ^ -(number & 1), at + 1


def _smallest(kind: Any) -> Any:
    """Any value of an Avro type that Polars reads."""
    if isinstance(kind, list):
        return _smallest(kind[0])
    if isinstance(kind, dict):
        return kind["symbols"][0] if kind["type"] == "enum" else _smallest(kind["type"])
    empty: dict[str, Any] = {"null": None, "string": "", "bytes": b"", "array": [], "boolean": False}
    return empty.get(kind, 0)
