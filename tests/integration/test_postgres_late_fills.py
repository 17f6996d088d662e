"""Positions in PostgreSQL after fills that were told late, by the real fold and the real sink.

Lost otherwise: the truth of `open_positions`. A sale that is heard before the purchase that it closed flips
the position; once the purchase is heard too, there was no flip, and no short position may stay in the table.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from processors.columns.records import Records
from processors.portfolio.book import Book
from processors.portfolio.readout import position_record
from tests.integration.test_postgres_records import Line, line, url
from tests.portfolio_history import BASE, SECOND, Event, a_snapshot, an_update

__all__ = ["line", "url"]
pytestmark = pytest.mark.postgres


def a_fill(number: int, side: str, quantity: int, source: str = "ws") -> Event:
    amount = Decimal(quantity)
    what: dict[str, Any] = {"quantity": amount, "cumulative_quantity": amount, "price": Decimal(10)}
    when = BASE + number * SECOND
    return an_update("fill", f"o{number}", when, symbol="GOOGL", side=side, source=source, **what)


def told(updates: Iterable[Event]) -> list[dict[str, Any]]:
    """The records of portfolio.positions that the fold of an account sends, update by update."""
    book = Book(Records(0))
    book.fold_snapshot(a_snapshot(BASE - SECOND), 0)
    found: list[dict[str, Any]] = []
    for offset, update in enumerate(updates):
        book.fold_update(update, offset)
        announced = book.take_announced()
        found += announced.steps
        found += [position_record(held) for held in announced.holdings.values()]
    return found


def test_a_purchase_that_is_heard_after_the_sale_that_closed_it_leaves_no_short_position(line: Line) -> None:
    """The trading socket is cut at the second of two purchases; after it the stream tells of the sale of both
    before the round over REST tells of what was missed.
    """
    heard = [a_fill(1, "buy", 400), a_fill(3, "sell", 800), a_fill(2, "buy", 400, "rest")]
    for record in told(heard):
        line.write("portfolio_position", [record])
    assert line.rows("SELECT epoch, quantity FROM positions") == [(1, 0)]
    assert line.rows("SELECT * FROM open_positions") == []


def test_fills_in_any_order_leave_the_position_that_the_fold_has(line: Line) -> None:
    for seed in range(30):
        chance = random.Random(seed)
        fills = [
            a_fill(n, chance.choice(("buy", "sell")), chance.choice((100, 200, 400))) for n in range(1, 9)
        ]
        chance.shuffle(fills)
        records = [one | {"account": f"a{seed}"} for one in told(fills)]
        at = 0
        while at < len(records):
            size = chance.randrange(1, 5)
            line.write("portfolio_position", records[at : at + size])
            at += size
        last = records[-1]
        found = line.rows(f"SELECT epoch, quantity FROM open_positions WHERE account = 'a{seed}'")
        assert found == ([(last["epoch"], last["quantity"])] if last["quantity"] else []), seed
        newest = line.rows(f"SELECT max(epoch) FROM positions WHERE account = 'a{seed}'")
        assert newest == [(last["epoch"],)], seed


def test_positions_that_are_read_again_from_the_log_bring_no_wrong_one_back(line: Line) -> None:
    records = told([a_fill(1, "buy", 400), a_fill(3, "sell", 800), a_fill(2, "buy", 400)])
    line.write("portfolio_position", records)
    line.place("portfolio_position", "other")  # the same content in a topic that was made anew
    for record in records:
        line.write("portfolio_position", [record], topic_id="other")
    assert line.rows("SELECT epoch, quantity FROM positions") == [(1, 0)]
