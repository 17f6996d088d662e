"""The native decoder against Polars: were one to take what the other refuses, or to read it otherwise,
the same log would give other rows on another machine.
"""

from __future__ import annotations

import logging
import random
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import examples
from schemas.catalogue import schema, stems
from schemas.codec import Version
from tests.unit.columns_batches import COMPRESSIONS, block, encode, record
from tidewire.columns import Block, Decoded, Decoder
from tidewire.columns import blocks as blocks_module
from tidewire.columns.blocks import HEADER
from tidewire.columns.native import library
from tidewire.columns.native.crc import crc32c

ID = 4711
KEYS = {s: next(f["name"] for f in schema(s)["fields"] if f["type"] == "string") for s in stems()}


def _decoder(stem: str, native: bool, columns: list[str] | None = None) -> Decoder:
    made = Decoder([Version(ID, stem, schema(stem))], KEYS[stem], columns)
    assert list(made._native) == [ID], "make setup builds the library"
    if not native:
        made._native.clear()
    return made


NATIVE = {stem: _decoder(stem, True) for stem in stems()}
POLARS = {stem: _decoder(stem, False) for stem in stems()}


def _records(stem: str, seed: int, count: int) -> list[Any]:
    made = islice(examples.records(schema(stem), seed), count)
    return [
        record(10 + 3 * i, r[KEYS[stem]].encode(), encode(schema(stem), r, ID)) for i, r in enumerate(made)
    ]


def _assert_same(one: Decoded, other: Decoded) -> None:
    assert one.frame.schema == other.frame.schema
    assert one.frame.equals(other.frame, null_equal=True)
    assert one.offsets.tolist() == other.offsets.tolist()
    assert one.refused == other.refused


def _check(stem: str, blocks: list[Block]) -> bool:
    """Whether the native reader took the blocks; what it took, Polars must take and read the same."""
    native, polars = NATIVE[stem], POLARS[stem]
    bodies = [bytes(b.raw[HEADER:]) for b in blocks]
    rows = native._native[ID][0](bodies, [b.count for b in blocks], [b.base for b in blocks])
    if rows is not None:
        expected = polars._rows(ID, blocks, bodies)
        assert expected is not None, "taken natively and refused by Polars"
        _assert_same(Decoded(rows.frame, rows.offsets), Decoded(expected.frame, expected.offsets))
        sifted = polars._sift(blocks)  # record by record, as a batch with a broken neighbour is read
        _assert_same(Decoded(rows.frame, rows.offsets), Decoded(sifted.frame, sifted.offsets, sifted.refused))
    return rows is not None


