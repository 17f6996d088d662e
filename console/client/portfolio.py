"""A portfolio as the gateway's messages leave it: whole objects, the newest wins (D5). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]

ENDED = frozenset({"filled", "canceled", "expired", "rejected", "replaced", "done_for_day"})
"""Order states that nothing follows."""

_FILLS_KEPT = 200


@dataclass(slots=True)
class Portfolio:
    """Positions by (account, symbol), orders by Alpaca's id, accounts by name, the newest fills."""

    positions: dict[tuple[str, str], Object] = field(default_factory=dict)
    orders: dict[str, Object] = field(default_factory=dict)
    accounts: dict[str, Object] = field(default_factory=dict)
    fills: list[Object] = field(default_factory=list)
    stale: bool = False

    def apply(self, message: Object) -> None:
        """Take one message of /ws/portfolio; unknown ones change nothing.

        A snapshot follows each connect. It does not name positions that were closed meanwhile: what was known
        before goes, or they would stand here as open for ever.
        """
        if message.get("type") == "connected":
            self.positions, self.orders = {}, {}
        data = message.get("data") or {}
        for kind, item in _objects(str(message.get("type")), data):
            if kind == "position":
                self.positions[str(item.get("account", "")), str(item["symbol"])] = item
            elif kind == "order":
                self.orders[str(item["brokerOrderId"])] = item
            elif kind == "account":
                self.accounts[str(item.get("account", ""))] = item
            else:
                self.fills = [*self.fills[1 - _FILLS_KEPT :], item]

    def open_positions(self) -> list[Object]:
        """Positions that are held, by symbol."""
        held = [p for p in self.positions.values() if float(p["quantity"]) != 0]
        return sorted(held, key=lambda p: (p["symbol"], p.get("account", "")))

    def newest_orders(self) -> list[Object]:
        """Orders that still work first, then the others, newest first."""
        by_time = sorted(self.orders.values(), key=lambda o: str(o.get("submittedAt")), reverse=True)
        return sorted(by_time, key=lambda o: o["status"] in ENDED)


def _objects(kind: str, data: Object) -> Iterator[tuple[str, Object]]:
    if kind == "batch":
        yield from (("position", item) for item in data.get("positions") or ())
        yield from (("order", item) for item in data.get("orders") or ())
        account = data.get("account")
        accounts = account if isinstance(account, list) else [account] if account else []
        yield from (("account", item) for item in accounts)
    elif kind in ("position_update", "order_update", "account_update", "trade_executed"):
        yield kind.split("_")[0], data
