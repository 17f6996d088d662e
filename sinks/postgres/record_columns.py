"""What tables that are filled record by record are made of: columns, and whence each has its value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any, LiteralString

from schemas.event_id import plain_quantity
from sinks.postgres.tables import OFFSET, PARTITION

TOPIC_ID = "_topic_id"
"""With OFFSET and PARTITION what records.py adds to a decoded record."""

Record = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Column:
    """A column, its type as PostgreSQL names it, and its value in terms of the decoded record."""

    name: str
    kind: str
    value: Callable[[Record], Any]


@dataclass(frozen=True, slots=True)
class RecordTable:
    """`key` is the primary key; `current`: one row a key, which only a newer record replaces.

    `voids`: which rows `t` of other keys a newer row `s` proves wrong, as SQL; they are deleted.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    current: bool = False
    voids: LiteralString | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the order in which they are copied."""
        return tuple(c.name for c in self.columns)


@dataclass(frozen=True, slots=True)
class Parts:
    """A second table that a record fills: one row for each part of the record (none, one or several)."""

    table: RecordTable
    split: Callable[[Record], Iterable[Record]]


@dataclass(frozen=True, slots=True)
class Source:
    """A topic (a constant of the catalogue), the schema of its records, and the tables that they fill."""

    topic: str
    stem: str
    table: RecordTable
    parts: tuple[Parts, ...] = ()

    @property
    def tables(self) -> tuple[RecordTable, ...]:
        """All tables, that of the records first."""
        return (self.table, *(part.table for part in self.parts))


def same(kind: str, *names: str) -> tuple[Column, ...]:
    """Columns of a type that hold the fields of the same names."""
    return tuple(Column(name, kind, itemgetter(name)) for name in names)


def text(*names: str) -> tuple[Column, ...]:
    """Columns of texts."""
    return same("text", *names)


def integer(*names: str) -> tuple[Column, ...]:
    """Columns of 64-bit integers."""
    return same("bigint", *names)


def money(*names: str) -> tuple[Column, ...]:
    """Columns of exact decimals."""
    return same("numeric(38,18)", *names)


def floats(*names: str) -> tuple[Column, ...]:
    """Columns of doubles."""
    return same("double precision", *names)


def records(name: str) -> Column:
    """A list of records as JSON, its decimals as plain text: a JSON number would lose digits elsewhere."""

    def value(record: Record) -> list[dict[str, Any]]:
        return [{key: _plain(part) for key, part in item.items()} for item in record[name]]

    return Column(name, "jsonb", value)


def _plain(value: Any) -> Any:
    return plain_quantity(value) if isinstance(value, Decimal) else value


# Floor division, so that ts_nanos is 0..999 on either side of 1970.
TIME = (
    Column(
        "ts", "timestamp with time zone", lambda record: _EPOCH + timedelta(microseconds=record["ts"] // 1000)
    ),
    Column("ts_nanos", "smallint", lambda record: record["ts"] % 1000),
)
ID = same("bytea", "event_id")
ORIGIN = (*integer("received_ts"), *text("source"))
PLACE = (
    Column("k_part", "integer", itemgetter(PARTITION)),
    Column("k_offset", "bigint", itemgetter(OFFSET)),
)
OF_TOPIC = (*PLACE, Column("k_topic_id", "text", itemgetter(TOPIC_ID)))