@pytest.mark.parametrize("stem", stems())
def test_every_schema_decodes_as_polars_does(stem: str) -> None:
    """Values, nulls and types of all columns; of one record, of many, of parts of batches, compressed."""
    for count in (1, 30):
        records = _records(stem, count, count)
        assert _check(stem, [block(records)])
        for compression in COMPRESSIONS.values():
            blocks = [
                block(records[: count // 2], compression) if count > 1 else block(records),
                block(records[count // 2 :], compression, start=records[count // 2].offset + 3),
            ][count == 1 :]
            _assert_same(NATIVE[stem](blocks), POLARS[stem](blocks))
    _assert_same(NATIVE[stem]([]), POLARS[stem]([]))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(stems()), st.data())
def test_any_choice_of_columns_is_the_same(stem: str, data: st.DataObject) -> None:
    """What is not wanted is skipped, and what stands behind it must still be found."""
    names = [f["name"] for f in schema(stem)["fields"]]
    columns = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    blocks = [block(_records(stem, data.draw(st.integers(0, 99)), 5))]
    native, polars = _decoder(stem, True, columns)(blocks), _decoder(stem, False, columns)(blocks)
    assert not native.bisected
    _assert_same(native, polars)


def _broken(raw: bytes, chance: random.Random) -> bytes:
    """One thing wrong somewhere in the records of a batch."""
    at = chance.randrange(len(raw))
    ways = [
        raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :],
        raw[:at] + bytes([chance.choice((0, 1, 2, 3, 127, 128, 129, 254, 255))]) + raw[at + 1 :],
        raw[:at],
        raw[:at] + raw[at + chance.randrange(1, 9) :],
        raw[:at] + chance.randbytes(chance.randrange(1, 12)) + raw[at:],
        raw[:at] + bytes([raw[at] | 128, 0]) + raw[at + 1 :],  # an integer longer than need be
        raw[:at]
        + b"\xff" * chance.choice((8, 9, 10))
        + bytes([chance.choice((0, 1, 2, 127))])
        + raw[at + 1 :],
        raw[:at] + bytes(chance.randrange(1, 20)) + raw[at:],
    ]
    return chance.choice(ways)


def _with(good: Block, body: bytes, count: int) -> Block:
    raw = memoryview(bytes(good.raw[:57]) + (count & 0xFFFF_FFFF).to_bytes(4, "big") + body)
    return Block(good.base, good.start, good.last, count, good.timestamp_ms, raw)


def mutations(stem: str, seed: int, count: int) -> int:
    """Break batches `count` times; returns how many of them the native reader took all the same."""
    chance, taken = random.Random(f"{stem} {seed}"), 0
    good = block(_records(stem, seed, 3))
    for _ in range(count):
        body = bytes(good.raw[HEADER:])
        for _ in range(chance.randrange(1, 3)):
            body = _broken(body, chance) or b"\0"
        claimed = chance.choice((3, 3, 3, 3, 3, 2, 4, 2**31 - 1))
        taken += _check(stem, [_with(good, body, claimed)])
    return taken


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(stems()), st.integers(0, 2**32))
def test_broken_bytes_are_refused_or_read_as_polars_reads_them(stem: str, seed: int) -> None:
    """Flipped, lost and added bytes, lengths and counts of any size: no crash, no row that is not there."""
    mutations(stem, seed, 4)


def _long(number: int) -> bytes:
    number = number << 1 ^ number >> 63
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


@pytest.mark.parametrize(
    ("kind", "encoded", "taken"),
    [
        ("string", b"\x04\xc3\xa9", True),
        ("string", b"\x02\xc3", False),
        ("string", b"\x06\xed\xa0\x80", False),  # half of a surrogate pair
        ("string", b"\x04\xc0\x80", False),  # NUL in two bytes
        ("string", b"\x08\xf4\x90\x80\x80", False),  # beyond Unicode
        ("string", b"\x08\xf4\x8f\xbf\xbf", True),
        ("string", b"\x1e" + b"a" * 14 + b"\xff", False),
        ("string", _long(-1), False),
        ("string", _long(2**62), False),
        ("bytes", b"\x02\xff", True),
        ("boolean", b"\1", True),
        ("boolean", b"\2", False),
        ("long", b"\xff" * 9 + b"\1", True),
        ("long", b"\xff" * 9 + b"\3", False),
        ("long", b"\xff" * 9 + b"\x81\0", False),
        ("long", b"\x80\0", False),
        ("long", b"\x80" * 8 + b"\0", False),
        ("int", _long(2**31 - 1), True),
        ("int", _long(2**31), False),
        (["null", "long"], b"\0", True),
        (["long", "null"], b"\2", True),
        (["null", "long"], b"\4\2", False),
        (["null", "long"], b"\1\2", False),
        ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, b"\2", True),
        ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, b"\4", False),
        ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, b"\1", False),
        ({"type": "array", "items": "long"}, b"\4\2\2\0", True),
        ({"type": "array", "items": "long"}, _long(2**40) + b"\0" * 9, False),
        ({"type": "array", "items": "long"}, b"\1\2\2\0", False),  # a block that says its size
        ({"type": "array", "items": "long"}, b"\2\2\2\2\0", False),  # two blocks
        ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}, b"\2\xff", True),
        ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}, b"\0", False),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18},
            b"\x22" + b"\1" * 17,
            False,
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18},
            b"\x20" + b"\x7f" * 16,
            False,
        ),
    ],
)
@pytest.mark.parametrize("wanted", [True, False])
def test_only_what_writers_make_is_taken(kind: Any, encoded: bytes, taken: bool, wanted: bool) -> None:
    """The rest is left to the slow way, so that its fate is the same with and without the library."""
    fields = [{"name": "symbol", "type": "string"}, {"name": "odd", "type": kind}]
    decoder = Decoder(
        [Version(ID, "r", {"type": "record", "name": "R", "fields": fields})],
        columns=["symbol", "odd"][: 1 + wanted],
    )
    value = b"\0" + ID.to_bytes(4, "big") + b"\2A" + encoded
    made = block([record(0, b"A", value), record(1, b"A", value)])
    native, _ = decoder._native[ID]
    rows = native([bytes(made.raw[HEADER:])], [2], [0])
    assert (rows is not None) == taken
    decoded = decoder([made])
    decoder._native.clear()
    _assert_same(decoded, decoder([made]))


