"""The view of trades as they stand. Lost otherwise: a volume or a price that the exchange has taken back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sinks.postgres import migrate
from sinks.postgres.connection import Connection, connect

pytestmark = pytest.mark.postgres

FINAL = (
    "SELECT trade_id, exchange, price, size, conditions, corrected FROM trades_final ORDER BY ts, trade_id"
)
_TRADE = """INSERT INTO trades VALUES
    ('A', '2013-10-07 14:00+00'::timestamptz + %s * interval '1 minute', 0, %s, %s, %s, %s, '{@}', 'A', %s, 0,
     'ws', '', 0, 0)"""
_CORRECTION = """INSERT INTO stock_corrections VALUES
    ('A', '2013-10-07 14:00+00'::timestamptz + %s * interval '1 minute', 0, %s, %s, %s, 0, 0, '{}', %s, %s,
     %s, '{F}', 'A', NULL, 0, 'ws', %s, 0, 0)"""


class Market:
    """Trades of one symbol and what was said of them; times in minutes since 10:00 in New York."""

    def __init__(self, database: Connection) -> None:
        self._database, self._events = database, 0

    def trade(self, minute: int, trade_id: int, exchange: str = "P", extra: str | None = None) -> None:
        self._database.execute(_TRADE.encode(), (minute, trade_id, exchange, 10.0 + trade_id, 100, extra))

    def correct(self, minute: int, old: int, new: int, price: float, exchange: str = "P") -> None:
        self._say(minute, "correction", exchange, old, (new, price, 50))

    def cancel(self, minute: int, old: int, exchange: str = "P", kind: str = "cancel") -> None:
        self._say(minute, kind, exchange, old, (None, None, None))

    def _say(self, minute: int, kind: str, exchange: str, old: int, new: tuple[object, ...]) -> None:
        self._events += 1
        event = (minute, kind, exchange, old, *new, self._events.to_bytes(8, "big"))
        self._database.execute(_CORRECTION.encode(), event)

    def final(self) -> list[tuple[object, ...]]:
        return self._database.execute(FINAL.encode()).fetchall()


def plain(trade_id: int, exchange: str = "P") -> tuple[object, ...]:
    return (trade_id, exchange, 10.0 + trade_id, 100, ["@"], False)


def corrected(trade_id: int, price: float, exchange: str = "P") -> tuple[object, ...]:
    return (trade_id, exchange, price, 50, ["F"], True)


@pytest.fixture
def market(database_url: str) -> Iterator[Market]:
    migrate.apply(database_url)
    with connect(database_url) as connection:
        connection.execute("CREATE TABLE trades_all PARTITION OF trades DEFAULT")
        yield Market(connection)


def test_a_correction_gives_its_numbers_and_what_was_canceled_is_gone(market: Market) -> None:
    for trade_id in range(1, 5):
        market.trade(trade_id, trade_id)
    market.correct(10, 2, 900, 7.5)
    market.cancel(11, 3)
    market.cancel(12, 4, kind="error")
    assert market.final() == [plain(1), corrected(900, 7.5)]


def test_only_the_trade_that_is_meant_is_changed(market: Market) -> None:
    """Ids begin anew every day, and at every exchange."""
    day = 24 * 60
    market.trade(0, 1)
    market.trade(1, 1, exchange="Q")
    market.trade(day, 1)
    market.cancel(5, 1)
    market.cancel(day + 5, 77)
    assert market.final() == [plain(1, "Q"), plain(1)]


def test_the_last_word_counts(market: Market) -> None:
    for trade_id in range(1, 6):
        market.trade(trade_id, trade_id)
    market.correct(10, 1, 901, 7.0)
    market.correct(11, 901, 902, 8.0)  # the corrected trade is corrected
    market.correct(10, 2, 903, 7.0)
    market.cancel(11, 903)  # ... or canceled
    market.correct(12, 3, 904, 7.0)
    market.correct(11, 3, 905, 8.0)  # came later, was said earlier
    market.correct(10, 4, 4, 9.0)  # the same id again
    market.correct(10, 5, 906, 1.0)
    market.correct(10, 906, 5, 2.0)  # in a circle
    assert market.final() == [corrected(902, 8.0), corrected(904, 7.0), corrected(4, 9.0), corrected(5, 2.0)]


def test_what_history_gives_as_a_row_of_its_own_is_not_counted_twice(market: Market) -> None:
    market.trade(1, 1)
    market.correct(10, 1, 900, 7.0)
    market.trade(1, 900, extra='{"u":"corrected"}')
    market.trade(2, 2, extra='{"u":"canceled"}')  # history alone told of these
    market.trade(3, 3, extra='{"u":"incorrect"}')
    market.trade(3, 901, extra='{"u":"corrected"}')
    market.trade(4, 4, extra='{"x":"u"}')
    assert market.final() == [plain(900), plain(901), plain(4)]
