"""States of orders and what they hold: else an order came back to life, or a share was sold twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from simulator.broker.orders import TERMINAL, Order, pack, unpack
from simulator.broker.rejections import Rejection
from tests.broker_harness import HOUR, SECOND, World

cents = st.integers(9_000, 11_000)


class Trading(RuleBasedStateMachine):
    """Random orders, quotes, cancels, replacements and time on one account."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.ended: dict[str, str] = {}
        self.world.quote("AAPL", 99, 100)

    @rule(bid=cents, spread=st.integers(-20, 100), size=st.integers(0, 30))
    def quote(self, bid: int, spread: int, size: int) -> None:
        self.world.quote("AAPL", bid / 100, (bid + spread) / 100, size)

    @rule(price=cents)
    def trade(self, price: int) -> None:
        self.world.print("AAPL", price / 100)

    @rule(
        side=st.sampled_from(["buy", "sell"]),
        qty=st.sampled_from(["1", "5", "17", "0.5"]),
        kind=st.sampled_from(
            ["market", "limit", "stop", "stop_limit", "trailing_stop", "bracket", "oco", "oto"]
        ),
        tif=st.sampled_from(["day", "gtc", "ioc", "fok", "cls"]),
        limit=cents,
        stop=cents,
    )
    def submit(self, side: str, qty: str, kind: str, tif: str, limit: int, stop: int) -> None:
        fields: dict[str, Any] = {"type": kind, "time_in_force": tif}
        if kind in ("limit", "stop_limit"):
            fields["limit_price"] = limit / 100
        if kind in ("stop", "stop_limit"):
            fields["stop_price"] = stop / 100
        if kind == "trailing_stop":
            fields["trail_price"] = 1
        if kind in ("bracket", "oco", "oto"):
            fields |= {"type": "limit" if kind == "oco" else "market", "order_class": kind}
            fields |= {"take_profit": {"limit_price": limit / 100}}
            if kind != "oto":
                fields["stop_loss"] = {"stop_price": stop / 100}
        try:
            self.world.order("AAPL", side, qty, **fields)
        except Rejection:
            return

    @rule(data=st.data(), act=st.sampled_from(["cancel", "replace"]))
    def change(self, data: st.DataObject, act: str) -> None:
        known = sorted(self.world.broker.accounts[1].orders)
        if not known:
            return
        order_id = data.draw(st.sampled_from(known))
        try:
            if act == "cancel":
                self.world.cancel(order_id)
            else:
                self.world.replace(order_id, qty=str(data.draw(st.integers(1, 20))))
        except Rejection:
            return

    @rule(ns=st.sampled_from([SECOND, HOUR, 7 * HOUR]))
    def wait(self, ns: int) -> None:
        self.world.wait(ns)

    @invariant()
    def nobody_leaves_a_terminal_state(self) -> None:
        for order in self.world.broker.accounts[1].orders.values():
            assert self.ended.get(order.id, order.status) == order.status
            if order.status in TERMINAL:
                self.ended[order.id] = order.status
            assert order.quantity is None or order.filled_qty <= order.quantity

    @invariant()
    def no_more_is_held_for_closing_than_there_is(self) -> None:
        account = self.world.broker.accounts[1]
        closing = {"buy": Decimal(0), "sell": Decimal(0)}
        for order in account.orders.values():
            if order.open and order.closing and order.status != "held":
                closing[order.side] += order.remaining
        position = account.book.quantity("AAPL")
        assert closing["sell"] <= max(position, Decimal(0))
        assert closing["buy"] <= max(-position, Decimal(0))

    @invariant()
    def holds_are_the_sum_of_the_open_orders(self) -> None:
        account = self.world.broker.accounts[1]
        for side in ("buy", "sell"):
            active = [o for o in account.orders.values() if o.open and o.status != "held" and o.side == side]
            assert account.holds.quantity("AAPL", side) == sum((o.remaining for o in active), Decimal(0))
        if not any(o.open for o in account.orders.values()):
            assert account.holds.cost == 0
            assert not self.world.broker.exchange.working

    @invariant()
    def the_position_is_what_the_orders_filled(self) -> None:
        account = self.world.broker.accounts[1]
        filled = sum((o.sign * o.filled_qty for o in account.orders.values()), Decimal(0))
        assert account.book.quantity("AAPL") == filled

    @invariant()
    def every_order_is_kept_as_it_is(self) -> None:
        for order in self.world.broker.accounts[1].orders.values():
            assert unpack(pack(order)) == order


Trading.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
test_orders_under_random_trading = Trading.TestCase


@given(st.decimals(0, 1_000, places=9, allow_nan=False), st.none() | st.integers(0, 2**62))
def test_an_order_survives_the_journal(quantity: Decimal, at: int | None) -> None:
    order = Order(
        "i", 1, "c", "AAPL", "us_equity", "buy", "limit", "day", qty=quantity, canceled=at, legs=("x",)
    )
    assert unpack(pack(order)) == order
