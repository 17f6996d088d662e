"""Record batches by numpy: one field of all records at once, not one record after another.

Polars reads a record's fields one by one, wanted or not. Here the start of each record is found first, by the
Confluent header that all share; then each field is a few operations on arrays: eight bytes from wherever it
stands, and what its varint holds. Only ordinary records are read so: those of the current version, without
headers or gaps in their offsets, with a short symbol, few conditions and no unknown fields. Every byte of
such a record is accounted for, up to the next one's first; whatever is not ordinary is left to the decoder of
columns, whose verdict alone counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from replay.reading import PAD, Reading, middle
from replay.words import Ints, Mask, Symbols, Table
from tidewire.columns import Block, Decoded, Decoder
from tidewire.columns.blocks import body
from tidewire.columns.decoded import joined
from tidewire.columns.versions import Version

_TAIL = ("conditions", "tape", "extra", "received_ts", "source", "owner_epoch", "event_id")
_FORWARD = ("long", "double", "string")
_MOST_ODD = 0.25
"""With a greater share of blocks that hold something odd, all go the slow way."""


class Vectors:
    """Decodes like `Decoder(versions, columns=columns)`, only faster where the schema ends in a stamp.

    The columns `symbol` and `source` are Categorical here.
    """

    def __init__(self, versions: Sequence[Version], columns: Sequence[str]) -> None:
        version = versions[0]
        self._slow, self._columns = Decoder(versions, columns=columns), columns
        self._fits = _fits(version.schema, columns)
        fields = {f["name"]: f["type"] for f in version.schema["fields"]}
        self._forward = {name: kind for name, kind in fields.items() if name not in _TAIL}
        self._id = version.id.to_bytes(4, "big")
        self._symbols, self._middles = Symbols(), Table(middle)
        source = fields.get("source")
        self._sources = pl.Series(source["symbols"] if isinstance(source, dict) else [], dtype=pl.Categorical)

    def __call__(self, blocks: Sequence[Block]) -> Decoded:
        """Decode blocks of one partition, in order."""
        found = self._fast(blocks) if blocks and self._fits else None
        if found is None:
            return self._alike(self._slow(blocks))
        decoded, odd = found
        if not odd.any():
            return decoded
        holds_odd = np.maximum.reduceat(odd, np.cumsum([0, *(b.count for b in blocks)])[:-1])
        if holds_odd.mean() > _MOST_ODD:
            return self._alike(self._slow(blocks))
        return joined(
            [
                self._run(blocks, holds_odd, list(run))
                for _, run in groupby(range(len(blocks)), holds_odd.__getitem__)
            ]
        )

    def _run(self, blocks: Sequence[Block], holds_odd: Mask, run: list[int]) -> Decoded:
        """Blocks in a row that are all ordinary, or not."""
        mine = [blocks[number] for number in run]
        found = None if holds_odd[run[0]] else self._fast(mine)
        return self._alike(self._slow(mine)) if found is None else found[0]

    def _alike(self, decoded: Decoded) -> Decoded:
        """With the column types of this decoder."""
        frame = decoded.frame.with_columns(
            pl.col("symbol").cast(pl.String).cast(self._symbols.dtype),
            *(
                pl.col(name).cast(pl.String).cast(pl.Categorical)
                for name in self._columns
                if name == "source"
            ),
        )
        return Decoded(frame, decoded.offsets, decoded.refused, decoded.bisected)

    def _fast(self, blocks: Sequence[Block]) -> tuple[Decoded, Mask] | None:
        """The rows, and which of them are odd and worth nothing; None: the records cannot be told apart."""
        try:
            bodies = [body(b) for b in blocks]
        except Exception:  # whatever a decompressor raises: the slow way names the batch
            return None
        counts = np.array([b.count for b in blocks])
        read = Reading(b"".join((bytes(PAD), *bodies, bytes(PAD))))
        at = read.headers(self._id)
        if len(at) != counts.sum() or not counts.all():
            return None
        deltas = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
        ends = PAD + np.cumsum([len(body) for body in bodies])
        if not read.frames(at, deltas) or (read.end[np.cumsum(counts) - 1] != ends).any():
            return None
        columns = self._values(read, at + 5)
        offsets = np.repeat(np.array([b.base for b in blocks]), counts) + deltas
        frame = pl.DataFrame([columns[name] for name in self._columns])
        if any(b.start > b.base for b in blocks):
            wanted = offsets >= np.repeat([b.start for b in blocks], counts)
            if not read.fine.all():
                return None
            return Decoded(frame.filter(pl.Series(wanted)), offsets[wanted]), np.zeros(
                int(wanted.sum()), bool
            )
        return Decoded(frame, offsets), ~read.fine

    def _values(self, read: Reading, at: Ints) -> dict[str, pl.Series]:
        """The wanted columns; what is not fine in `read` afterwards is odd."""
        columns: dict[str, pl.Series] = {}
        codes, at = read.symbols(at, self._symbols)
        columns["symbol"] = self._symbols.series(codes)
        for name, kind in self._forward.items():
            if name == "symbol":
                continue
            if kind == "double":
                if name in self._columns:
                    columns[name] = pl.Series(name, read.doubles(at))
                at = at + 8
            elif kind == "string":
                at = read.texts(at)
            else:
                values, at = read.longs(at, name in self._columns)
                if name in self._columns:
                    columns[name] = pl.Series(name, values)
        stamps = read.stamps(at, self._middles)
        if "received_ts" in self._columns:
            columns["received_ts"] = pl.Series("received_ts", stamps.received())
        columns["owner_epoch"] = pl.Series("owner_epoch", stamps.epochs)
        read.fine &= stamps.sources < len(self._sources)
        if "source" in self._columns:
            sources = np.minimum(stamps.sources, len(self._sources) - 1)
            columns["source"] = self._sources[sources].alias("source")
        return columns


def _fits(schema: Mapping[str, Any], columns: Sequence[str]) -> bool:
    """Whether records of this schema can be read so: a symbol, plain fields, then the stamp of every feed."""
    names = [f["name"] for f in schema["fields"]]
    forward = {f["name"]: f["type"] for f in schema["fields"] if f["name"] not in _TAIL}
    texts = {name for name, kind in forward.items() if kind == "string" and name != "symbol"}
    return (
        names[0] == "symbol"
        and tuple(names[len(forward) :]) == _TAIL
        and all(kind in _FORWARD for kind in forward.values())
        and not set(columns) & {"conditions", "tape", "extra", "event_id", *texts}
    )
