"""A second opinion on the account side that shares no code with the pipeline.

The simulated broker's journal is folded by a naive loop over fractions; positions, cash and fills by it
are what the broker's own REST, the topics, PostgreSQL and a client's socket are held against.

Average cost, as stated in docs/decisions/0014: adding adds quantity x price, reducing takes its share of the
cost with it, through zero a new position begins at the fill's price.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import psycopg

from tests.e2e.independent_digest import record_reader, records

OPENING_CASH = Fraction(1_000_000)
NEAR = Fraction(1, 10**12)
"""Relative: a price is rounded at 18 decimals wherever it is written, and once more where it is divided."""

Key = tuple[str, str]
"""(account, symbol)."""


@dataclass
class Holding:
    """A position by average cost, in fractions: nothing is rounded."""

    quantity: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)

    @property
    def average(self) -> Fraction:
        """USD each; 0 when flat."""
        return self.cost / self.quantity if self.quantity else Fraction(0)

    def deal(self, signed: Fraction, price: Fraction) -> None:
        """One fill; `signed` is negative when sold."""
        if self.quantity * signed >= 0:
            self.cost += signed * price
        elif abs(signed) <= abs(self.quantity):
            self.cost += self.cost * signed / self.quantity
        else:
            self.cost = (self.quantity + signed) * price
        self.quantity += signed


@dataclass
class Books:
    """What the broker's journal says.

    `events`: (ns, order id, event, cumulative quantity) in their order. `fills`: (account, order id,
    cumulative quantity) with their number.
    """

    events: list[tuple[int, str, str, Fraction]] = field(default_factory=list)
    holdings: dict[Key, Holding] = field(default_factory=dict)
    cash: dict[str, Fraction] = field(default_factory=dict)
    fills: Counter[tuple[str, str, Fraction]] = field(default_factory=Counter)
    executions: dict[str, Counter[tuple[str, Fraction]]] = field(default_factory=dict)
    events_of: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, str] = field(default_factory=dict)
    orders_of: dict[str, set[str]] = field(default_factory=dict)

    def open_positions(self) -> dict[Key, Holding]:
        """Positions that are held."""
        return {key: holding for key, holding in self.holdings.items() if holding.quantity}

    def executions_of(self, account: str) -> Counter[tuple[str, Fraction]]:
        """Its fills by the client's order id and cumulative quantity, with their number."""
        return self.executions.setdefault(account, Counter())


def read_journal(home: Path, accounts: int = 2) -> Books:
    """Fold <home>/simulator/trading/updates.jsonl line by line; a cut-off last line is no line."""
    books = Books(cash={f"demo-{n}": OPENING_CASH for n in range(1, accounts + 1)})
    for line in (home / "simulator" / "trading" / "updates.jsonl").read_bytes().split(b"\n")[:-1]:
        entry = json.loads(line)
        _take(books, f"demo-{entry['account']}", entry["ts"], entry["message"]["data"])
    return books


def _take(books: Books, account: str, ts: int, data: Mapping[str, Any]) -> None:
    order = data["order"]
    books.events.append((ts, order["id"], data["event"], Fraction(order["filled_qty"])))
    books.events_of[data["event"]] += 1
    books.statuses[order["id"]] = order["status"]
    books.orders_of.setdefault(account, set()).add(order["id"])
    if data["event"] not in ("fill", "partial_fill"):
        return
    quantity, price = Fraction(data["qty"]), Fraction(data["price"])
    signed = quantity if order["side"] == "buy" else -quantity
    books.holdings.setdefault((account, order["symbol"]), Holding()).deal(signed, price)
    books.cash[account] -= signed * price
    books.fills[account, order["id"], Fraction(order["filled_qty"])] += 1
    books.executions_of(account)[order["client_order_id"], Fraction(order["filled_qty"])] += 1


def at_the_broker(
    books: Books, account: str, positions: Sequence[Mapping[str, Any]], state: Mapping[str, Any]
) -> list[str]:
    """Differences between the loop and the broker's REST /v2/positions and /v2/account."""
    ours = {symbol.replace("/", ""): h for (a, symbol), h in books.open_positions().items() if a == account}
    theirs = {p["symbol"]: p for p in positions}
    wrong = []
    for symbol in sorted(ours.keys() | theirs.keys()):
        mine, yours = ours.get(symbol, Holding()), theirs.get(symbol, {"qty": "0", "avg_entry_price": "0"})
        if mine.quantity != Fraction(yours["qty"]):
            wrong.append(f"{account} {symbol}: the broker holds {yours['qty']}, not {mine.quantity}")
        elif not near(mine.average, Fraction(yours["avg_entry_price"])):
            wrong.append(f"{account} {symbol}: the broker's average is {yours['avg_entry_price']}")
    if books.cash[account] != Fraction(state["cash"]):
        wrong.append(f"{account}: the broker's cash is {state['cash']}, not {float(books.cash[account])}")
    return wrong


