"""The evidence of the order events: the broker's journal, the topics, PostgreSQL, what a client was told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from schemas.activities import EXECUTED
from schemas.catalogue import ACTIVITIES, GAPS, PORTFOLIO_ORDERS, PORTFOLIO_POSITIONS, TRADE_UPDATES
from schemas.codec import Codec
from schemas.gaps import Board, Gap, kind_of
from tidewire.config import Settings
from tidewire.errors import RecordError, TidewireError
from verify import database
from verify.activities import Activity
from verify.database import Connection
from verify.orders import Event, Found, Holding, Position, Pushed, Sent, Standing
from verify.topic import consumer, ends, whole

JOURNAL = Path("simulator") / "trading" / "updates.jsonl"
PUSHED = Path("run") / "pushed.jsonl"
"""Both below TIDEWIRE_HOME; the latter is written by the screen of `tidewire demo`."""

_NOTHING = Decimal(0)


def read_journal(path: Path) -> Sent:
    """What the simulated broker says it sent; a last line that was cut off never left it.

    Raises:
        TidewireError: a line in the middle is broken.
    """
    events: list[Event] = []
    statuses: list[str] = []
    standings: dict[str, Standing] = {}
    executions: dict[str, Event] = {}
    accounts: dict[str, int] = {}
    positions: dict[tuple[int, str], Decimal] = {}
    times: list[int] = []
    position_times: dict[tuple[int, str], int] = {}
    for number, data in journal_lines(path):
        order = data["order"]
        event = Event(
            order["id"],
            data["event"],
            _decimal(order.get("filled_qty")) or _NOTHING,
            _decimal(data.get("qty")),
            _decimal(data.get("price")),
        )
        events.append(event)
        statuses.append(order["status"])
        times.append(_ns(data["timestamp"]) if "timestamp" in data else 0)
        standings[event.order_id] = Standing(order["status"], event.cumulative)
        accounts[event.order_id] = number
        if data.get("execution_id") and data["event"] in ("fill", "partial_fill"):
            executions[data["execution_id"]] = event
        for symbol, quantity in _holdings(data, order):
            positions[number, symbol], position_times[number, symbol] = quantity, times[-1]
    sequences = tuple(events), tuple(statuses)
    return Sent(*sequences, standings, executions, accounts, positions, tuple(times), position_times)


def journal_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number of the account and `data` of each update of the simulated broker's journal.

    Raises:
        TidewireError: a line in the middle is broken.
    """
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip() or number == len(lines):
            continue  # without its newline a line is one that was cut off
        try:
            loaded = json.loads(line)
            yield int(loaded["account"]), loaded["message"]["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise TidewireError(f"{path} is broken in line {number}: {error!r}") from error


def _holdings(data: Mapping[str, Any], order: Mapping[str, Any]) -> Iterator[tuple[str, Decimal]]:
    for symbol, quantity in (data.get("position_qtys") or {}).items():
        yield symbol, Decimal(quantity)
    if data.get("position_qty") is not None and order.get("symbol"):
        yield order["symbol"], Decimal(data["position_qty"])


async def find(
    settings: Settings, codec: Codec, connection: Connection, stops: Mapping[str, Any], dead_lettered: int
) -> Found:
    """Everything that the pipeline holds of order events.

    Raises:
        UnreachableError: Kafka or PostgreSQL does not answer.
    """
    topic: list[Event] = []
    names: dict[str, str] = {}
    looked_up: set[Event] = set()
    async for record in _records(settings, codec, TRADE_UPDATES, stops):
        topic.append(_event(record))
        if record["source"] == "rest":
            looked_up.add(topic[-1])
        names[record["order_id"]] = record["account"]
    folded: dict[str, Standing] = {}
    async for record in _records(settings, codec, PORTFOLIO_ORDERS):
        folded[record["order_id"]] = Standing(record["status"], record["filled_quantity"])
    holdings: dict[Position, Holding] = {}
    async for record in _records(settings, codec, PORTFOLIO_POSITIONS):
        holdings[record["account"], record["symbol"]] = _holding(record)
    positions = {at: holding.quantity for at, holding in holdings.items()}
    board = Board()
    async for record in _records(settings, codec, GAPS):
        board.put(Gap.of(record))
    pushed, visible = read_pushed(settings.tidewire_home / PUSHED)
    return Found(
        tuple(topic),
        names,
        folded,
        positions,
        _rows(connection),
        _orders(connection),
        _positions(connection),
        pushed,
        visible,
        dead_lettered,
        tuple(holding for _, holding in sorted(holdings.items()) if holding.quantity),
        frozenset(looked_up),
        tuple(
            g for g in (*board.open(), *board.closed()) if kind_of(g.feed) == "trading" and g.unrecoverable
        ),
    )


def _holding(record: Mapping[str, Any]) -> Holding:
    fields = ("account", "symbol", "quantity", "average_price", "broker_quantity", "broker_average_price")
    cost, units = record["broker_rule_cost"], record["quantity"] * record["multiplier"]
    rule = cost / units if cost is not None and units else None
    return replace(Holding(*(record[name] for name in fields)), rule_average_price=rule)


def _event(record: Mapping[str, Any]) -> Event:
    return Event(
        record["order_id"],
        record["event"],
        record["cumulative_quantity"],
        record["quantity"],
        record["price"],
    )


async def activities(settings: Settings, codec: Codec, connection: Connection) -> list[list[Activity]]:
    """Those of the topic, and those of PostgreSQL.

    Raises:
        UnreachableError: Kafka or PostgreSQL does not answer.
    """
    query = "SELECT activity_id, status FROM account_activities"
    rows = [_activity(*row) for row in _select(connection, "account_activities", query)]
    records = _records(settings, codec, ACTIVITIES)
    return [[_activity(r["activity_id"], r["status"]) async for r in records], rows]


def _activity(id: str, status: str | None) -> Activity:
    return Activity(id, "" if (status or "") in EXECUTED else str(status))


async def _records(
    settings: Settings, codec: Codec, topic: str, stops: Mapping[str, Any] | None = None
) -> AsyncIterator[Mapping[str, Any]]:
    """The readable records of a topic; the dead letters tell of the others."""
    name = settings.tidewire_topic_prefix + topic
    until = (await ends(settings, [name]))[name] if stops is None else stops[topic]
    async with consumer(settings) as client:
        async for tp, records in whole(client, until):
            for record in records:
                if record.offset >= until[tp] or record.value is None:
                    continue
                try:
                    yield codec.decode(record.value)[1]
                except RecordError:
                    continue


def _rows(connection: Connection) -> tuple[Event, ...]:
    query = "SELECT order_id, event, cumulative_quantity, quantity, price FROM order_events"
    return tuple(Event(*row) for row in _select(connection, "order_events", query))


def _orders(connection: Connection) -> dict[str, Standing]:
    query = "SELECT order_id, status, filled_quantity FROM orders"
    return {order: Standing(*rest) for order, *rest in _select(connection, "orders", query)}


def _positions(connection: Connection) -> dict[Position, Decimal]:
    query = """SELECT DISTINCT ON (account, symbol) account, symbol, quantity FROM positions
               ORDER BY account, symbol, epoch DESC"""
    rows = _select(connection, "positions", query)
    return {(account, symbol): quantity for account, symbol, quantity in rows}


def _select(connection: Connection, table: str, query: str) -> list[tuple[Any, ...]]:
    if not database.exists(connection, table):
        return []
    return list(connection.execute(query.encode()).fetchall())


def read_pushed(path: Path) -> tuple[Pushed | None, frozenset[str]]:
    """What the screen's client wrote down, and the accounts that its user may see; None: nothing."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        visible = frozenset(json.loads(lines[0])["accounts"])
    except (OSError, ValueError, KeyError, IndexError):
        return None, frozenset()
    executions: set[str] = set()
    statuses: set[tuple[str, str]] = set()
    orders: dict[str, Standing] = {}
    for line in lines[1:]:
        message = json.loads(line)["message"]
        data = message.get("data") or {}
        if message["type"] == "trade_executed":
            executions.add(data["executionId"])
        for order in _pushed_orders(message["type"], data):
            standing = Standing(order["status"], Decimal(order.get("filledQty") or 0))
            orders[order["brokerOrderId"]] = standing
            statuses.add((order["brokerOrderId"], standing.status))
    return Pushed(frozenset(executions), frozenset(statuses), orders), visible


def _pushed_orders(kind: str, data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if kind == "order_update":
        return [data]
    return list(data.get("orders") or ()) if kind == "batch" else []


def _ns(moment: str) -> int:
    """A time as the simulated broker writes it, ns since 1970 UTC."""
    whole, _, rest = moment.partition(".")
    digits = rest[: next((i for i, letter in enumerate(rest) if not letter.isdigit()), len(rest))]
    zone = rest[len(digits) :] if rest else ""
    seconds = int(datetime.fromisoformat(f"{whole}{zone}").timestamp())
    return seconds * 1_000_000_000 + int((digits or "0").ljust(9, "0"))


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
