"""Records to bytes and back: Confluent's wire format (0x00, 4-byte schema id, Avro) by fastavro.

Every schema is parsed once. Decoding knows every version that was ever written and gives each record in
the shape of the current schema; whatever is no such record is refused with a precise reason.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from operator import itemgetter
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from schemas import catalogue, compatibility, lock, registry
from schemas.compiled import Unusual, compiled
from schemas.decimals import Decimals
from tidewire.config import Settings
from tidewire.errors import RecordError, SchemaError

MAGIC = 0
HEADER_SIZE = 5
_header = struct.Struct(">BI")

_NOT_COMPILED = (Unusual, KeyError, ValueError, TypeError, OverflowError, ArithmeticError)

Record = dict[str, Any]
Encoder = Callable[[Mapping[str, Any]], bytes]


@dataclass(frozen=True, slots=True)
class Version:
    """One schema that may stand in front of a record: its id, its stem and its definition."""

    id: int
    stem: str
    schema: Mapping[str, Any]


class Codec:
    """Encodes by stem (the name of an .avsc without its ending) and decodes by the id in the bytes.

    `current` are the versions to write with, one a stem; `former` are others that are still read.
    Safe to share between threads.
    """

    def __init__(self, current: Iterable[Version], former: Iterable[Version] = ()) -> None:
        versions = tuple(current)
        self._current = {version.stem: version for version in versions}
        self._former = tuple(former)
        self._decimals = {v.stem: Decimals(v.schema) for v in versions}
        self._parsed = {stem: parse_schema(decimals.plain) for stem, decimals in self._decimals.items()}
        self._encoders = {v.stem: _encoder(v, self._parsed[v.stem], self._decimals[v.stem]) for v in versions}
        self._readers: dict[int, tuple[str, Any, Any]] = {}
        for version in self._former:
            if version.stem in self._parsed:
                written = parse_schema(Decimals(version.schema).plain)
                self._readers[version.id] = (version.stem, written, self._parsed[version.stem])
        for version in versions:
            self._readers[version.id] = (version.stem, self._parsed[version.stem], None)

    @property
    def stems(self) -> tuple[str, ...]:
        """Every stem that can be encoded."""
        return tuple(self._current)

    @property
    def local(self) -> bool:
        """Whether it writes with ids of the lock file."""
        return all(lock.is_local(version.id) for version in self._current.values())

    @property
    def ids(self) -> frozenset[int]:
        """Every schema id that can be decoded."""
        return frozenset(self._readers)

    def schema_id(self, stem: str) -> int:
        """The id that records of this schema are written with."""
        return self._version(stem).id

    def schema(self, stem: str) -> Mapping[str, Any]:
        """The definition that records of this schema are written with (shared: do not change it)."""
        return self._version(stem).schema

    def versions(self, stem: str) -> tuple[Version, ...]:
        """Every version of this schema that can be decoded: the current one first, then the former ones."""
        current = self._version(stem)
        former = {v.id: v for v in self._former if v.stem == stem and v.id != current.id}
        return (current, *former.values())

    def header(self, stem: str) -> bytes:
        """The 5 bytes in front of every record of this schema."""
        return _header.pack(MAGIC, self._version(stem).id)

    def encoder(self, stem: str) -> Encoder:
        """The function behind `encode` for one schema: for loops over many records."""
        self._version(stem)
        return self._encoders[stem]

    def encode(self, stem: str, record: Mapping[str, Any]) -> bytes:
        """The bytes of one record.

        Raises:
            RecordError: a field is missing, unknown, or holds what its type cannot hold.
        """
        return self.encoder(stem)(record)

    def decode(self, value: bytes | None) -> tuple[str, Record]:
        """The stem and the record, in the shape of the current schema.

        Raises:
            RecordError: no value, another magic byte, an unknown id, broken Avro, or bytes left over.
        """
        schema_id = header_id(value)
        assert value is not None
        reader = self._readers.get(schema_id)
        if reader is None:
            raise RecordError(f"unknown schema id {schema_id} (0x{schema_id:08x})")
        stem, written, wanted = reader
        body = BytesIO(value)
        body.seek(HEADER_SIZE)
        try:
            record = schemaless_reader(body, written, wanted)
            assert isinstance(record, dict)
            if decimals := self._decimals[stem]:
                decimals.lift(record)
        except Exception as error:  # fastavro raises a dozen kinds on corrupt bytes
            raise RecordError(
                f"not a {stem} record: {type(error).__name__} at byte {body.tell()} of {len(value)}: {error}"
            ) from error
        if body.tell() != len(value):
            raise RecordError(f"{len(value) - body.tell()} bytes left over after a {stem} record")
        return stem, record

    def _version(self, stem: str) -> Version:
        try:
            return self._current[stem]
        except KeyError:
            raise SchemaError(f"no schema {stem!r}; there are {', '.join(sorted(self._current))}") from None


def header_id(value: bytes | None) -> int:
    """The schema id in front of a record.

    Raises:
        RecordError: the value is missing, shorter than a header, or does not begin with 0x00.
    """
    if value is None:
        raise RecordError("no value (a tombstone)")
    if len(value) < HEADER_SIZE:
        raise RecordError(f"only {len(value)} bytes, a record begins with {HEADER_SIZE}")
    magic, schema_id = _header.unpack_from(value)
    if magic != MAGIC:
        raise RecordError(f"magic byte 0x{magic:02x} instead of 0x00")
    return int(schema_id)


def load_codec(settings: Settings) -> Codec:
    """The codec of this installation: ids from lock.json, or from SCHEMA_REGISTRY_URL when it is set.

    Raises:
        SchemaError: an .avsc was changed and not locked; the registry refuses a schema or mixes ids.
        UnreachableError: the registry does not answer.
    """
    entries = lock.read()
    current = {stem: catalogue.schema(stem) for stem in catalogue.stems()}
    unlocked = lock.changed(entries, current)
    if unlocked:
        raise SchemaError(
            f"{', '.join(f'{stem}.avsc' for stem in unlocked)} changed since lock.json was written; "
            "run `tidewire topics lock`"
        )
    if incompatible := compatibility.problems(entries, current):
        raise SchemaError("\n".join(incompatible))
    if settings.schema_registry_url is not None:
        return _from_registry(settings, current)
    newest = lock.newest(entries)
    return Codec(
        [Version(newest[stem].id, stem, schema) for stem, schema in current.items()],
        [Version(entry.id, entry.stem, entry.schema) for entry in entries],
    )


def _from_registry(settings: Settings, current: Mapping[str, Record]) -> Codec:
    assert settings.schema_registry_url is not None
    topics = catalogue.Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 1)
    client = registry.Registry(settings.schema_registry_url)
    written = []
    former = []
    for topic in topics.topics:
        if topic.schema is None:
            continue
        subject = f"{topics.name(topic.name)}-value"
        written.append(
            Version(client.register(subject, current[topic.schema]), topic.schema, current[topic.schema])
        )
        former += [Version(id, topic.schema, schema) for id, schema in client.versions(subject)]
    registry.refuse_mixture([version.id for version in written], settings.schema_registry_url)
    return Codec(written, former)


def _encoder(version: Version, schema: Any, decimals: Decimals) -> Encoder:
    general, write = _general_encoder(version.id, schema, decimals), compiled(version.schema)
    if write is None:
        return general
    header = _header.pack(MAGIC, version.id)

    def encode(record: Mapping[str, Any]) -> bytes:
        try:
            return header + write(record)
        except _NOT_COMPILED:
            return general(record)  # it writes what is only unusual, and says what is wrong with the rest

    return encode


def _general_encoder(schema_id: int, schema: Any, decimals: Decimals) -> Encoder:
    header = _header.pack(MAGIC, schema_id)
    integers = _integer_fields(schema)
    # fastavro cuts a float down to an integer without a word; a fraction of a share must not vanish.
    check = itemgetter(*integers) if len(integers) > 1 else None

    def encode(record: Mapping[str, Any]) -> bytes:
        buffer = BytesIO()
        buffer.write(header)
        try:
            plain = decimals.lower(record) if decimals else record
            schemaless_writer(buffer, schema, plain, strict_allow_default=True)
            if check is not None and float in map(type, check(record)):
                raise TypeError(f"not integers: {_floats(record, integers)}")
        except (
            ValueError,
            TypeError,
            KeyError,
            OverflowError,
            AttributeError,
            ArithmeticError,
            struct.error,
        ) as error:
            raise RecordError(f"does not fit {schema['name']}: {error}") from error
        return buffer.getvalue()

    return encode


def _integer_fields(schema: Mapping[str, Any]) -> list[str]:
    return [f["name"] for f in schema["fields"] if f["type"] in ("long", "int") and "default" not in f]


def _floats(record: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name}={record[name]!r}" for name in names if type(record[name]) is float)
