"""Retention against a real PostgreSQL. Lost otherwise: days that must stay, or disks that fill up unseen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from schemas import cluster
from sinks.postgres import migrate
from sinks.postgres.batches import Batch, prepare
from sinks.postgres.connection import Connection, connect
from sinks.postgres.partitions import Partitions, attached
from sinks.postgres.retention import AGAIN_SECONDS, Keeper, Retention
from sinks.postgres.writer import Writer
from tests.integration.sink_process import TOPICS, running, until
from tests.integration.test_postgres_writer import DAY, FEEDS, TOPIC, encode, place, query, span, trade
from tidewire.config import Settings
from verify import database as verify_database
from verify.content import BARS, TRADES

pytestmark = pytest.mark.postgres

TODAY = date(2013, 10, 10)


@pytest.fixture
def database(database_url: str) -> Iterator[Connection]:
    migrate.apply(database_url)
    with connect(database_url) as connection:
        yield connection


def test_exactly_the_days_that_are_past_go_and_bars_have_a_retention_of_their_own(
    database: Connection,
) -> None:
    days = [TODAY - timedelta(days=n) for n in range(5)]
    for table in ("trades", "bars"):
        Partitions().ensure(database, table, days)
    database.execute(
        "CREATE TABLE trades_mine PARTITION OF trades FOR VALUES FROM ('2000-01-01') TO ('2001-01-01')"
    )
    keeper = Keeper(Retention(ticks=2, bars=0), lambda: TODAY)
    assert keeper.due
    keeper.drop(database)
    assert attached(database, "trades") == {
        "trades_20131010",
        "trades_20131009",
        "trades_20131008",
        "trades_mine",
    }
    assert len(attached(database, "bars")) == 5
    assert not keeper.due
    midnight = datetime(2013, 10, 8, tzinfo=UTC)
    assert verify_database.kept_from(database, TRADES) == int(midnight.timestamp()) * 10**9
    assert verify_database.kept_from(database, BARS) is None


def test_nothing_is_dropped_unless_it_is_asked_for() -> None:
    assert not Keeper(Retention(), lambda: TODAY).due


def test_a_reader_is_not_waited_for_and_the_partition_goes_once_it_has_ended(
    database: Connection, database_url: str
) -> None:
    """Otherwise one long report holds up the sink, and every reader that comes after."""
    Partitions().ensure(database, "trades", [TODAY - timedelta(days=9)])
    now = 0.0
    keeper = Keeper(Retention(ticks=1), lambda: TODAY, lambda: now)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM trades")  # its transaction, and so its lock, stays
        keeper.drop(database)
        assert len(attached(database, "trades")) == 1
        assert not keeper.due, "another attempt at once would keep the readers waiting"
        reader.rollback()
    now += AGAIN_SECONDS
    assert keeper.due
    keeper.drop(database)
    assert attached(database, "trades") == set()


def test_a_late_row_is_counted_and_brings_no_partition_back(database: Connection, database_url: str) -> None:
    """Otherwise every late row makes a day again that is dropped again, or rows vanish without a number."""
    now = [date(2013, 10, 8)]
    keep = Retention(ticks=1)
    writer = Writer(database_url, "group", 100, threading.Event(), today=lambda: now[0], keep=keep)
    try:
        place(writer)
        records = [trade(n) for n in range(5)] + [trade(5, ts=DAY - 1), trade(6, ts=DAY - 86_400 * 10**9)]
        values = [(r["symbol"].encode(), encode("stock_trade", r)) for r in records]
        counts = writer.write(prepared(writer, values, 0))[TOPIC]
        assert (counts.applied, counts.past, counts.dead) == (5, 2, 0)
        now[0] = date(2013, 10, 9)
        late = [(r["symbol"].encode(), encode("stock_trade", r)) for r in (trade(7), trade(8))]
        counts = writer.write(prepared(writer, late, 7))[TOPIC]
        assert (counts.applied, counts.past) == (0, 2)
    finally:
        writer.close()
    assert query(database_url, "SELECT count(*) FROM trades") == [(0,)]
    assert "trades_20131007" not in attached(database, "trades")
    assert query(database_url, "SELECT next_offset FROM kafka_offsets") == [(9,)]
    assert query(database_url, "SELECT count(*) FROM dead_letters") == [(0,)]


def prepared(writer: Writer, values: list[tuple[bytes, bytes]], start: int) -> Batch:
    return prepare(FEEDS, [span(values, start)], kept_from=writer.keeper.kept_from)


@pytest.mark.kafka
async def test_a_sink_without_anything_to_write_drops_what_is_past_its_retention(settings: Settings) -> None:
    """Otherwise a feed that falls silent keeps its last days for ever."""
    await cluster.apply(settings, only=TOPICS)
    mine = Settings.model_validate({**dict(settings), "tidewire_retention_tick_days": 2})
    url = str(mine.database_url.get_secret_value()) if mine.database_url else ""
    migrate.apply(url)
    with connect(url) as database:
        Partitions().ensure(database, "quotes", [TODAY])
        async with running(mine):
            await until(lambda: "quotes_20131010" not in attached(database, "quotes"))
