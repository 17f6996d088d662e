"""Conflation by event time against a naive fold: if these fail, what a user sees of a second depends on how
busy the machine was in it, and a replay shows other prices than the day itself did."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.matrix import Matrix
from processors.features import quotes, row, trades, vector
from processors.features.conflation import INTERVAL_NS
from processors.features.folded import Closed, Folded
from tests.unit import native_folds
from tests.unit.test_features_fold import (
    BASE,
    DAY,
    SYMBOLS,
    Naive,
    frame,
    one_quote,
    one_trade,
    received,
)

FOLDS: dict[str, Any] = {
    "trade": (trades.fold, native_folds.TRADES),
    "quote": (quotes.fold, native_folds.QUOTES),
}
TRADE_FIELDS = ["session", "last", "last_ts", "volume", "trade_count", "high", "low", "trades_folded"]
QUOTE_FIELDS = ["bid", "ask", "quote_ts", "mid", "spread", "quotes_folded"]

Finals = dict[tuple[str, str, int], dict[str, Any]]
"""By symbol, component and interval: the component's fields in the last record in which it stood there."""


def naive_finals(inputs: dict[str, list[dict[str, Any]]]) -> Finals:
    finals: Finals = {}
    symbols = {symbol: Naive(symbol) for symbol in SYMBOLS}
    for t in inputs["trade"]:
        naive = symbols[t["symbol"]]
        naive.trade(t)
        record, volume = naive.record(), sum(t["size"] for t in naive.session)
        notional = sum((Decimal(repr(t["price"])) * t["size"] for t in naive.session), Decimal(0))
        fields = {name: record[name] for name in TRADE_FIELDS}
        fields["vwap"] = float(Fraction(notional) / volume) if volume else None
        finals[naive.symbol, "trade", record["last_ts"] // INTERVAL_NS] = fields
    symbols = {symbol: Naive(symbol) for symbol in SYMBOLS}
    for q in inputs["quote"]:
        naive = symbols[q["symbol"]]
        naive.take_quote(q)
        record = naive.record()
        fields = {name: record[name] for name in QUOTE_FIELDS}
        finals[naive.symbol, "quote", record["quote_ts"] // INTERVAL_NS] = fields
    return finals


def finals_of(sent: list[dict[str, Any]]) -> Finals:
    finals: Finals = {}
    for record in sent:
        if record["trades_folded"]:
            fields = {name: record[name] for name in [*TRADE_FIELDS, "vwap"]}
            finals[record["symbol"], "trade", record["last_ts"] // INTERVAL_NS] = fields
        if record["quotes_folded"]:
            fields = {name: record[name] for name in QUOTE_FIELDS}
            finals[record["symbol"], "quote", record["quote_ts"] // INTERVAL_NS] = fields
    return finals


class Run:
    """A processor over a log: it folds batches, sends now and then, commits, and is killed."""

    def __init__(self, inputs: dict[str, list[dict[str, Any]]]) -> None:
        self.inputs = inputs
        self.sent: list[dict[str, Any]] = []
        self.changelog: dict[bytes, bytes] = {}
        self.committed = {"trade": 0, "quote": 0}
        self.crash()

    def crash(self) -> None:
        self.matrix = Matrix(row.WIDTH, self.changelog)
        self.at = dict(self.committed)
        self.waiting: list[Closed] = []

    def batch(self, name: str, size: int, native: bool) -> Folded | None:
        start = self.at[name]
        records = self.inputs[name][start : start + size]
        if not records:
            return None
        self.at[name] += len(records)
        offsets = np.arange(start, self.at[name], dtype=np.int64)
        in_columns, natively = FOLDS[name]
        numbered = list(zip(offsets.tolist(), records, strict=True))
        folded: Folded | None = natively(self.matrix, numbered) if native else None
        if folded is None:
            folded = in_columns(self.matrix, frame(records), offsets)
        self.waiting += folded.closed
        self.matrix.announce(folded.touched)
        return folded

    def send_closed(self) -> None:
        for closed in self.waiting:
            names = [self.matrix.name(number) for number in closed.rows.tolist()]
            self.sent += [record for _, record in vector.read_out(names, closed.words)]
        self.waiting = []

    def send(self) -> None:
        self.send_closed()
        self.sent += [record for _, record in vector.records(self.matrix, self.matrix.take_announced())]

    def write_changelog(self) -> None:
        self.send_closed()
        self.changelog |= self.matrix.take_changed()

    def commit(self) -> None:
        self.send()
        self.write_changelog()
        self.committed = dict(self.at)

    def finish(self) -> None:
        for name in self.inputs:
            self.batch(name, len(self.inputs[name]), native=False)
        self.commit()


# Within and across intervals and days, before the newest and equal to it.
TIMES = st.builds(
    lambda second, part, days: BASE + second * INTERVAL_NS + part + days * DAY,
    st.integers(0, 4),
    st.sampled_from([0, 1, INTERVAL_NS // 2, INTERVAL_NS - 1]),
    st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
)
CENTS = st.integers(0, 9_999_999).map(lambda cents: cents / 100)
COMMON = {"symbol": st.sampled_from(SYMBOLS), "ts": TIMES, "source": st.sampled_from(row.SOURCES)}
TRADES = st.lists(
    st.fixed_dictionaries(COMMON | {"id": st.integers(-1, 2), "price": CENTS, "size": st.integers(0, 4000)}),
    min_size=12,
    max_size=30,
)
QUOTES = st.lists(
    st.fixed_dictionaries(COMMON | {"bid_price": CENTS, "ask_price": CENTS}), min_size=12, max_size=30
)
STEPS = st.lists(
    st.sampled_from(
        [(f, n, native) for f in ("trade", "quote") for n in (1, 3, 20) for native in (True, False)]
        + ["send", "send_closed", "commit", "write_changelog", "crash"] * 2
    ),
    min_size=8,
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(TRADES, QUOTES, STEPS)
def test_any_batches_sends_and_crashes_end_each_interval_alike(
    some_trades: list[dict[str, Any]], some_quotes: list[dict[str, Any]], steps: list[Any]
) -> None:
    """The last record of each symbol, component and second is that of a fold record by record, and the table
    that of one batch."""
    inputs = {"trade": received(some_trades, 10**18), "quote": received(some_quotes, 10**18 + 1)}
    straight, run = Run(inputs), Run(inputs)
    straight.finish()
    for step in steps:
        if isinstance(step, tuple):
            run.batch(*step)
        else:
            getattr(run, step)()
    run.finish()
    assert run.changelog == straight.changelog
    assert finals_of(run.sent) == finals_of(straight.sent) == naive_finals(inputs)


def a_run(*seconds: float, symbol: str = "AAPL") -> Run:
    found = [one_trade(ts=BASE + int(s * INTERVAL_NS), id=i, symbol=symbol) for i, s in enumerate(seconds)]
    run = Run({"trade": found, "quote": [one_quote(symbol=symbol)]})
    run.batch("quote", 1, native=False)  # the row exists, so that trades can be folded natively
    run.send()
    run.sent.clear()
    return run


def test_a_batch_within_one_interval_closes_nothing() -> None:
    """A live stream sends each symbol once a batch, as before."""
    for native in (True, False):
        run = a_run(0.1, 0.2, 0.9, 1.1)
        folded = run.batch("trade", 3, native)
        assert folded is not None
        assert folded.closed == ()
        run.send()
        folded = run.batch("trade", 1, native)  # leaves the interval, but its last state is sent
        assert folded is not None
        assert folded.closed == ()


def test_what_was_put_off_is_closed_by_the_next_interval() -> None:
    """Far behind, a symbol is not sent with each batch: its last state of a second must not be skipped."""
    for native in (True, False):
        run = a_run(0.1, 0.9, 1.1)
        run.batch("trade", 2, native)
        run.batch("trade", 1, native)
        run.send()
        assert [record["trades_folded"] for record in run.sent] == [2, 3]


def test_a_late_trade_opens_no_interval() -> None:
    """An old event time belongs to the second in which the symbol stands when it comes."""
    for native in (True, False):
        run = a_run(1.1, 0.2, 1.5, -90_000, 2.0)
        run.batch("trade", 5, native)
        run.send()
        assert [record["trades_folded"] for record in run.sent] == [4, 5]
        assert [record["trade_count"] for record in run.sent] == [3, 4]


def test_a_repeat_after_a_crash_has_what_it_repeats_sent_before_it_is_left() -> None:
    """Killed between changelog and send: only the records that are read again say that a send was missed."""
    for native in (True, False):
        run = a_run(0.1, 0.2, 1.1)
        run.batch("trade", 2, native)
        run.write_changelog()
        run.crash()
        run.batch("trade", 3, native)
        run.send()
        assert [record["trades_folded"] for record in run.sent] == [2, 3]
