"""What the portfolio sends while Kafka is slow: if these fail an order waits for marks, or a mark is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from processors.columns.output import Sent
from processors.columns.records import Records
from processors.portfolio.agents import Portfolio
from processors.portfolio.book import Book
from schemas.catalogue import PORTFOLIO_POSITIONS, Catalogue
from schemas.codec import load_codec
from tests.portfolio_history import BASE, SECOND, Event, a_mark, a_snapshot, an_update
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))
SYMBOLS = ("AAPL", "MSFT")


@dataclass
class _Kafka:
    """Takes everything at once, and acknowledges it when it is told to."""

    positions: list[tuple[str, Decimal, Decimal | None]] = field(default_factory=list)
    """Symbol, quantity and price of each record of a position, in their order."""
    unanswered: list[asyncio.Future[Any]] = field(default_factory=list)

    async def write(self, topic: str, _: int, pairs: list[tuple[bytes, bytes | None]]) -> list[Sent]:
        for record in (CODEC.decode(value)[1] for _, value in pairs if topic == PORTFOLIO_POSITIONS):
            self.positions.append((record["symbol"], record["quantity"], record["mark_price"]))
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.exception())  # as Output's: seen, whoever waits
        self.unanswered.append(answer)
        return [Sent(len(pairs), answer)]

    async def acknowledge(self) -> None:
        for answer in self.unanswered:
            answer.set_result(None)
        self.unanswered.clear()
        await _turns()


def _portfolio(kafka: _Kafka, failures: list[Exception]) -> tuple[Portfolio, Book]:
    records = Records(1)

    async def crash(error: Exception) -> None:
        failures.append(error)

    app: Any = SimpleNamespace(
        before_commit=[], output=kafka, crash=crash, add_future=asyncio.ensure_future,
        record_table=lambda *_, **__: SimpleNamespace(parts={0: records}, part=lambda _: records),
        batch_topic=lambda *_, **__: None, batch_agent=lambda *_: None,
    )  # fmt: skip
    portfolio = Portfolio(app, Catalogue("", 1), CODEC, lambda: BASE)
    return portfolio, portfolio._book(0)


async def _turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def _fill(number: int, symbol: str) -> Event:
    one = Decimal(1)
    what = {"quantity": one, "price": Decimal(5), "cumulative_quantity": one, "side": "buy", "symbol": symbol}
    return an_update("fill", f"o{number}", BASE + number * SECOND, **what)


async def _hold(portfolio: Portfolio, book: Book, kafka: _Kafka) -> None:
    book.fold_snapshot(a_snapshot(BASE), 0)
    for number, symbol in enumerate(SYMBOLS):
        book.fold_update(_fill(number, symbol), number)
    portfolio._send_soon(0, book)
    await _turns()
    await kafka.acknowledge()
    kafka.positions.clear()


def _marks(book: Book, price: str, offset: int) -> None:
    for symbol in SYMBOLS:
        book.fold_mark(a_mark(symbol, BASE + offset * SECOND, price), offset)


async def test_an_order_passes_marks_that_wait_for_kafka_and_the_newest_marks_follow() -> None:
    """With marks in the queue before it an order would show only when Kafka has taken all of them."""
    failures: list[Exception] = []
    kafka = _Kafka()
    portfolio, book = _portfolio(kafka, failures)
    await _hold(portfolio, book, kafka)
    _marks(book, "6", 10)
    portfolio._send_soon(0, book)
    await _turns()
    assert [price for *_, price in kafka.positions] == [6, 6]
    for offset, price in ((11, "7"), (12, "8")):  # Kafka has not answered: these replace each other
        _marks(book, price, offset)
        portfolio._send_soon(0, book)
        await _turns()
    assert len(kafka.positions) == 2
    book.fold_update(_fill(9, "MSFT"), 9)
    portfolio._send_soon(0, book)
    await _turns()
    assert kafka.positions[2] == ("MSFT", Decimal(2), Decimal(8))
    await kafka.acknowledge()
    await kafka.acknowledge()
    assert kafka.positions[3:] == [("AAPL", Decimal(1), Decimal(8))]
    assert not failures


async def test_what_kafka_refuses_ends_the_worker() -> None:
    """Else it would go on, and commit what was never sent."""
    failures: list[Exception] = []
    kafka = _Kafka()
    portfolio, book = _portfolio(kafka, failures)
    await _hold(portfolio, book, kafka)
    _marks(book, "6", 10)
    portfolio._busy.add(0)
    sending = asyncio.ensure_future(portfolio._send_while_any(0, book))
    await _turns()
    for answer in kafka.unanswered:
        answer.set_exception(RuntimeError("not taken"))
    with pytest.raises(RuntimeError):
        await sending
    assert [str(error) for error in failures] == ["not taken"]
