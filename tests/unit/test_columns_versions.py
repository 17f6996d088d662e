"""Old and new schema versions in one partition: if these fail, an upgrade loses or changes old records."""

from __future__ import annotations

import io
from decimal import Decimal
from itertools import islice
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import examples
from schemas.catalogue import schema, stems
from schemas.codec import Version, load_codec
from tests.unit.columns_batches import COMPRESSIONS, block, encode, record
from tidewire import config
from tidewire.columns import Block, Decoded, Decoder

CODEC = load_codec(config.load(_env_file=None))
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}


def _enum(*symbols: str, **more: str) -> dict[str, Any]:
    return {"type": "enum", "name": "Kind", "symbols": list(symbols), **more}


def _legs(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "record", "name": "Leg", "fields": list(fields)}}


def _field(name: str, kind: Any, **default: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **default}


def _version(number: int, *fields: dict[str, Any]) -> Version:
    return Version(number, "thing", {"type": "record", "name": "Thing", "fields": list(fields)})


OLD = _version(
    1,
    _field("gone", {"type": "array", "items": "string"}),
    _field("symbol", "string"),
    _field("count", "int"),
    _field("size", "long"),
    _field("price", "float"),
    _field("kind", _enum("a", "lost", "b")),
    _field("note", "string"),
    _field("legs", _legs(_field("id", "int"), _field("was", "string"))),
)
NEW = _version(
    2,
    _field("symbol", "string"),
    _field("kind", _enum("other", "b", "a", default="other")),
    _field("note", ["null", "string"]),
    _field("price", "double"),
    _field("size", "double"),
    _field("count", "long"),
    _field("legs", _legs(_field("venue", ["null", "string"], default=None), _field("id", "long"))),
    _field("tags", {"type": "array", "items": "string"}, default=["x"]),
    _field("raw", "bytes", default="\xff"),
    _field("money", DECIMAL, default="\x05"),
    _field("flag", "boolean", default=True),
)
CLOSED = _version(3, _field("symbol", "string"), _field("count", "string"))
VERSIONS = [NEW, OLD, CLOSED]
DECODER = Decoder(VERSIONS)


def _example(version: Version, seed: int) -> dict[str, Any]:
    fields = [f for f in version.schema["fields"] if f["type"] != "float"]
    made = next(examples.records({"fields": fields}, seed)) | {"symbol": f"S{seed % 3}"}
    return made | {"price": seed / 4}  # what a float of four bytes can hold


def test_rows_of_a_former_version_become_rows_of_the_current_one() -> None:
    """Defaults, promotions, dropped fields and lost symbols, as Avro's schema resolution says."""
    leg = {"id": 7, "was": "n"}
    was = {"gone": ["x"], "symbol": "A", "count": 1, "size": 2**40, "price": 0.5, "note": "n", "legs": [leg]}
    sent = [was | {"kind": kind} for kind in ("a", "b", "lost")]
    decoded = DECODER([block([record(i, b"A", encode(OLD.schema, r, 1)) for i, r in enumerate(sent)])])
    row = {"symbol": "A", "note": "n", "price": 0.5, "size": float(2**40), "count": 1}
    row |= {"legs": [{"venue": None, "id": 7}], "tags": ["x"], "raw": b"\xff", "flag": True}
    row |= {"money": Decimal("0.000000000000000005")}
    assert decoded.frame.to_dicts() == [row | {"kind": kind} for kind in ("a", "b", "other")]
    assert decoded.frame.schema == DECODER([]).frame.schema
    assert not decoded.bisected


@pytest.mark.parametrize("stem", [s for s in stems() if len(CODEC.versions(s)) > 1])
def test_every_former_version_of_the_catalogue_is_read_as_the_codec_reads_it(stem: str) -> None:
    """Columns and records one by one must agree about the whole log, whenever it was written."""
    current, *former = CODEC.versions(stem)
    key = next(f["name"] for f in current.schema["fields"] if f["type"] == "string")
    decoder = Decoder([current, *former], key)
    for version in former:
        made = list(islice(examples.records(version.schema), 20))
        values = [encode(version.schema, r, version.id) for r in made]
        sent = [record(i, r[key].encode(), v) for i, (r, v) in enumerate(zip(made, values, strict=True))]
        decoded = decoder([block(sent)])
        assert decoded.frame.to_dicts() == [CODEC.decode(value)[1] for value in values]
        assert not decoded.bisected


def test_columns_that_only_the_current_version_has_are_filled() -> None:
    """A reader that wants just the new column still gets a row a record."""
    decoder = Decoder(VERSIONS, columns=["flag"])
    decoded = decoder([block([record(i, b"S0", encode(OLD.schema, _example(OLD, 3), 1)) for i in range(3)])])
    assert decoded.frame.to_dicts() == [{"flag": True}] * 3


def test_versions_of_one_schema_are_listed_once_and_the_current_one_first() -> None:
    """The decoder writes nothing, but its rows have the shape of what it is told is current."""
    for stem in stems():
        versions = CODEC.versions(stem)
        assert (versions[0].id, versions[0].schema) == (CODEC.schema_id(stem), schema(stem))
        assert len({v.id for v in versions}) == len(versions)
        assert {v.stem for v in versions} == {stem}