def test_many_items_in_lists_find_room() -> None:
    """An order book of thousands of levels among books of a few."""
    books = []
    for i, levels in enumerate((0, 1, 5_000, 2)):
        made = next(examples.records(schema("crypto_orderbook"), i))
        for name, value in made.items():
            if isinstance(value, list):
                made[name] = [float(n) for n in range(levels)]
        books.append(record(i, made["symbol"].encode(), encode(schema("crypto_orderbook"), made, ID)))
    assert _check("crypto_orderbook", [block(books)])


def test_frames_outlive_the_batches_and_the_decoder_that_made_them() -> None:
    """Rows wait for a transaction while the next batches are decoded; they must not change meanwhile."""
    decoder = _decoder("news", True)
    held = []
    for seed in range(30):
        records = _records("news", seed, 20)
        held.append((decoder([block(records)]).frame, POLARS["news"]([block(records)]).frame))
    del decoder
    assert all(native.equals(polars, null_equal=True) for native, polars in held)


def test_without_the_library_everything_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine for which there is no compiler decodes the same rows, and its log says why it is slow."""
    library.load.cache_clear()
    try:
        monkeypatch.setattr(library, "LIBRARY", replace(library.LIBRARY, name="none"))
        with caplog.at_level(logging.WARNING):
            slow = Decoder([Version(ID, "news", schema("news"))], KEYS["news"])
            Decoder([Version(ID, "news", schema("news"))], KEYS["news"])
        assert slow._native == {}
        assert len([r for r in caplog.records if "make setup" in r.message]) == 1
        blocks = [block(_records("news", 1, 20))]
        _assert_same(slow(blocks), NATIVE["news"](blocks))
    finally:
        library.load.cache_clear()


def test_a_library_of_another_source_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After an update without `make setup` the old library would read by old rules."""
    other = replace(library.LIBRARY, folder=tmp_path / "updated")
    shutil.copytree(library.LIBRARY.folder, other.folder)
    assert other.open() is not None
    with other.sources[0].open("a") as source:
        source.write("\n")
    library.load.cache_clear()
    try:
        monkeypatch.setattr(library, "LIBRARY", other)
        assert library.load() is None
    finally:
        library.load.cache_clear()


def test_a_built_library_is_not_built_again() -> None:
    """`make setup` on a machine that is set up does nothing."""
    assert "nothing has changed" in library.LIBRARY.build()


@given(st.binary(max_size=100), st.integers(0, 20))
def test_checksums_are_those_of_kafka(data: bytes, start: int) -> None:
    """A batch that lost a byte on a disk must be seen, and a whole one must not be refused."""
    native = crc32c()
    if native is None:
        pytest.skip("this processor has no instruction for it")
    assert native(memoryview(data)[start:]) == calc_crc32c(data[start:])


@pytest.mark.parametrize("native", [True, False])
def test_a_batch_with_another_checksum_is_not_read(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the native library."""
    if not native:
        monkeypatch.setattr(blocks_module, "crc32c", lambda: None)
    good = bytes(block(_records("news", 1, 3)).raw)
    for at in range(21, len(good), 7):
        bad = good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]
        assert not blocks_module._is_whole(DefaultRecordBatch(bad), memoryview(bad))
    assert blocks_module._is_whole(DefaultRecordBatch(good), memoryview(good))


def test_a_processor_without_the_instruction_takes_the_library_of_aiokafka(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or every batch would seem broken there."""
    crc32c.cache_clear()
    try:
        lacks = SimpleNamespace(tidewire_crc32c=lambda at, size: -1)
        monkeypatch.setattr(library, "load", lambda: lacks)
        assert crc32c() is None
    finally:
        crc32c.cache_clear()
