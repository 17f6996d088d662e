"""Tables against a real PostgreSQL. Lost otherwise: data to a table of another shape, or a whole database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date

import psycopg
import pytest

from sinks.postgres import migrate, reset
from sinks.postgres.connection import Connection, connect
from sinks.postgres.partitions import Partitions
from sinks.postgres.tables import check
from tidewire.errors import PoisonLimitError, SchemaError

pytestmark = pytest.mark.postgres

DAY = date(2013, 10, 7)


@pytest.fixture
def database(database_url: str) -> Iterator[Connection]:
    assert migrate.apply(database_url) == [m.name for m in migrate.packaged()]
    with connect(database_url) as connection:
        yield connection


def test_a_column_of_another_type_or_none_is_refused_before_garbage_is_stored(database: Connection) -> None:
    check(database)
    database.execute("DROP VIEW trades_final")  # else PostgreSQL itself refuses the change
    database.execute("ALTER TABLE trades ALTER COLUMN size TYPE float8")
    database.execute("ALTER TABLE quotes DROP COLUMN tape")
    with pytest.raises(SchemaError, match=r"trades\.size is double precision, must be bigint") as caught:
        check(database)
    assert "quotes.tape is missing" in str(caught.value)


def test_what_columns_let_pass_the_tables_own_checks_refuse(database: Connection) -> None:
    Partitions().ensure(database, "trades", [DAY])
    row = """INSERT INTO trades VALUES
        ('A', '2013-10-07 12:00+00', 0, 1, 'V', %s, 1, '{}', 'A', NULL, 0, 'ws', '', 0, 0)"""
    for price in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(psycopg.errors.CheckViolation):
            database.execute(row.encode(), (float(price),))
    database.execute(row.encode(), (1.5,))


def test_every_revision_of_a_bar_is_kept_and_the_view_shows_the_newest(database: Connection) -> None:
    Partitions().ensure(database, "bars", [DAY])
    row = """INSERT INTO bars VALUES
        ('A', '2013-10-07 12:00+00', 0, 'minute', %s, 1, 1, 1, %s, 1, 1, 1, NULL, 0, 'ws', '', 0, 0)"""
    for revision in (0, 2, 1):
        database.execute(row.encode(), (revision, 9.0 + revision))
    assert database.execute("SELECT count(*) FROM bars").fetchall() == [(3,)]
    assert database.execute("SELECT revision, close FROM bars_latest").fetchall() == [(2, 11.0)]


def test_migrations_apply_once_also_when_several_start_together(database_url: str) -> None:
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate.apply(database_url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrate.packaged())]
    with connect(database_url) as connection:
        connection.execute("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1")
    with pytest.raises(SchemaError, match="was changed after"):
        migrate.apply(database_url)


def test_partitions_are_made_once_by_however_many_and_attached_again(
    database: Connection, database_url: str
) -> None:
    made: list[list[str]] = []

    def make() -> None:
        with connect(database_url) as connection:
            made.append(Partitions().ensure(connection, "quotes", [DAY]))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(made) == [[], [], [], ["quotes_20131007"]]
    database.execute("ALTER TABLE quotes DETACH PARTITION quotes_20131007")
    assert Partitions().ensure(database, "quotes", [DAY]) == ["quotes_20131007"]
    assert Partitions().ensure(database, "quotes", [DAY]) == []
    with pytest.raises(PoisonLimitError, match="1100 new days"):
        Partitions().ensure(database, "quotes", [date.fromordinal(700_000 + n) for n in range(1100)])


def test_drop_all_leaves_the_database_as_it_was(database: Connection, database_url: str) -> None:
    database.execute("CREATE TABLE somebody_elses (a int)")
    Partitions().ensure(database, "bars", [DAY])
    reset.drop_all(database_url)
    left = database.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    assert left.fetchall() == [("somebody_elses",)]
    reset.drop_all(database_url)
    assert migrate.apply(database_url)
