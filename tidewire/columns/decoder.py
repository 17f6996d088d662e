"""Blocks -> Polars columns, with every record proved or refused on its own.

Batches are read whole, by the native reader or, where there is none, by Polars. Where the proof of a read
fails they are sifted. After a change of a schema its records have two ids in the log: a batch is read with
the version of its first record, and the rows come out as those of the current version.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import polars as pl

from tidewire.columns.blocks import Block, body
from tidewire.columns.container import first_schema_id
from tidewire.columns.decoded import Decoded, joined
from tidewire.columns.native.plain import Plain
from tidewire.columns.native.reader import Bare, NativeReader, Rows, native_reader
from tidewire.columns.reader import Reader
from tidewire.columns.sift import Shape, Sifter
from tidewire.columns.versions import Former, Version
from tidewire.errors import SchemaError

_Bodies = tuple[list[bytes], list[int], list[int]]
"""Of blocks: their records, how many those are, and their base offsets."""


class Decoder:
    """Decodes record batches of one schema in all its versions, the current one first.

    `key`: the field that the key must equal; `columns`: those wanted, None: all. Rows have the columns and
    types of the current version. A former version that cannot be reconciled with it is refused by record.

    Raises:
        SchemaError: the current version has a field whose type cannot be read in columns.
    """

    def __init__(
        self, versions: Sequence[Version], key: str = "symbol", columns: Sequence[str] | None = None
    ) -> None:
        current = versions[0]
        names = list(columns) if columns is not None else [f["name"] for f in current.schema["fields"]]
        reader = Reader(current.schema, current.id, key, names)
        self._current = current.id

        def pick(frame: pl.DataFrame) -> pl.DataFrame:
            return _pick(frame, names)

        empty = pick(reader.empty())
        self._readers: dict[int, tuple[Reader, Shape]] = {}
        self._native: dict[int, tuple[NativeReader, Shape | None]] = {}
        closed: dict[int, str] = {}
        for version in versions[1:]:
            try:
                former = Former(version, current, key, empty)
                self._readers[version.id] = (former.read, former.shape)
                self._natively(version, key, former.read, former.read.names, former.shape)
            except SchemaError as error:
                closed[version.id] = f"schema id {version.id} is a version that cannot be read: {error}"
        self._readers[current.id] = (reader, pick)
        self._natively(current, key, reader, names, None)
        self._sift = Sifter(self._readers, closed, empty)

    def _natively(
        self, version: Version, key: str, reader: Reader, names: Sequence[str], shape: Shape | None
    ) -> None:
        """Read a version natively where that can be done."""
        native = native_reader(version.schema, version.id, key, names, reader.empty().select(names))
        if native is not None:
            self._native[version.id] = (native, shape)

    def __call__(self, blocks: Sequence[Block]) -> Decoded:
        """Decode blocks of one partition, in order."""
        try:
            bodies = [body(b) for b in blocks]
        except Exception:  # whatever a decompressor raises: the slow way names the batch
            return self._sift(blocks)
        decoded = self._read(blocks, bodies)
        if decoded is None and len(self._readers) > 1:
            decoded = self._by_version(blocks, bodies)
        return self._sift(blocks) if decoded is None else decoded

    def bare(self, blocks: Sequence[Block]) -> Bare | None:
        """Blocks that are read whole and natively, by the current version alone: nearly all of a live stream.

        The wanted columns must have one value a record, never null. None: `__call__` reads them, or judges.
        """
        found = self._whole(blocks)
        return None if found is None else found[0].bare(*found[1])

    def plain(self, blocks: Sequence[Block]) -> Plain | None:
        """The same as lists; of columns that PlainColumns does not make it raises NotCovered."""
        found = self._whole(blocks)
        return None if found is None else found[0].plain(*found[1])

    def _whole(self, blocks: Sequence[Block]) -> tuple[NativeReader, _Bodies] | None:
        if self._current not in self._native or any(b.start > b.base for b in blocks):
            return None
        try:
            bodies = [body(b) for b in blocks]
        except Exception:  # whatever a decompressor raises: the slow way names the batch
            return None
        return self._native[self._current][0], (bodies, [b.count for b in blocks], [b.base for b in blocks])

    def _read(self, blocks: Sequence[Block], bodies: Sequence[bytes]) -> Decoded | None:
        """The blocks with the version of their first record; None: something is wrong with them."""
        found = self._current
        if len(self._readers) > 1 and bodies:
            found = first_schema_id(bodies[0]) or found
        if found not in self._readers:
            return None
        rows = self._rows(found, blocks, bodies)
        if rows is None:
            return None
        if any(b.start > b.base for b in blocks):  # the fetch began inside a record batch
            wanted = rows.offsets >= np.repeat([b.start for b in blocks], [b.count for b in blocks])
            return Decoded(rows.frame.filter(pl.Series(wanted)), rows.offsets[wanted])
        return Decoded(rows.frame, rows.offsets)

    def _rows(self, schema_id: int, blocks: Sequence[Block], bodies: Sequence[bytes]) -> Rows | None:
        """All records of blocks of one version, those before the start included.

        What the native reader does not take goes through Polars: the verdict is the same on every machine.
        """
        counts, bases = [b.count for b in blocks], [b.base for b in blocks]
        if schema_id in self._native:
            native, former = self._native[schema_id]
            rows = native(bodies, counts, bases)
            if rows is not None:
                return rows if former is None else Rows(former(rows.frame), rows.offsets)
        read, shape = self._readers[schema_id]
        frame = read(bodies, sum(counts))
        if frame is None:
            return None
        offsets = frame["_off"].to_numpy() + np.repeat(np.array(bases, np.int64), counts)
        if (offsets[1:] <= offsets[:-1]).any():
            return None
        return Rows(shape(frame), offsets)

    def _by_version(self, blocks: Sequence[Block], bodies: Sequence[bytes]) -> Decoded | None:
        """Runs of blocks whose first records are of one version, each for itself; None: it is one run."""
        ids = [first_schema_id(body) for body in bodies]
        runs = [list(run) for _, run in groupby(range(len(blocks)), ids.__getitem__)]
        if len(runs) < 2:
            return None
        parts = []
        for run in runs:
            mine = [blocks[i] for i in run]
            decoded = self._read(mine, [bodies[i] for i in run])
            parts.append(self._sift(mine) if decoded is None else decoded)
        return joined(parts)


def _pick(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """The columns by name. Polars' own ways take a hundred microseconds, which small batches feel."""
    try:
        return pl.DataFrame._from_pydf(frame._df.select(columns))
    except AttributeError:  # another Polars
        return frame.select(columns)