def in_the_topics(books: Books, bootstrap: str, prefix: str = "") -> list[str]:
    """Differences between the loop and portfolio.positions, portfolio.accounts and alpaca.trade-updates."""
    held = {
        (r["account"], r["symbol"]): (r["quantity"], r["average_price"])
        for r in _newest(bootstrap, prefix, "portfolio.positions", "portfolio_position")
    }
    cash = {
        r["account"]: r["cash"] for r in _newest(bootstrap, prefix, "portfolio.accounts", "portfolio_account")
    }
    wrong = _holdings(books, "the topic", held) + _cash(books, "the topic", cash)
    filled = Counter(
        (u["account"], u["order_id"], Fraction(u["cumulative_quantity"]))
        for u in _updates(bootstrap, prefix)
        if u["event"] in ("fill", "partial_fill")
    )
    return wrong + _fills(books, "the topic", filled)


def not_in_the_topic(books: Books, bootstrap: str, prefix: str = "") -> list[tuple[int, str]]:
    """(ns, event) of every order event that the broker sent and alpaca.trade-updates does not hold."""
    there = Counter(
        (u["order_id"], u["event"], Fraction(u["cumulative_quantity"])) for u in _updates(bootstrap, prefix)
    )
    lost = []
    for ts, order, event, cumulative in books.events:
        there[order, event, cumulative] -= 1
        if there[order, event, cumulative] < 0:
            lost.append((ts, event))
    return lost


def _updates(bootstrap: str, prefix: str) -> list[dict[str, Any]]:
    read = record_reader("trade_update")
    return [read(value) for _, value in records(bootstrap, prefix + "alpaca.trade-updates")]


def _newest(bootstrap: str, prefix: str, topic: str, stem: str) -> Iterator[dict[str, Any]]:
    """The last record of every key of a compacted topic, tombstones left out."""
    read = record_reader(stem)
    last = dict(records(bootstrap, prefix + topic))
    return (read(value) for value in last.values() if value)


def in_postgres(
    books: Books, connection: psycopg.Connection[Any], lost: Sequence[tuple[int, str]] = ()
) -> list[str]:
    """Differences between the loop and PostgreSQL's positions, accounts, fills and order events.

    `lost`: events that the topic cannot hold, as `not_in_the_topic` has them.
    """
    query = """SELECT DISTINCT ON (account, symbol) account, symbol, quantity, average_price FROM positions
               ORDER BY account, symbol, epoch DESC"""
    held = {
        (account, symbol): (quantity, average)
        for account, symbol, quantity, average in connection.execute(query)
    }
    cash = dict(connection.execute("SELECT account, cash FROM accounts").fetchall())
    wrong = _holdings(books, "PostgreSQL", held) + _cash(books, "PostgreSQL", cash)
    filled = Counter(
        (account, order, Fraction(cumulative))
        for account, order, cumulative in connection.execute(
            "SELECT account, order_id, cumulative_quantity FROM fills WHERE kind = 'fill'"
        )
    )
    wrong += _fills(books, "PostgreSQL", filled)
    events = Counter(
        dict(connection.execute("SELECT event, count(*) FROM order_events GROUP BY 1").fetchall())
    )
    due = books.events_of - Counter(event for _, event in lost)
    if events != due:
        wrong.append(f"PostgreSQL has the order events {dict(events)}, the broker sent {dict(due)}")
    statuses = dict(connection.execute("SELECT order_id, status FROM orders").fetchall())
    if statuses != books.statuses:
        differ = {
            o for o in statuses.keys() | books.statuses.keys() if statuses.get(o) != books.statuses.get(o)
        }
        wrong.append(f"PostgreSQL has another status of the orders {sorted(differ)[:5]}")
    return wrong


def at_the_client(books: Books, account: str, positions: Mapping[str, Any], cash: str | None) -> list[str]:
    """Differences between the loop and what a client's socket added up to (symbol -> PositionUpdate)."""
    held = {
        (account, symbol): (Decimal(p["quantity"]), Decimal(p["entryPrice"]))
        for symbol, p in positions.items()
    }
    only = Books(
        holdings={key: h for key, h in books.holdings.items() if key[0] == account},
        cash={account: books.cash[account]},
    )
    told = {} if cash is None else {account: Decimal(cash)}
    return _holdings(only, "the client", held) + _cash(only, "the client", told)


def _holdings(books: Books, where: str, held: Mapping[Key, tuple[Decimal, Decimal]]) -> list[str]:
    wrong = []
    for key in sorted(books.holdings.keys() | held.keys()):
        mine = books.holdings.get(key, Holding())
        quantity, average = held.get(key, (Decimal(0), Decimal(0)))
        if Fraction(quantity) != mine.quantity:
            wrong.append(f"{key}: {where} holds {quantity}, not {mine.quantity}")
        elif mine.quantity and not near(mine.average, Fraction(average)):
            wrong.append(f"{key}: {where} has the average price {average}, not {float(mine.average)}")
    return wrong


def _cash(books: Books, where: str, cash: Mapping[str, Decimal]) -> list[str]:
    found = {account: Fraction(value) for account, value in cash.items()}
    return [
        f"{account}: {where} has the cash {cash.get(account)}, not {float(value)}"
        for account, value in books.cash.items()
        if found.get(account) != value
    ]


def _fills(books: Books, where: str, filled: Counter[tuple[str, str, Fraction]]) -> list[str]:
    wrong = [f"fill {fill} is not in {where}" for fill in books.fills - filled]
    return wrong + [f"fill {fill} is once too often in {where}" for fill in filled - books.fills]


def near(left: Fraction, right: Fraction) -> bool:
    """Equal but for the rounding of a quotient."""
    return abs(left - right) <= NEAR * max(Fraction(1), abs(left), abs(right))