def _naive(version: Version | None, key: bytes | None, value: bytes | None) -> dict[str, Any] | None:
    """The row of a record by fastavro, or None if it must be refused."""
    if version is None or value is None or key is None or version is CLOSED:
        return None
    body = io.BytesIO(value[5:])
    try:
        row: Any = fastavro.schemaless_reader(body, dict(version.schema), dict(NEW.schema))
        if body.tell() != len(value) - 5 or row["symbol"].encode() != key:
            return None
    except Exception:
        return None
    plain = {} if version is NEW else {"raw": b"\xff", "money": Decimal("0.000000000000000005")}
    return dict(row) | plain  # fastavro gives defaults of bytes as text


KINDS = [
    *["new"] * 4,
    *["old"] * 3,
    "closed",
    "unknown",
    "cut",
    "longer",
    "key",
    "no key",
    "no value",
    "text",
]


def _sent(offset: int, kind: str, seed: int) -> tuple[Any, dict[str, Any] | None]:
    """A record, and its row by fastavro."""
    version = {"old": OLD, "closed": CLOSED}.get(kind, OLD if kind in ("cut", "longer") and seed % 2 else NEW)
    made = _example(version, seed)
    key: bytes | None = made["symbol"].encode()
    value: bytes | None = encode(version.schema, made, 99 if kind == "unknown" else version.id)
    assert value is not None
    if kind == "cut":
        value = value[: max(5, len(value) - 1 - seed % 9)]
    if kind == "longer":
        value += bytes(seed % 4 + 1)
    if kind == "text":
        value = b"{}" * (seed % 5)
    key = None if kind == "no key" else b"other" if kind == "key" else key
    value = None if kind == "no value" else value
    headers = [("trace", b"1")] if seed % 11 == 0 else []
    known = None if kind in ("unknown", "text") else version
    return record(offset, key, value, headers), _naive(known, key, value)


@st.composite
def _partition(draw: st.DrawFn) -> list[tuple[list[tuple[str, int]], int, int]]:
    """Batches: kinds and seeds of their records, compression, records before the wanted start."""
    kinds = st.sampled_from(KINDS) if draw(st.booleans()) else st.sampled_from(["new", "old"])
    found = []
    for _ in range(draw(st.integers(1, 4))):
        records = draw(st.lists(st.tuples(kinds, st.integers(0, 200)), min_size=1, max_size=8))
        if draw(st.booleans()):  # a batch is mostly of one version
            records = [("new" if kind == "old" else kind, seed) for kind, seed in records]
        found.append((records, draw(st.sampled_from(list(COMPRESSIONS.values()))), draw(st.integers(0, 3))))
    return found


@settings(max_examples=25)
@given(_partition())
def test_batches_of_every_kind_give_what_fastavro_gives_one_by_one(
    partition: list[tuple[list[tuple[str, int]], int, int]],
) -> None:
    """Versions, poison and compressions mixed; each record's fate is its own, whatever batch it is in."""
    blocks: list[Block] = []
    rows: dict[int, dict[str, Any]] = {}
    refused: list[int] = []
    alone: list[Decoded] = []
    offset = 100
    for records, compression, before in partition:
        sent = [_sent(offset + i, kind, seed) for i, (kind, seed) in enumerate(records)]
        wanted = sent[before:]
        rows |= {r.offset: row for r, row in wanted if row is not None}
        refused += [r.offset for r, row in wanted if row is None]
        alone += [DECODER([block([r])]) for r, _ in wanted]
        if wanted:
            blocks.append(block([r for r, _ in sent], compression, offset + before))
        offset += len(records) + 2
    decoded = DECODER(blocks)
    assert dict(zip(decoded.offsets.tolist(), decoded.frame.to_dicts(), strict=True)) == rows
    assert decoded.offsets.tolist() == list(rows)
    assert [r.offset for r in decoded.refused] == refused
    assert [(r.offset, r.reason) for r in decoded.refused] == [
        (r.offset, r.reason) for d in alone for r in d.refused
    ]
    assert decoded.frame.schema == DECODER([]).frame.schema


def test_a_version_that_cannot_be_reconciled_is_refused_by_record_and_says_why() -> None:
    """A registry may remember anything: that must neither stop the service nor change a value in silence."""
    decoded = DECODER([block([record(0, b"S0", encode(CLOSED.schema, _example(CLOSED, 3), 3))])])
    assert decoded.refused[0].reason.startswith("schema id 3 is a version that cannot be read: ")
    assert (
        "string became long" in decoded.refused[0].reason or "not in the record" in decoded.refused[0].reason
    )


def test_a_whole_batch_of_a_former_version_is_not_sifted() -> None:
    """After an upgrade the log is full of such batches: one by one they would take minutes, not seconds."""
    old = [record(i, b"S0", encode(OLD.schema, _example(OLD, 3), 1)) for i in range(5)]
    new = [record(5 + i, b"S0", encode(NEW.schema, _example(NEW, 3), 2)) for i in range(5)]
    decoded = DECODER([block(old), block(new)])
    assert decoded.offsets.tolist() == list(range(10))
    assert not decoded.bisected
    assert DECODER([block([*old, *new])]).bisected
