"""Day partitions, made before rows need them.

A partition is made with LIKE and attached: `CREATE TABLE ... PARTITION OF` would lock out every reader of the
table. Nothing is made within a writing transaction, so none of these locks outlives a moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

import polars as pl
from psycopg import sql

from sinks.postgres.connection import Connection
from sinks.postgres.migrate import LOCK
from tidewire.errors import PoisonLimitError

AHEAD = 7
"""Days kept ready from today on."""
MOST_DAYS = 1000
"""Days that one batch may touch: each takes locks, and PostgreSQL has some 6,400 in all."""

_KNOWN = """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass(%s)"""


def name(table: str, day: date) -> str:
    """The partition of a day: trades_20131007."""
    return f"{table}_{day:%Y%m%d}"


def days(rows: pl.DataFrame) -> list[date]:
    """The UTC days of the rows' ts, in order."""
    times = rows.get_column("ts")
    first, last = times.min(), times.max()
    if isinstance(first, datetime) and isinstance(last, datetime) and first.date() == last.date():
        return [first.date()]  # nearly always, and much cheaper than looking at each
    found = times.dt.date().unique().sort().to_list()
    return [day for day in found if day is not None]


def ahead(today: date) -> list[date]:
    """Yesterday, today and the days kept ready."""
    return [today + timedelta(days=n) for n in range(-1, AHEAD + 1)]


class Partitions:
    """Knows which partitions there are, so that asking costs nothing while they do."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def forget(self) -> None:
        """Look again: somebody has dropped one, or this is another connection."""
        self._known.clear()

    def ensure(self, connection: Connection, table: str, wanted: Iterable[date]) -> list[str]:
        """Make the partitions that are missing; returns their names.

        Raises:
            PoisonLimitError: more days than one transaction can hold.
        """
        if table not in self._known:
            self._look(connection, table)
        missing = [day for day in wanted if name(table, day) not in self._known[table]]
        if len(missing) > MOST_DAYS:
            raise PoisonLimitError(
                f"one batch for {table} spreads over {len(missing)} new days, {missing[0]} to {missing[-1]}: "
                "look at the ts of what the producer sends"
            )
        if not missing:
            return []
        with connection.transaction():
            # Other sinks make the same days: one at a time, and look again once it is our turn.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            self._look(connection, table)
            made = [day for day in missing if name(table, day) not in self._known[table]]
            for day in made:
                _make(connection, table, day)
        self._known[table].update(name(table, day) for day in made)
        return [name(table, day) for day in made]

    def _look(self, connection: Connection, table: str) -> None:
        self._known[table] = attached(connection, table)


def attached(connection: Connection, table: str) -> set[str]:
    """The names of a table's partitions."""
    return {row[0] for row in connection.execute(_KNOWN, (table,))}


def _make(connection: Connection, table: str, day: date) -> None:
    names = {"parent": sql.Identifier(table), "child": sql.Identifier(name(table, day))}
    bounds = {
        "first": sql.Literal(f"{day} 00:00+00"),
        "end": sql.Literal(f"{day + timedelta(days=1)} 00:00+00"),
    }
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {child} (LIKE {parent} INCLUDING ALL)").format(**names)
    )
    connection.execute(
        sql.SQL("ALTER TABLE {parent} ATTACH PARTITION {child} FOR VALUES FROM ({first}) TO ({end})").format(
            **names, **bounds
        )
    )
