"""Blocks -> Polars columns, in Rust, with every record proved or refused on its own.

A Kafka v2 record is itself a valid Avro record: varint length, attributes, varint deltas, key, value length,
then the Confluent header and the value, then a count of headers. So the records of whole batches, behind a
container header whose schema says so, are an Avro file that Polars reads without a Python object a record.

One broken record shifts all that follow, and Polars then panics or, worse, returns wrong rows. Therefore
each read is proved (`_proved`), ends with a sentinel record that must come out whole, and is otherwise
repeated in halves until the broken records stand alone. The same reader judges those, so that a record's
fate never depends on its neighbours: a replay with other batches refuses the same records.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl
from aiokafka import codec
from aiokafka.record.default_records import DefaultRecordBatch

from tidewire.columns.blocks import HEADER, Block
from tidewire.columns.reasons import Reasons

Offsets = npt.NDArray[np.int64]

_SYNC = b"tidewire-columns"
_FRAME = [
    ("_len", "long"),
    ("_attr", "long"),
    ("_tsd", "long"),
    ("_off", "long"),
    ("_key", "string"),
    ("_vlen", "long"),
    ("_magic", "long"),  # one zero byte
    ("_sid", "float"),  # the four bytes of the schema id, unread
]
_PROOF = ["_len", "_attr", "_off", "_key", "_magic", "_sid", "_hdrs"]
_CODEC = 22  # the byte of a batch header whose lowest three bits name the compression
_DECOMPRESS = [bytes, codec.gzip_decode, codec.snappy_decode, codec.lz4_decode, codec.zstd_decode]


@dataclass(frozen=True, slots=True)
class Refused:
    """One record that cannot be read, as Kafka holds it (null key or value: None), and why."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows and their offsets, in offset order, and what was refused. `bisected`: the slow way was taken."""

    frame: pl.DataFrame
    offsets: Offsets
    refused: list[Refused] = field(default_factory=list)
    bisected: bool = False


class Decoder:
    """Decodes record batches of one schema. `columns` None: all; the key must equal the field `key`."""

    def __init__(
        self,
        schema: dict[str, Any],
        schema_id: int,
        key: str = "symbol",
        columns: Sequence[str] | None = None,
    ) -> None:
        self._id, self._key = schema_id, key
        self._columns = list(columns) if columns is not None else [f["name"] for f in schema["fields"]]
        self._read_columns = [*_PROOF, *dict.fromkeys([key, *self._columns])]
        self._head = _container_head(schema)
        self._token = secrets.token_hex(8)  # nobody can make a record that looks like the sentinel
        self._sentinel = _sentinel(schema, schema_id, key, self._token)
        self._reasons = Reasons(schema, schema_id, key)

    def __call__(self, blocks: Sequence[Block]) -> Decoded:
        """Decode blocks of one partition, in order."""
        counts = [b.count for b in blocks]
        try:
            bodies = [_DECOMPRESS[b.raw[_CODEC] & 7](b.raw[HEADER:]) for b in blocks]
        except Exception:  # whatever a decompressor raises: the slow way names the batch
            return self._sift(blocks)
        frame = self._read(bodies, sum(counts))
        if frame is None:
            return self._sift(blocks)
        offsets = frame["_off"].to_numpy() + np.repeat(np.array([b.base for b in blocks], np.int64), counts)
        if (offsets[1:] <= offsets[:-1]).any():
            return self._sift(blocks)
        rows = _pick(frame, self._columns)
        if any(b.start > b.base for b in blocks):  # the fetch began inside a record batch
            wanted = offsets >= np.repeat([b.start for b in blocks], counts)
            return Decoded(rows.filter(pl.Series(wanted)), offsets[wanted])
        return Decoded(rows, offsets)

    def _read(self, bodies: Sequence[bytes], count: int) -> pl.DataFrame | None:
        """The rows of `count` records, or None where anything at all is wrong with them."""
        count += 1
        size = sum(map(len, bodies)) + len(self._sentinel)
        parts = (self._head, zigzag(count), zigzag(size), *bodies, self._sentinel, _SYNC)
        try:
            frame = pl.read_avro(io.BytesIO(b"".join(parts)), columns=self._read_columns)
            return frame.head(count - 1) if self._proved(frame, count, size) else None
        except (Exception, pl.exceptions.PanicException):  # a panic is a BaseException
            return None

    def _proved(self, frame: pl.DataFrame, count: int, size: int) -> bool:
        """Whether keys, ids, zero bytes, the sum of the lengths and the sentinel all agree."""
        keys = frame.get_column("_key")
        if frame.height != count or keys[-1] != self._token:
            return False
        length = frame.get_column("_len").to_numpy()
        used = int(length.sum()) + count + sum(int((length >= 1 << bits).sum()) for bits in (6, 13, 20))
        return bool(
            used == size
            and (keys == frame.get_column(self._key)).all()
            and (frame.get_column("_sid").to_numpy().view(">u4") == self._id).all()
            and not any(frame.get_column(name).to_numpy().any() for name in ("_hdrs", "_attr", "_magic"))
        )

    def _sift(self, blocks: Sequence[Block]) -> Decoded:
        """The slow way: halve until the broken records stand alone."""
        refused: list[Refused] = []
        records = [r for b in blocks for r in _records(b, refused)]
        sound = []
        for record in records:
            reason = self._reasons.of_envelope(record.key, record.value)
            if reason is None:
                sound.append(record)
            else:
                refused.append(_refuse(record, reason))
        todo, frames, offsets = [sound], [self._empty()], list[int]()
        while todo:
            part = todo.pop()
            frame = self._read([_canonical(r.key, r.value) for r in part], len(part)) if part else None
            if frame is not None:
                frames.append(_pick(frame, self._columns))
                offsets += [r.offset for r in part]
            elif len(part) > 1:
                half = len(part) // 2
                todo += [part[half:], part[:half]]
            elif part:
                refused.append(_refuse(part[0], self._reasons.of_value(part[0].key, part[0].value)))
        refused.sort(key=lambda r: r.offset)
        return Decoded(pl.concat(frames, rechunk=True), np.array(offsets, np.int64), refused, bisected=True)

    def _empty(self) -> pl.DataFrame:
        frame = self._read([], 0)
        assert frame is not None, "the sentinel of a schema must decode"
        return _pick(frame, self._columns)


