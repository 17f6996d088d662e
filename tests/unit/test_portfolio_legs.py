"""Multi-leg option orders from the broker's message to the position: legs count, the order over them never.

If these fail, a spread shows as one leg, twice, or not at all, and cash is off by a hundred times its price.
"""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.records import Records
from processors.portfolio.book import Book
from producers.accounts import updates
from schemas import trading_values as values
from schemas.fills import Fill, fills
from tests.portfolio_history import BASE, a_snapshot

Json = dict[str, Any]
SYMBOLS = ("AAPL260619C00200000", "AAPL260619P00180000", "AAPL260619C00210000", "AAPL260619P00170000")
_TIME = "2026-05-29T14:{:02d}:{:02d}.{:06d}Z"


class Spread:
    """A multi-leg order at the broker, filled piece by piece; what comes of it is added up plainly."""

    def __init__(self, number: int, ratios: list[tuple[str, str, int]], quantity: int) -> None:
        self.id, self.ratios, self.quantity, self.filled = f"spread-{number}", ratios, quantity, 0
        self.legs: dict[str, Decimal] = defaultdict(Decimal)
        self.executions: list[Json] = []

    def fill(self, quantity: int, prices: list[str], split: bool, tells: str, place: int) -> Json:
        """The message of so many more; `split`: the first leg trades in two executions. `tells`: where it
        says how much of each leg is filled."""
        self.filled += quantity
        legs: list[Json] = []
        for at, ((symbol, side, ratio), price) in enumerate(zip(self.ratios, prices, strict=True)):
            contracts = quantity * ratio
            pieces = [1, contracts - 1] if split and at == 0 and contracts > 1 else [contracts]
            for piece in pieces:
                self.legs[symbol] += piece
                leg = {
                    "execution_id": f"{self.id}-{place}-{len(legs)}", "order_id": f"{self.id}-{symbol}",
                    "symbol": symbol, "side": side, "qty": str(piece), "price": price,
                    "timestamp": _TIME.format(place // 60, place % 60, len(legs)),
                }  # fmt: skip
                legs.append(leg | ({"cum_qty": str(self.legs[symbol])} if tells == "leg" else {}))
        self.executions += legs
        whole = self.filled == self.quantity
        return self._message("fill" if whole else "partial_fill", legs, place, tells, qty=str(quantity))

    def bust(self, execution: Json, place: int) -> Json:
        """The broker takes one execution of a leg back."""
        self.executions.remove(execution)
        more = {"execution_id": f"{self.id}-bust-{place}", "previous_execution_id": execution["execution_id"]}
        leg = execution | {"timestamp": _TIME.format(place // 60, place % 60, 0)}
        return self._message("trade_bust", [leg], place, "order", **more)

    def _message(self, event: str, legs: list[Json], place: int, tells: str, **more: str) -> Json:
        described = [
            {"id": f"{self.id}-{symbol}", "symbol": symbol, "side": side}
            | ({"filled_qty": str(self.legs[symbol])} if tells == "order" else {})
            for symbol, side, _ in self.ratios
        ]
        order = {
            "id": self.id, "client_order_id": self.id, "symbol": "", "asset_class": "", "side": "",
            "order_class": "mleg", "type": "limit", "time_in_force": "day", "qty": str(self.quantity),
            "filled_qty": str(self.filled), "legs": described, "submitted_at": "2026-05-29T14:00:00Z",
            "status": "filled" if event == "fill" else "partially_filled",
        }  # fmt: skip
        moment = _TIME.format(place // 60, place % 60, 900_000)
        return {"event": event, "order": order, "legs": legs, "price": "1.5", "timestamp": moment} | more


def told(message: Json) -> Json:
    """The record of a message."""
    content = updates.content("demo-1", values.parse(json.dumps(message)))
    return {**content, "received_ts": content["ts"], "source": "ws", "owner_epoch": 1}


@settings(max_examples=60)
@given(st.data())
def test_partial_fills_of_legs_and_busts_equal_a_plain_sum(data: st.DataObject) -> None:
    """Whatever the pieces, however told, however often and in whatever order they come."""
    messages: list[Json] = []
    spreads: list[Spread] = []
    place = 0
    for number in range(data.draw(st.integers(1, 2))):
        chosen = data.draw(st.lists(st.sampled_from(SYMBOLS), min_size=2, max_size=4, unique=True))
        ratios = [
            (s, data.draw(st.sampled_from(["buy", "sell"])), data.draw(st.integers(1, 3))) for s in chosen
        ]
        pieces = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        spread = Spread(number, ratios, sum(pieces))
        spreads.append(spread)
        for piece in pieces:
            prices = [f"{data.draw(st.integers(1, 900)) / 100:.2f}" for _ in ratios]
            split, tells = data.draw(st.booleans()), data.draw(st.sampled_from(["order", "leg", "parent"]))
            place += 1
            messages.append(spread.fill(piece, prices, split, tells, place))
        if data.draw(st.booleans()):
            messages.append(spread.bust(data.draw(st.sampled_from(spread.executions)), place := place + 1))
    records = [told(message) for message in messages]
    held: dict[str, Decimal] = defaultdict(Decimal)
    cash = Decimal(1_000_000)
    for execution in (e for spread in spreads for e in spread.executions):
        signed = Decimal(execution["qty"]) * (1 if execution["side"] == "buy" else -1)
        held[execution["symbol"]] += signed
        cash -= signed * 100 * Decimal(execution["price"])
    order = data.draw(st.permutations(records + records[: data.draw(st.integers(0, len(records)))]))
    book = Book(Records(1))
    book.fold_snapshot(a_snapshot(BASE - 10**12), 0)
    for offset, record in enumerate(order):
        book.fold_update(record, offset)
    account = book.account("demo-1")
    found = {symbol: holding.now.quantity for symbol, holding in account.holdings.items()}
    assert {s: q for s, q in found.items() if q} == {s: q for s, q in held.items() if q}
    assert account.cash == cash


def test_two_executions_of_one_leg_in_a_message_are_two_fills() -> None:
    """Both had the leg's whole quantity for a name, and the second was taken for a repeat of the first."""
    spread = Spread(1, [(SYMBOLS[0], "buy", 3), (SYMBOLS[1], "sell", 1)], 2)
    first = fills(told(spread.fill(1, ["1.00", "2.00"], True, "order", 1)))
    second = fills(told(spread.fill(1, ["1.10", "2.10"], True, "parent", 2)))
    assert _pieces(first) == [(1, 1), (2, 3), (1, 1)]
    assert _pieces(second) == [(1, 4), (2, 6), (1, 2)]
    assert len({f.event_id for f in first + second}) == 6


def _pieces(found: tuple[Fill, ...]) -> list[tuple[int, int]]:
    return [(int(f.quantity), int(f.cumulative_quantity)) for f in found]
