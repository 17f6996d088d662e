"""Kafka records of the account topics -> what they change here. Pure; what cannot be read is named."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.catalogue import PORTFOLIO_ACCOUNTS, PORTFOLIO_ORDERS, PORTFOLIO_POSITIONS, TRADE_UPDATES
from schemas.fills import fills
from sinks.gateway import messages
from sinks.gateway.holdings import Held, Key
from sinks.gateway.messages import Payload
from tidewire.errors import RecordError

Decode = Callable[[bytes | None], tuple[str, dict[str, Any]]]

WHOLE = (PORTFOLIO_ORDERS, PORTFOLIO_POSITIONS, PORTFOLIO_ACCOUNTS)
"""Compacted topics that are read from their beginning."""

_FILLS_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class Change:
    """The newest state of one object of an account; `held` None: it is gone from the log."""

    account: str
    key: Key
    held: Held | None


@dataclass(frozen=True, slots=True)
class Executed:
    """A fill, as TradeExecuted."""

    account: str
    symbol: str
    payload: Payload
    received_ts: int


class Reader:
    """Reads records of the topics by their names in the catalogue; remembers the fills that it has told."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._told: OrderedDict[bytes, None] = OrderedDict()
        self.repeated = 0

    def read(self, topic: str, key: bytes | None, value: bytes | None) -> list[Change | Executed]:
        """What one record changes; a fill that was told before changes nothing and is counted.

        Raises:
            RecordError: it is no record of its topic.
        """
        try:
            return (
                list(self._executed(value)) if topic == TRADE_UPDATES else [self._change(topic, key, value)]
            )
        except (ValueError, OverflowError, ArithmeticError) as error:  # a time or a number beyond all sense
            raise RecordError(f"cannot be shown: {error}") from error

    def _change(self, topic: str, key: bytes | None, value: bytes | None) -> Change:
        if value is None:
            return _gone(topic, key)
        stem, record = self._decode(value)
        if topic == PORTFOLIO_POSITIONS and stem == "portfolio_position":
            return _position(record)
        if topic == PORTFOLIO_ORDERS and stem == "portfolio_order":
            return _order(record)
        if topic == PORTFOLIO_ACCOUNTS and stem == "portfolio_account":
            return _account(record)
        raise RecordError(f"a {stem} record in {topic}")

    def _executed(self, value: bytes | None) -> list[Executed]:
        stem, record = self._decode(value)
        if stem != "trade_update":
            raise RecordError(f"a {stem} record in {TRADE_UPDATES}")
        found = [fill for fill in fills(record) if fill.kind == "fill"]
        new = [fill for fill in found if self._first(fill.event_id)]
        client_id = record["client_order_id"]
        return [
            Executed(
                fill.account,
                fill.symbol,
                messages.trade(fill, client_id if fill.order_id == record["order_id"] else None),
                record["received_ts"],
            )
            for fill in new
        ]

    def _first(self, event_id: bytes) -> bool:
        if event_id in self._told:
            self.repeated += 1
            return False
        self._told[event_id] = None
        if len(self._told) > _FILLS_REMEMBERED:
            self._told.popitem(last=False)
        return True


def _position(record: dict[str, Any]) -> Change:
    symbol = record["symbol"]
    held = Held(
        messages.position(record), symbol, record["ts"], record["received_ts"], messages.traded(record)
    )
    return Change(record["account"], Key("positions", symbol), held)


def _order(record: dict[str, Any]) -> Change:
    held = Held(messages.order(record), record["symbol"], record["ts"], record["received_ts"])
    return Change(record["account"], Key("orders", record["order_id"]), held)


def _account(record: dict[str, Any]) -> Change:
    held = Held(messages.account(record), "", record["ts"], record["received_ts"])
    return Change(record["account"], Key("account", ""), held)


def _gone(topic: str, key: bytes | None) -> Change:
    account, _, name = (key or b"").decode("utf-8", "replace").partition(":")
    channel: Any = {PORTFOLIO_POSITIONS: "positions", PORTFOLIO_ORDERS: "orders"}.get(topic, "account")
    return Change(account, Key(channel, name), None)