def _pick(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """The columns by name. Polars' own ways take a hundred microseconds, which small batches feel."""
    try:
        return pl.DataFrame._from_pydf(frame._df.select(columns))
    except AttributeError:  # another Polars
        return frame.select(columns)


def zigzag(number: int) -> bytes:
    """Avro's and Kafka's variable-length form of an integer >= 0."""
    number, out = 2 * number, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _container_head(schema: dict[str, Any]) -> bytes:
    fields = [{"name": name, "type": kind} for name, kind in _FRAME]
    fields += [*schema["fields"], {"name": "_hdrs", "type": "long"}]
    text = json.dumps({"type": "record", "name": "KafkaRecord", "fields": fields}).encode()
    return b"".join(
        (
            b"Obj\x01",
            zigzag(2),
            zigzag(11),
            b"avro.schema",
            zigzag(len(text)),
            text,
            zigzag(10),
            b"avro.codec",
            zigzag(4),
            b"null",
            zigzag(0),
            _SYNC,
        )
    )


def _canonical(key: bytes, value: bytes) -> bytes:
    """A record as the reader wants it, whatever its headers, deltas and neighbours were."""
    body = b"".join((b"\0\0\0", zigzag(len(key)), key, zigzag(len(value)), value, b"\0"))
    return zigzag(len(body)) + body


def _sentinel(schema: dict[str, Any], schema_id: int, key: str, token: str) -> bytes:
    record = {f["name"]: _smallest(f["type"]) for f in schema["fields"]} | {key: token}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return _canonical(token.encode(), b"\0" + schema_id.to_bytes(4, "big") + out.getvalue())


def _smallest(kind: Any) -> Any:
    """Any value of an Avro type that Polars reads."""
    if isinstance(kind, list):
        return _smallest(kind[0])
    if isinstance(kind, dict):
        return kind["symbols"][0] if kind["type"] == "enum" else _smallest(kind["type"])
    empty: dict[str, Any] = {"null": None, "string": "", "bytes": b"", "array": [], "boolean": False}
    return empty.get(kind, 0)


def _records(block: Block, refused: list[Refused]) -> list[Any]:
    """The wanted records of a batch one by one; a batch that cannot be unpacked is refused whole."""
    try:
        return [r for r in DefaultRecordBatch(bytes(block.raw)) if r.offset >= block.start]
    except Exception as error:  # a decompressor's or the unpacker's own
        reason = f"record batch of offsets {block.base}-{block.last} cannot be unpacked: {error!r}"
        refused.append(Refused(block.start, None, bytes(block.raw), block.timestamp_ms, reason))
        return []


def _refuse(record: Any, reason: str) -> Refused:
    return Refused(record.offset, record.key, record.value, record.timestamp, reason)
